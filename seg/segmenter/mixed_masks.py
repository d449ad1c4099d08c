"""Pseudo masks mixed with the ground truth of a few images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seg.data.prepared import PreparedData
from seg.masks import MaskSet, Threshold
from seg.store import Products, Stage, param
from seg.supervision.mask import LabelledSubset


@dataclass(frozen=True)
class MixedMaskSet:
    """Masks of ``n`` images: ground truth (border ignored) for some, pseudo masks for the others.

    Attributes:
        target: ground truth of the labelled images. pseudo: masks of the others, or None. rows: of the prepared data.
        epoch: ``int64 (m,)``, positions in an epoch of training, some of them repeated.
    """

    target: MaskSet
    pseudo: MaskSet | None
    rows: np.ndarray
    epoch: np.ndarray

    @property
    def data(self) -> PreparedData:
        """The prepared images."""
        return self.target.data

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """Masks of some images: ``uint8 (b, H, W)``, 0 background, 1 foreground or ``1 + class``, 255 ignored."""
        rows = self.rows[positions]
        labelled = np.isin(rows, self.target.rows)
        out: np.ndarray | None = None
        for where, masks in ((labelled, self.target), (~labelled, self.pseudo)):
            if masks is not None and where.any():
                part = masks.at(np.searchsorted(masks.rows, rows[where]), size)
                out = np.empty((len(rows), *part.shape[1:]), part.dtype) if out is None else out
                out[where] = part
        assert out is not None
        return out


class MixedMasks(Stage):
    """Pseudo masks of trainval, with ground truth in their place for a few images.

    Attributes:
        target: ground truth of the labelled images. pseudo: masks of all images.
        share: smallest share of labelled images in an epoch, where they are repeated; every other image occurs once. 1
            uses labelled images alone, repeated to the number of trainval images with masks.
    """

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "pseudo masks and ground truth"

    target: LabelledSubset
    pseudo: Threshold
    share: float = param(default=0.3, above=0, high=1)

    @classmethod
    def from_config(cls, target: LabelledSubset, pseudo: Threshold, **values: Any) -> "MixedMasks | Threshold":
        """The stage of a config node; ``pseudo`` itself without labelled images."""
        made = cls(target=target, pseudo=pseudo, **values)  # checks the values in any case
        return made if target.count or target.file is not None else pseudo

    def upstream(self) -> dict[str, Stage]:
        return {k: v for k, v in super().upstream().items() if self.share < 1 or k != "pseudo"}

    def load(self, path: Path, store: Products) -> MixedMaskSet:
        target = MaskSet(store.get(self.target), 0.5, 0.5)
        is_test = target.data.is_test
        if self.share == 1:
            pool = store.get(self.target.pool).rows
            return MixedMaskSet(target, None, target.rows, np.resize(np.arange(len(target)), (~is_test[pool]).sum()))
        pseudo: MaskSet = store.get(self.pseudo)
        rows = np.union1d(pseudo.rows, target.rows)
        labelled = np.isin(rows, target.rows)
        others = np.flatnonzero(~labelled & ~is_test[rows])
        draws = max(round(self.share / (1 - self.share) * len(others)), len(target))
        return MixedMaskSet(target, pseudo, rows, np.concatenate([others, np.resize(np.flatnonzero(labelled), draws)]))
