"""Estimated quality as stages: what :func:`seg.methods.quality.estimate_quality` says of a step's masks."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from seg.data.dataset import Split
from seg.data.prepared import Pool, PreparedData
from seg.files import rows_file, write_json
from seg.masks import MaskSet, Threshold
from seg.methods.appearance import FourierFeatures, describe
from seg.methods.quality import Quality, estimate_quality, whitening
from seg.nets.backbones import make_classifier
from seg.nets.pretrained import known_backbone, weights_of
from seg.store import Products, Stage, param
from seg.supervision.colocalise import Levels, default_levels
from seg.supervision.scores import infer

#: Fewest images for an estimate, which learns from half of them.
LEAST = 20


class Witness(Stage):
    """Features of some images of a split for the estimated quality: of a frozen network, or colours and textures.

    Attributes:
        pool: the images. split: ``trainval`` or ``test``. images: at most so many of them, spread evenly.
        backbone: as for the classifier; None for colours and textures (:func:`seg.methods.describe`). weights: its own.
        levels: modules whose outputs are the features; None for the backbone's default.
        size: side in pixels at which the network sees images. grid: cells a side. dims: components that are kept.
    """

    what: ClassVar[str] = "features for the estimated quality"
    log_level: ClassVar[int] = logging.DEBUG

    pool: Pool
    split: Split
    images: int = param(default=300, low=LEAST)
    backbone: str | None = param(default=None, content=known_backbone)
    weights: str | None = param(default=None, content=weights_of("backbone", "evaluation."))
    levels: tuple[str, ...] | None = param(default=None)
    size: int = param(default=320, low=64)
    grid: int = param(default=40, low=8)
    dims: int = param(default=128, low=1)

    def check(self, store: Products) -> None:
        """Load the weights."""
        self._net()

    def _net(self) -> Levels | None:
        """The network; None for colours and textures."""
        if self.backbone is None:
            return None
        backbone = make_classifier(self.backbone, 2, self.weights, section="evaluation.")
        return Levels([backbone], [self.levels or default_levels(backbone)])

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """One pass over the images."""
        data: PreparedData = store.get(self.pool).data
        rows = store.get(self.pool).rows
        rows = rows[data.is_test[rows] == (self.split == "test")]
        rows = rows[np.linspace(0, len(rows) - 1, min(self.images, len(rows))).round().astype(int)]
        np.save(out / "rows.npy", rows)
        raw = out / "raw.npy"  # in a file: several hundred MB
        with rows_file(raw, np.float16) as file:
            for part in self._seen(data, rows, store) if len(rows) else ():
                file.write(part)
        seen = np.load(raw, mmap_mode="r")
        mean, weights = whitening(seen, self.dims) if len(rows) else (0, np.zeros((0, 0)))
        with rows_file(out / "features.npy", np.float16) as file:
            for i in range(0, len(rows), 32):
                maps = torch.from_numpy(np.asarray(seen[i : i + 32] - mean, np.float32) @ weights).permute(0, 3, 1, 2)
                if maps.shape[-1] < self.grid:
                    maps = F.interpolate(maps, (self.grid,) * 2, mode="bilinear", align_corners=False)
                file.write(maps.permute(0, 2, 3, 1).numpy())
        raw.unlink()
        return {"images": len(rows)}

    def _seen(self, data: PreparedData, rows: np.ndarray, store: Products) -> Iterator[np.ndarray]:
        """``float (b, h, w, d)``, at most ``grid`` cells a side, some images at a time."""
        if (net := self._net()) is None:
            described = [self._pooled(torch.from_numpy(describe(data.images[row])))[None] for row in rows]
            every = np.concatenate([one.reshape(-1, one.shape[-1]) for one in described])
            waves = FourierFeatures(every, 2 * self.dims, np.random.default_rng(0))
            return (waves(one.reshape(-1, one.shape[-1]))[:, :-1].reshape(*one.shape[:3], -1) for one in described)
        net.to(store.runtime.device)

        def compute(images: torch.Tensor, _: np.ndarray) -> torch.Tensor:
            maps = net(F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True))
            return torch.from_numpy(self._pooled(maps.permute(0, 2, 3, 1).cpu())).half()

        return infer(compute, data, rows, store.runtime, self.what, most=16)

    def _pooled(self, maps: torch.Tensor) -> np.ndarray:
        """``(..., h, w, d)``; finer maps are averaged over the cells of the grid."""
        if maps.shape[-2] <= self.grid:
            return maps.numpy()
        pooled: np.ndarray = F.adaptive_avg_pool2d(maps.movedim(-1, -3), self.grid).movedim(-3, -1).numpy()
        return pooled

    def load(self, path: Path, store: Products) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the prepared data, ``int64 (n,)``; and ``float16 (n, g, g, d)``."""
        return np.load(path / "rows.npy"), np.load(path / "features.npy", mmap_mode="r")


class Estimated(Stage):
    """The estimated quality of the masks of a split; see :mod:`seg.methods.quality`.

    Attributes:
        masks: to judge. witness: the features and the images.
    """

    what: ClassVar[str] = "estimated quality"
    log_level: ClassVar[int] = logging.DEBUG

    masks: Threshold
    witness: Witness

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Compare the masks with those predicted from the features."""
        masks: MaskSet = store.get(self.masks)
        rows, features = store.get(self.witness)
        position = {int(row): i for i, row in enumerate(masks.rows)}
        there = np.asarray([i for i, row in enumerate(rows) if int(row) in position], int)
        data, side = masks.data, (masks.data.side,) * 2
        none = float("nan")
        found = Quality(none, none, none, none, none, none, np.full(len(there), np.nan))
        if len(there) >= LEAST:
            at = np.asarray([position[int(row)] for row in rows[there]])
            codes = np.concatenate([masks.at(at[i : i + 32], side) for i in range(0, len(at), 32)])
            labels = np.zeros((len(there), len(data.as_read.classes)), bool)
            for own, row in zip(labels, rows[there], strict=True):
                own[list(data.as_read.label_sets[row])] = True
            features = features if len(there) == len(rows) else features[there]
            found = estimate_quality(features, data.images[rows[there]], codes, labels)
        np.save(out / "per_image.npy", found.per_image)
        np.save(out / "rows.npy", rows[there])
        figures = {k: None if np.isnan(v) else float(v) for k, v in found._asdict().items() if k != "per_image"}
        write_json(out / "quality.json", figures)
        return {"images": len(there)}

    def load(self, path: Path, store: Products) -> tuple[Quality, np.ndarray]:
        """The estimate, and its images as rows of the prepared data."""
        figures = {
            k: float("nan") if v is None else v for k, v in json.loads((path / "quality.json").read_text()).items()
        }
        return Quality(**figures, per_image=np.load(path / "per_image.npy")), np.load(path / "rows.npy")
