"""Histograms of scores, and thresholds from them without masks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg.errors import SegError

STEPS = 1000  #: thresholds are multiples of 1 / STEPS
WIDTH = 50  #: half the window of :func:`valley`, in steps

Counts = NDArray[np.int64]


def bin_scores(scores: NDArray[np.float32]) -> Counts:
    """The largest multiple of 0.001 that each score reaches, compared as ``score >= np.float32(threshold)``.

    Args:
        scores: ``float32``, any shape, in [0, 1] or NaN.

    Returns:
        ``int64`` of the same shape: 0 to 1000, and 1001 for NaN.

    Raises:
        SegError: a score outside [0, 1].

    Examples:
        >>> bin_scores(np.array([0, 0.2505, 0.251, 1, np.nan], np.float32)).tolist()
        [0, 250, 251, 1000, 1001]
    """
    unknown = np.isnan(scores)
    scores = np.where(unknown, np.float32(0), scores) if unknown.any() else scores
    low, high = scores.min(initial=1), scores.max(initial=0)
    if low < 0 or high > 1:
        raise SegError(f"scores run from {low:.4g} to {high:.4g}: they have to lie in [0, 1] (or be NaN)")
    # Rounding gives the nearest edge in spite of the product's rounding error; the score may be just below it. Dividing
    # the index by STEPS in float32 gives exactly the edge, and is faster than a table.
    edge = np.rint(scores * np.float32(STEPS))
    edge -= scores < edge / np.float32(STEPS)
    bins = edge.astype(np.int64)
    bins[unknown] = STEPS + 1
    return bins


def count_scores(scores: NDArray[np.float32]) -> Counts:
    """A histogram ``int64 (1000,)`` of the scores in [i, i + 1) / 1000, the last bin including 1; NaN is left out.

    Examples:
        >>> np.flatnonzero(count_scores(np.array([0.25, 0.251, 1, np.nan], np.float32))).tolist()
        [250, 251, 999]
    """
    bins = np.bincount(bin_scores(scores).ravel(), minlength=STEPS + 2)
    bins[STEPS - 1] += bins[STEPS]
    return bins[:STEPS]


@dataclass(frozen=True)
class ScoreStats:
    """Statistics of the scores of a set of images.

    Attributes:
        counts: ``int64 (1000,)``, from :func:`count_scores`.
        images: number of images.

    Examples:
        >>> stats = ScoreStats(count_scores(np.array([0.25, 0.75], np.float32)), images=1)
        >>> [round(mean, 2) for mean in stats.means(0.5)], round(float(stats.separability(0.5)), 2)
        ([0.25, 0.75], 1.0)
    """

    counts: Counts
    images: int

    def means(self, threshold: float) -> tuple[float, float]:
        """The mean score below a threshold and from it on; the threshold itself without scores."""
        at, middles = round(threshold * STEPS), _middles()
        low, high = (
            float(self.counts[part] @ middles[part] / total) if (total := self.counts[part].sum()) else threshold
            for part in (slice(None, at), slice(at, None))
        )
        return low, high

    def separability(self, threshold: float) -> float:
        """Otsu's eta in [0, 1]: between-class variance over total variance; 0 if all scores are equal."""
        middles, total = _middles(), max(self.counts.sum(), 1)
        mean = float(self.counts @ middles) / total
        variance = float(self.counts @ (middles - mean) ** 2) / total
        above = float(self.counts[round(threshold * STEPS) :].sum()) / total
        low, high = self.means(threshold)
        return above * (1 - above) * (high - low) ** 2 / variance if variance > 0 else 0.0


def otsu(counts: Counts) -> float:
    """The threshold with the largest between-class variance (N. Otsu, IEEE Trans. SMC 1979).

    Args:
        counts: ``int64 (1000,)``, from :func:`count_scores`.

    Returns:
        a multiple of 0.001 in (0, 1).

    Examples:
        >>> 0.2 < otsu(count_scores(np.array([0.1, 0.2, 0.7, 0.9], np.float32))) <= 0.7
        True
    """
    from skimage.filters import threshold_otsu

    # scikit-image's threshold is the middle of the last bin of the background.
    return min(int(threshold_otsu(hist=(counts, _middles())) * STEPS) + 1, STEPS - 1) / STEPS


def valley(counts: Counts) -> float:
    """The threshold at which masks change least, in the valley between two modes; without one, Otsu's threshold.

    The share of scores within 0.05 of a threshold is the change in the masks' area; it is smallest where masks are most
    stable (as in J. Matas et al., Maximally Stable Extremal Regions, BMVC 2002). A valley lies between the mean scores
    below and above Otsu's threshold, and has a mode of at least twice its number of scores on either side.

    Args:
        counts: ``int64 (1000,)``, from :func:`count_scores`.

    Returns:
        a multiple of 0.001 in (0, 1).

    Examples:
        >>> hills = np.concatenate([np.linspace(0, 0.3, 9000), np.linspace(0.8, 0.9, 1000)]).astype(np.float32)
        >>> 0.35 <= valley(count_scores(hills)) <= 0.75
        True
    """
    middle = otsu(counts)
    low, high = (round(mean * STEPS) for mean in ScoreStats(counts, 0).means(middle))
    above, at = np.concatenate([[0], counts.cumsum()]), np.arange(STEPS + 1)
    change = above[np.minimum(at + WIDTH, STEPS)] - above[np.maximum(at - WIDTH, 0)]
    inside = change[low : high + 1]
    least = low + np.flatnonzero(inside == inside.min())
    found = int(least[len(least) // 2])
    # Only whole windows within [0, 1].
    hills = [change[WIDTH : found + 1], change[found : STEPS + 1 - WIDTH]]
    deep = all(len(hill) and hill.max() >= 2 * max(change[found], 1) for hill in hills)
    return found / STEPS if deep and low < least[0] and least[-1] < high else middle


def _middles() -> NDArray[np.float64]:
    return (np.arange(STEPS) + 0.5) / STEPS
