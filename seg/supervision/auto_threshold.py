"""Thresholds chosen without masks, from the histogram of all scores."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from seg.errors import SegError
from seg.methods.thresholds import STEPS, Counts, ScoreStats, count_scores, otsu, valley
from seg.store import Products, Stage, param
from seg.supervision.scores import ScoreMaps, ScoreStage

log = logging.getLogger(__name__)

Criterion = Literal["otsu", "valley"]
CRITERIA: dict[str, Callable[[Counts], float]] = {"otsu": otsu, "valley": valley}


class ScoreHistogram(Stage):
    """A histogram of the known scores of trainval images with a map, at a quarter of the working resolution."""

    what: ClassVar[str] = "spread of the scores"
    log_level: ClassVar[int] = logging.DEBUG

    scores: ScoreStage

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        scores: ScoreMaps = store.get(self.scores)
        chosen = self._chosen(scores)
        grid = (-(-scores.data.side // 4),) * 2
        counts = np.zeros(STEPS, np.int64)
        for start in range(0, len(chosen), 64):
            counts += count_scores(scores.argmax(chosen[start : start + 64], grid)[0])
        np.save(out / "counts.npy", counts)
        return {"images": len(chosen)}

    @staticmethod
    def _chosen(scores: ScoreMaps) -> np.ndarray:
        return np.flatnonzero(~scores.data.is_test[scores.rows] & scores.has_map)

    def load(self, path: Path, store: Products) -> ScoreStats:
        return ScoreStats(np.load(path / "counts.npy"), len(self._chosen(store.get(self.scores))))


@dataclass(frozen=True)
class Choice:
    """Thresholds of a criterion, all multiples of 1 / STEPS.

    Attributes:
        background_below, foreground_from: mean scores below and above ``threshold``, for confident seeds.
        threshold: a score from it on is foreground.
        images: number of trainval images in the histogram.
    """

    background_below: float
    threshold: float
    foreground_from: float
    images: int


class AutoThreshold(Stage):
    """A threshold, and the ends of a band around it, by a criterion that uses no mask."""

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "threshold without masks"

    histogram: ScoreHistogram
    criterion: Criterion = param()

    def load(self, path: Path, store: Products) -> Choice:
        """The choice; 0.5 and a warning if all scores are equal.

        Raises:
            SegError: there are no scores.
        """
        stats: ScoreStats = store.get(self.histogram)
        what = self.histogram.scores.title
        if not stats.counts.any():
            raise SegError(f"threshold={self.criterion}: {what} has no scores of trainval images; give a number")
        if np.count_nonzero(stats.counts) == 1:
            log.warning("threshold=%s: all scores of %s are the same; using 0.5", self.criterion, what)
            return Choice(0.5, 0.5, 0.5, stats.images)
        threshold = CRITERIA[self.criterion](stats.counts)
        low, high = (round(mean * STEPS) / STEPS for mean in stats.means(threshold))
        return Choice(low, threshold, high, stats.images)
