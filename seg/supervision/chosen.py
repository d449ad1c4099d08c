"""Thresholds that are chosen without a mask, from how the scores of all images are spread."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from seg.errors import SegError
from seg.store import Products, Stage, param
from seg.supervision.scores import ScoreMaps, ScoreStage

log = logging.getLogger(__name__)

Criterion = Literal["otsu", "valley", "minimum_error", "yen"]

STEPS = 1000  #: thresholds are multiples of 1 / STEPS, of which one histogram gives every figure
WIDTH = 50  #: half of what `valley` moves the threshold by, in such steps

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Spread:
    """How the scores of trainval's images are spread.

    Attributes:
        counts: ``int64 (STEPS,)``, cells with a score in [i, i + 1) / STEPS; the last has those of 1 too.
        images: of how many images.
    """

    counts: Counts
    images: int

    def means(self, threshold: float) -> tuple[float, float]:
        """The mean score below a threshold and from it on; the threshold itself where there is none."""
        at, middles = round(threshold * STEPS), _middles()
        parts = (slice(None, at), slice(at, None))
        low, high = (_mean(self.counts[part], middles[part], threshold) for part in parts)
        return low, high

    def separability(self, threshold: float) -> float:
        """Between-class variance over total variance in [0, 1], Otsu's eta; 0 for scores that are all the same.

        Over the thresholds of one set of score maps it is highest at Otsu's; of several sets, those whose scores
        fall into two groups have more of it.
        """
        middles, total = _middles(), max(self.counts.sum(), 1)
        mean = float(self.counts @ middles) / total
        variance = float(self.counts @ (middles - mean) ** 2) / total
        above = float(self.counts[round(threshold * STEPS) :].sum()) / total
        low, high = self.means(threshold)
        return above * (1 - above) * (high - low) ** 2 / variance if variance > 0 else 0.0


class Distribution(Stage):
    """The spread of the scores of trainval's images, one pass, counted: memory does not grow with the images.

    Test images are left out, and so is what is unknown. The scores are looked at on a quarter of the working
    resolution, a sixteenth of the time.

    Attributes:
        scores: any.
    """

    what: ClassVar[str] = "spread of the scores"
    log_level: ClassVar[int] = logging.DEBUG

    scores: ScoreStage

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Count them."""
        scores: ScoreMaps = store.get(self.scores)
        chosen = np.flatnonzero(~scores.data.is_test[scores.rows])
        grid = (-(-scores.data.side // 4),) * 2
        counts = np.zeros(STEPS, np.int64)
        for start in range(0, len(chosen), 64):
            counts += count(scores.at(chosen[start : start + 64], grid))
        np.save(out / "counts.npy", counts)
        return {"images": len(chosen)}

    def load(self, path: Path, store: Products) -> Spread:
        """The counts."""
        scores: ScoreMaps = store.get(self.scores)
        return Spread(np.load(path / "counts.npy"), int((~scores.data.is_test[scores.rows]).sum()))


def count(scores: NDArray[np.float32]) -> Counts:
    """Scores in [0, 1], any shape, to ``int64 (STEPS,)`` counts; NaN is left out."""
    known = scores[~np.isnan(scores)]
    return np.bincount(np.minimum((known * STEPS).astype(np.int64), STEPS - 1), minlength=STEPS)


@dataclass(frozen=True)
class Choice:
    """What a criterion chose.

    Attributes:
        background_below, foreground_from: the mean scores of the two sides, for confident seeds.
        threshold: foreground from it on. All are multiples of 1 / STEPS.
        images: trainval images that were looked at. No mask was.
    """

    background_below: float
    threshold: float
    foreground_from: float
    images: int


class Chosen(Stage):
    """A threshold, and the ends of a band around it, by a criterion that looks at no mask.

    Attributes:
        spread: of the scores. criterion: see :data:`CHOOSE`.
    """

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "threshold without masks"

    spread: Distribution
    criterion: Criterion = param()

    def load(self, path: Path, store: Products) -> Choice:
        """The choice; one value in the middle where all scores are the same, and a warning.

        Raises:
            SegError: there is no score of a trainval image.
        """
        spread: Spread = store.get(self.spread)
        what = self.spread.scores.title
        if not spread.counts.any():
            raise SegError(f"threshold={self.criterion}: {what} has no scores of trainval images; give a number")
        if np.count_nonzero(spread.counts) == 1:
            log.warning("threshold=%s: all scores of %s are the same, nothing to choose by: 0.5", self.criterion, what)
            return Choice(0.5, 0.5, 0.5, spread.images)
        threshold = CHOOSE[self.criterion](spread.counts) / STEPS
        low, high = (round(mean * STEPS) / STEPS for mean in spread.means(threshold))
        return Choice(low, threshold, high, spread.images)


def otsu(counts: Counts) -> int:
    """Most variance between the two sides (N. Otsu, A Threshold Selection Method, IEEE Trans. SMC 1979)."""
    from skimage.filters import threshold_otsu

    return _after(threshold_otsu(hist=(counts, _middles())))


def yen(counts: Counts) -> int:
    """Most correlation (J. C. Yen et al., A New Criterion for Automatic Multilevel Thresholding, IEEE TIP 1995)."""
    from skimage.filters import threshold_yen

    return _after(threshold_yen(hist=(counts, _middles())))


def minimum_error(counts: Counts) -> int:
    """Two normal distributions of any spread (J. Kittler and J. Illingworth, Minimum Error Thresholding, 1986, eq. 15).

    A side with less than a hundredth of the scores is none.
    """
    middles, share = _middles(), counts / counts.sum()
    sides = []
    for p, x in ((share, middles), (share[::-1], middles[::-1])):
        weight = p.cumsum()[:-1]
        safe = np.maximum(weight, 1e-12)
        mean = (p * x).cumsum()[:-1] / safe
        spread = np.sqrt(np.maximum((p * x * x).cumsum()[:-1] / safe - mean**2, 1 / STEPS**2))
        cost = weight * (np.log(spread) - np.log(safe))
        sides.append(np.where(weight < 0.01, np.inf, cost))
    total = sides[0] + sides[1][::-1]
    return int(total.argmin()) + 1 if np.isfinite(total).any() else otsu(counts)


def valley(counts: Counts) -> int:
    """Where the masks change least as the threshold moves: the valley between two hills, else Otsu's threshold.

    The share of cells within WIDTH of a threshold is the mask's change in area; it is least where masks are stable
    (as of J. Matas et al., Maximally Stable Extremal Regions, BMVC 2002). Looked for between the mean scores of the two
    sides of Otsu's threshold. A valley is at neither end of that range, and there are twice as many cells on a hill on
    either side of it. Scores of one hill, such as most CAMs and Gaussians, have none: then it is Otsu's.
    """
    middle = otsu(counts)
    low, high = (round(mean * STEPS) for mean in Spread(counts, 0).means(middle / STEPS))
    above, at = np.concatenate([[0], counts.cumsum()]), np.arange(STEPS + 1)
    change = above[np.minimum(at + WIDTH, STEPS)] - above[np.maximum(at - WIDTH, 0)]
    inside = change[low : high + 1]
    least = low + np.flatnonzero(inside == inside.min())
    found = int(least[len(least) // 2])
    # Half a window at either end of [0, 1] is no window.
    hills = [change[WIDTH : found + 1], change[found : STEPS + 1 - WIDTH]]
    deep = all(len(hill) and hill.max() >= 2 * max(change[found], 1) for hill in hills)
    return found if deep and low < least[0] and least[-1] < high else middle


#: The criteria by name: counts to the first bin of the foreground.
CHOOSE: dict[str, Callable[[Counts], int]] = {
    "otsu": otsu,
    "valley": valley,
    "minimum_error": minimum_error,
    "yen": yen,
}


def _middles() -> NDArray[np.float64]:
    return (np.arange(STEPS) + 0.5) / STEPS


def _after(middle: float) -> int:
    """The bin after the one with this middle: scikit-image's threshold belongs to the background."""
    return min(int(middle * STEPS) + 1, STEPS - 1)


def _mean(counts: Counts, values: NDArray[np.float64], otherwise: float) -> float:
    total = counts.sum()
    return float(counts @ values / total) if total else otherwise
