"""Calibration of scores as probabilities."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Reliability(NamedTuple):
    """A reliability diagram.

    Attributes:
        score: ``float64 (bins,)``, mean score of the pixels in each bin. share: of these pixels that are of the class.
        pixels: ``int64 (bins,)``, number of pixels; ``score`` and ``share`` are nan in empty bins.
        error: expected calibration error in [0, 1]: the mean over pixels of ``|score - share|``; nan without pixels.
    """

    score: NDArray[np.float64]
    share: NDArray[np.float64]
    pixels: NDArray[np.int64]
    error: float


def reliability(
    scores: NDArray[np.float64], right: NDArray[np.int64], pixels: NDArray[np.int64], bins: int = 15
) -> Reliability:
    """Scores against the share of pixels that are of the class, in bins of equal width (Guo et al., ICML 2017).

    Args:
        scores: ``float (m,)`` in [0, 1].
        right: ``int (m,)``, number of pixels with this score that are of the class. pixels: ``int (m,)``, of all.
        bins: number of bins.

    Examples:
        >>> found = reliability(np.array([0.1, 0.9]), np.array([0, 6]), np.array([10, 10]), bins=2)
        >>> found.share.tolist(), round(found.error, 3)
        ([0.0, 0.6], 0.2)
    """
    at = np.minimum((np.asarray(scores) * bins).astype(int), bins - 1)
    total, hits, summed = (np.bincount(at, values, bins) for values in (pixels, right, scores * pixels))
    some = np.where(total > 0, total, np.nan)
    score, share = summed / some, hits / some
    gaps = np.nansum(np.abs(score - share) * total)
    return Reliability(score, share, total.astype(np.int64), float(gaps / total.sum()) if total.any() else float("nan"))
