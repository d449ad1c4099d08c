"""Mean average precision of multi-label classification."""

import numpy as np
from numpy.typing import NDArray


def mean_average_precision(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """mAP: the mean over classes of the area under precision and recall, without interpolation.

    Args:
        scores: ``float (n, K)``, such as logits. labels: ``bool (n, K)``.

    Returns:
        In [0, 1], without classes that have no positive image; nan if there is no other.

    Examples:
        >>> mean_average_precision(np.array([[0.9], [0.8], [0.1]]), np.array([[True], [False], [True]]))
        0.8333333333333333
    """
    found = [_average_precision(*pair) for pair in zip(scores.T, labels.T, strict=True) if pair[1].any()]
    return float(np.mean(found)) if found else float("nan")


def _average_precision(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    order = np.argsort(-scores)
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # equal scores have one rank
    hits = np.cumsum(labels[order])[ends]
    return float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / hits[-1])
