"""The truth itself as supervision: what the cheap labels are measured against."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from seg.data.prepared import Pool, PoolRows, PreparedData
from seg.errors import SegError
from seg.store import Products, param
from seg.supervision.scores import ScoreMaps, ScoreStage

#: Score of each truth code: background, foreground, and NaN (unknown) elsewhere.
_SCORE = np.full(256, np.nan, np.float32)
_SCORE[:2] = 0, 1
_WITHOUT_TRUTH = "supervision=mask: no trainval image has a truth; use supervision=cam or bbox"


@dataclass(frozen=True)
class TruthMaps(ScoreMaps):
    """Truth as scores: 1 foreground, 0 background, NaN at the border unless it is given a side."""

    data: PreparedData
    rows: np.ndarray
    border: str

    def at(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """The nearest pixel's label; labels are never blended."""
        table = _SCORE.copy()
        if self.border != "ignore":
            table[2] = self.border == "foreground"
        scores = table[self.data.truth[self.rows[positions]]]
        if size is None or size == scores.shape[1:]:
            return scores
        ys = ((np.arange(size[0]) + 0.5) * scores.shape[1] / size[0]).astype(int)
        xs = ((np.arange(size[1]) + 0.5) * scores.shape[2] / size[1]).astype(int)
        return scores[:, ys[:, None], xs[None, :]]


class TruthScores(ScoreStage):
    """The truth of the trainval images that have one.

    Attributes:
        pool: the images.
        border: what border pixels teach: nothing (``ignore``), or a side.
    """

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "truth"

    pool: Pool
    border: Literal["ignore", "foreground", "background"] = param(default="ignore")

    def check(self, store: Products) -> None:
        """Refuse data without a truth, if that is known before they are decoded."""
        dataset = self.pool.data.source.seen(store)
        if dataset is not None and not any(r.trimap and r.split == "trainval" for r in dataset.records):
            raise SegError(_WITHOUT_TRUTH)

    def load(self, path: Path, store: Products) -> TruthMaps:
        """A view of the prepared truth; test images are left out. Refuses data without it."""
        pool: PoolRows = store.get(self.pool)
        rows = pool.rows[pool.data.has_truth[pool.rows] & ~pool.data.is_test[pool.rows]]
        if len(rows) == 0:
            raise SegError(_WITHOUT_TRUTH)
        return TruthMaps(pool.data, rows, self.border)
