"""Pseudo masks, and the truth of a few images beside them: what a segmenter learns where somebody drew some masks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seg.data.prepared import PreparedData
from seg.masks import MaskSet, Threshold
from seg.store import Products, Stage, param
from seg.supervision.mask import SomeTruth


@dataclass(frozen=True)
class FewMaskSet:
    """Masks of ``n`` images: of some the truth (its border ignored), of the others pseudo masks.

    Attributes:
        truth: of the few. pseudo: of the others; None for none. rows: of the prepared data.
        epoch: ``int64 (m,)`` positions that an epoch of training sees, some several times.
    """

    truth: MaskSet
    pseudo: MaskSet | None
    rows: np.ndarray
    epoch: np.ndarray

    @property
    def data(self) -> PreparedData:
        """The prepared images."""
        return self.truth.data

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """Masks of some images: ``uint8 (b, H, W)``, 0 background, 1 foreground, 255 ignore."""
        return self.each(positions, lambda masks, own: masks.at(own, size))

    def each(self, positions: np.ndarray, make: Callable[[MaskSet, np.ndarray], np.ndarray]) -> np.ndarray:
        """``(b, ...)``: what ``make`` makes of the true masks' positions and of the pseudo masks', put together."""
        rows = self.rows[positions]
        true = np.isin(rows, self.truth.rows)
        parts = [
            (where, make(masks, np.searchsorted(masks.rows, rows[where])))
            for where, masks in ((true, self.truth), (~true, self.pseudo))
            if masks is not None and where.any()
        ]
        out = np.empty((len(rows), *parts[0][1].shape[1:]), parts[0][1].dtype)
        for where, part in parts:
            out[where] = part
        return out


class FewMasks(Stage):
    """The truth of a few trainval images in place of their pseudo masks.

    Attributes:
        truth: of the few. pseudo: the masks of all.
        share: of the draws of an epoch that the few have at least; ten of thousands would go under. An epoch sees every
            other image once. 1 is the few alone, with as many draws as there are trainval images that get masks.
    """

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "pseudo masks and a few true ones"

    truth: SomeTruth
    pseudo: Threshold
    share: float = param(default=0.3, above=0, high=1)

    @classmethod
    def from_config(cls, truth: SomeTruth, pseudo: Threshold, **values: Any) -> "FewMasks | Threshold":
        """What a config node with this class describes: without a true mask it is the pseudo masks, as they are."""
        made = cls(truth=truth, pseudo=pseudo, **values)  # a value that is out of range is refused in any case
        return made if truth.true or truth.file is not None else pseudo

    def upstream(self) -> dict[str, Stage]:
        """The pseudo masks only if something is learnt from them."""
        return {k: v for k, v in super().upstream().items() if self.share < 1 or k != "pseudo"}

    def load(self, path: Path, store: Products) -> FewMaskSet:
        """Masks that are made when they are asked for."""
        truth = MaskSet(store.get(self.truth), 0.5, 0.5)
        is_test = truth.data.is_test
        if self.share == 1:
            pool = store.get(self.truth.pool).rows
            return FewMaskSet(truth, None, truth.rows, np.resize(np.arange(len(truth)), (~is_test[pool]).sum()))
        pseudo: MaskSet = store.get(self.pseudo)
        rows = np.union1d(pseudo.rows, truth.rows)
        true = np.isin(rows, truth.rows)
        others = np.flatnonzero(~true & ~is_test[rows])
        draws = max(round(self.share / (1 - self.share) * len(others)), len(truth))
        return FewMaskSet(truth, pseudo, rows, np.concatenate([others, np.resize(np.flatnonzero(true), draws)]))
