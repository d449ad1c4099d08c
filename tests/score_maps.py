"""Score maps of arrays."""

import numpy as np

from seg.data.prepared import PreparedData
from seg.supervision.scores import ScoreMaps


def one_map_each(data: PreparedData, rows: np.ndarray, values: np.ndarray) -> ScoreMaps:
    """``float (n, h, w)`` as the map of each image's first class."""
    return ScoreMaps(data, rows, values, np.arange(len(rows) + 1), np.ones(len(rows), np.uint8))
