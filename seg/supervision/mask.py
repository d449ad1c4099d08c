"""Ground truth as supervision: of all images, or of a few."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from seg.data.dataset import BORDER
from seg.data.prepared import Pool, PoolRows, PreparedData
from seg.errors import SegError
from seg.nets.resize import nearest
from seg.store import Products, param
from seg.supervision.scores import ScoreMaps, ScoreStage

_WITHOUT_TARGET = "supervision=mask: no trainval image has ground truth; use supervision=cam or bbox"


@dataclass(frozen=True)
class TargetValues:
    """Score maps of the ground truth, computed on access: 1 for the class, 0 for others, NaN for unknown pixels."""

    data: PreparedData
    rows: np.ndarray
    class_ids: np.ndarray

    def __getitem__(self, maps: np.ndarray) -> np.ndarray:
        target = self.data.target(self.rows[maps])
        values = (target == self.class_ids[maps][:, None, None]).astype(np.float32)
        values[target >= BORDER] = np.nan
        return values


def target_maps(data: PreparedData, rows: np.ndarray) -> ScoreMaps:
    """The ground truth of some rows as score maps of the classes in it; without any, of the image's first label."""
    shown = [np.unique(data.target(rows[i : i + 1])) for i in range(len(rows))]
    own = np.maximum(data.labels[rows], 0) + 1
    ids = [[c for c in codes if 0 < c <= data.count] or [code] for codes, code in zip(shown, own, strict=True)]
    first, class_ids = np.cumsum([0, *map(len, ids)]), np.concatenate(ids).astype(np.uint8)
    values = TargetValues(data, np.repeat(rows, np.diff(first)), class_ids)
    return ScoreMaps(data, rows, values, first, class_ids, nearest)


class TargetScores(ScoreStage):
    """The ground truth of the pool's trainval images."""

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "ground truth"

    pool: Pool

    def check(self, store: Products) -> None:
        dataset = self.pool.data.source.dataset_if_known(store)
        if dataset is not None and not any(r.has_target and r.split == "trainval" for r in dataset.records):
            raise SegError(_WITHOUT_TARGET)

    def load(self, path: Path, store: Products) -> ScoreMaps:
        """A view of the prepared ground truth, without test images.

        Raises:
            SegError: there is none.
        """
        pool: PoolRows = store.get(self.pool)
        rows = pool.rows[pool.data.has_target[pool.rows] & ~pool.data.is_test[pool.rows]]
        if len(rows) == 0:
            raise SegError(_WITHOUT_TARGET)
        return target_maps(pool.data, rows)


def read_ids(path: Path) -> list[str]:
    """Image ids from a text file: one per line, without duplicates, comment lines (#) and anything after a tab."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    ids = [line.partition("\t")[0].strip() for line in lines if not line.startswith("#")]
    if not any(ids):
        raise SegError(f"labelled.list={path}: not read; give a text file with an image id per line")
    return [*dict.fromkeys(filter(None, ids))]


def drawn(data: PreparedData, rows: np.ndarray, seed: int) -> np.ndarray:
    """``rows`` (``int64 (n,)``) in a random order that takes the classes in turn."""
    order = np.random.default_rng((seed, 0)).permutation(rows)
    turn = pd.Series(order).groupby(data.as_read.labels[order]).cumcount()
    return order[np.argsort(turn, kind="stable")]


class LabelledSubset(TargetScores):
    """The ground truth of a few trainval images, drawn at random or from a list.

    Attributes:
        count: number of images; 0 for the whole list, or for none without a list.
        file: the list, see :func:`read_ids`.
        seed: of the drawing, without a list.
    """

    called: ClassVar[str | None] = "labelled"
    what: ClassVar[str] = "ground truth of a few"

    count: int = param(default=0, low=0)
    file: str | None = param(default=None)
    seed: int = param(default=0, low=0)

    def params(self) -> dict[str, Any]:
        """A list enters the key as the ids that are taken from it."""
        return super().params() | ({} if self.file is None else {"file": self.listed(), "seed": None})

    def listed(self) -> list[str]:
        """Ids taken from the list."""
        ids = read_ids(Path(self.file or ""))
        if self.count > len(ids):
            raise SegError(f"labelled.count={self.count}: {self.file} names only {len(ids)} images; lower it")
        return ids[: self.count or None]

    def check(self, store: Products) -> None:
        super().check(store)
        dataset = self.pool.data.source.dataset_if_known(store)
        if dataset is not None:
            self._check_known({r.id for r in dataset.records if r.has_target and r.split == "trainval"})
        elif self.file is not None:
            self.listed()

    def load(self, path: Path, store: Products) -> ScoreMaps:
        maps = super().load(path, store)
        data = maps.data
        self._check_known({data.ids[row] for row in maps.rows})
        if self.file is None:
            rows = drawn(data, maps.rows, self.seed)[: self.count]
        else:
            rows = np.asarray([data.row_of[name] for name in self.listed()], np.int64)
        return target_maps(data, np.sort(rows))

    def _check_known(self, known: set[str]) -> None:
        """Raise a SegError for more images than have ground truth, or others."""
        if self.file is None and self.count > len(known):
            raise SegError(
                f"labelled.count={self.count}: only {len(known)} trainval images that get a mask "
                "have ground truth; lower it"
            )
        if self.file is not None and (unknown := set(self.listed()) - known):
            raise SegError(
                f"labelled.list={self.file}: {len(unknown)} of its ids are of no trainval image that gets a mask and "
                f"has ground truth ({', '.join(sorted(unknown)[:3])}); take them out, or give these images a mask"
            )
