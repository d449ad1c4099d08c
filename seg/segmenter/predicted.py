"""The predictions of a trained segmenter, as score maps."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.data.prepared import Pool, PoolRows
from seg.errors import SegError
from seg.segmenter.segmenter import Segmenter
from seg.store import Products
from seg.supervision.scores import ScoreStage, infer
from seg.train import NetworkStage


def foreground(model: nn.Module, images: Tensor, side: int) -> Tensor:
    """Probability of the foreground, ``float16 (B, side, side)`` in [0, 1].

    Args:
        model: in ``eval`` mode. images: ``float32 (B, 3, S, S)``, normalised, on its device.
        side: in pixels, of what the network sees.
    """
    if side != images.shape[-1]:
        images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
    return model(images)[:, 0].sigmoid().half()


class Predicted(ScoreStage):
    """The segmenter's foreground probability for every image of the pool.

    Attributes:
        pool: the images. segmenter: the network, trained or given.
    """

    what: ClassVar[str] = "prediction"

    pool: Pool
    segmenter: NetworkStage

    @property
    def design(self) -> Segmenter:
        """What the segmenter is, trained or given."""
        return self.segmenter.designed_as(Segmenter, "segmenter")

    def validate(self) -> None:
        """Only a segmenter predicts masks."""
        _ = self.design

    @property
    def title(self) -> str:
        """Which network predicts."""
        return f"{type(self.design.net).__name__} prediction"

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """One forward pass per image, at the size that the network was trained at."""
        pool: PoolRows = store.get(self.pool)
        model: nn.Module = store.get(self.segmenter).to(memory_format=torch.channels_last)
        side = self.design.input_size or pool.data.side
        parts = infer(lambda x, _: foreground(model, x, side), pool.data, pool.rows, store.runtime, "predicting")
        return self.save(out, pool.data, pool.rows, map(self._numbers, parts))

    def _numbers(self, scores: np.ndarray) -> np.ndarray:
        """What a network has answered, refused where it is NaN: as scores these would be unknown, in silence."""
        if np.isnan(scores).any():
            raise SegError(
                f"{self.segmenter.what} of {type(self.design.net).__name__}: answers with NaN; its training has "
                "diverged: lower segmenter.lr, take an earlier segmenter.epoch, or give other weights"
            )
        return scores
