"""A small training for the tests of seg/train: a network that learns a line."""

import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from seg.store import Products, Store, param
from seg.store.manifest import is_intact, read_manifest
from seg.train import Training


class Line(Training):
    """A small network with dropout and batch norm, trained on numbers."""

    seconds: ClassVar[float] = 0.0
    trained: ClassVar[list[int]] = []
    images: int = param(10)

    def network(self, store: Products) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))

    def samples(self, store: Products) -> np.ndarray:
        return np.arange(100, 100 + self.images)

    def batch(self, rows: np.ndarray, generator: torch.Generator, store: Products) -> tuple[torch.Tensor, ...]:
        self.trained.extend(rows.tolist())
        time.sleep(self.seconds)
        x = torch.from_numpy(rows[:, None] % np.asarray([3, 5, 7])).float()
        return x + 0.1 * torch.randn(x.shape, generator=generator), x.sum(1)

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        error = model(batch[0])[:, 0] - batch[1]
        return (error**2).mean(), {"mean_error": error.abs().mean()}

    def held_out(self, model: nn.Module, store: Products) -> dict[str, float]:
        assert not model.training and torch.is_inference_mode_enabled()
        return {"held_out": 1.0}


def make(**changed: Any) -> Line:
    return Line(**{"epochs": 3, "batch_size": 4, "lr": 1e-2} | changed)


def weights(store: Store, stage: Line) -> dict[str, torch.Tensor]:
    store.ensure(stage)
    return load_file(store.folder(stage) / stage.file_name)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def damaged_files(folder: Path) -> list[str]:
    """The files of a product that are not what its manifest says."""
    manifest = read_manifest(folder)
    assert manifest is not None
    return [entry["name"] for entry in manifest["files"] if not is_intact(folder, entry, checksum=True)]
