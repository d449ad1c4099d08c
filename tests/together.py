"""A training that train/test_loop.py starts in two processes: ``torchrun tests/together.py FOLDER``."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from seg.store import Runtime, Store
from seg.train import Training


class Plain(Training):
    """Without dropout, batch norm and augmentation: what a batch gives does not depend on who takes which part."""

    def network(self, store: Store) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def frozen(self, model: nn.Module) -> Sequence[nn.Module]:
        return [model[0]]  # type: ignore[index]

    def samples(self, store: Store) -> np.ndarray:
        return np.arange(13)

    def batch(self, rows: np.ndarray, generator: torch.Generator, store: Store) -> tuple[torch.Tensor, ...]:
        x = torch.from_numpy(rows[:, None] % np.asarray([3, 5, 7])).float()
        return x, x.sum(1)

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return ((model(batch[0])[:, 0] - batch[1]) ** 2).mean(), {}


if __name__ == "__main__":
    store = Store(Path(sys.argv[1]), Runtime(accelerator="cpu", devices=2))
    for epochs in (1, 3):  # the second goes on from the first
        for ema in (None, 0.8):
            store.ensure(Plain(epochs=epochs, batch_size=13, lr=1e-2, ema=ema))
