"""Train a segmentation network on any masks, and predict with it."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.data.prepared import Prepared
from seg.errors import SegError
from seg.masks import MaskSet, Threshold
from seg.segmenter.architectures import Architecture
from seg.segmenter.few import FewMasks, FewMaskSet
from seg.store import Products, Stage, param
from seg.train import Training


def focal_loss(logits: Tensor, masks: Tensor, gamma: float = 2.0) -> Tensor:
    """Binary focal loss (Lin et al., ICCV 2017, eq. 4), averaged over the known pixels.

    Args:
        logits: ``float (B, H, W)``. masks: ``uint8 (B, H, W)``: 0, 1, or 255 ignored.
        gamma: how much what is already right is discounted; 0 gives the cross-entropy.

    Returns:
        Scalar >= 0; 0 when every pixel is ignored.
    """
    known = masks != 255
    cross_entropy = F.binary_cross_entropy_with_logits(logits, (masks == 1).to(logits.dtype), reduction="none")
    # Never quite 0: for gamma below 1 the power has no finite slope there, and torchvision's loss a gradient of NaN.
    doubt = (1 - torch.exp(-cross_entropy)).clamp_min(torch.finfo(logits.dtype).tiny)
    loss = doubt**gamma * cross_entropy
    return torch.where(known, loss, 0).sum() / known.sum().clamp_min(1)


class Segmenter(Training):
    """A segmentation network, trained on the masks of trainval's images.

    Attributes:
        masks: the stage whose product (:class:`seg.masks.MaskSet`, or the like) is learnt: seeds, refined masks, truth,
            or these with a few true masks among them.
        net: what is trained.
        gamma: of the focal loss.
        input_size: side in pixels of what the network sees, null for the working resolution.
    """

    what: ClassVar[str] = "segmenter"
    role: ClassVar[str] = "segmenter"

    masks: Threshold | FewMasks
    net: Architecture
    gamma: float = param(default=2.0, low=0)
    input_size: int | None = param(default=None, low=32)
    zoom: float = param(default=0.7, above=0, high=1)
    jitter: float = param(default=0.2, low=0, below=1)

    def check(self, store: Products) -> None:
        """Load what is given once, and look whether the network takes images of this size, before anything long."""
        side = self.input_size or _working_size(self.masks)
        if side is not None and side < self.net.smallest:
            built = " ".join(f"segmenter.net.{k}={v}" for k, v in self.net.params().items())
            raise SegError(
                f"{built}: takes images from {self.net.smallest} pixels on, and here it would see {side}; raise "
                f"{'segmenter.input_size' if self.input_size else 'data.size'}, or lower segmenter.net.depth"
            )
        self.net.make()

    def shape(self) -> dict[str, Any]:
        """What decides how given weights are used: the architecture, without the weights that it would start from."""
        net = self.net.bare()
        return {"input_size": self.input_size, "net": {"class": type(net).__name__, **net.params()}}

    def empty(self, store: Products) -> nn.Module:
        """A network with random weights."""
        return self.net.bare().make()

    def network(self, store: Products) -> nn.Module:
        """A fresh network."""
        return self.net.make()

    def samples(self, store: Products) -> np.ndarray:
        """Positions in the masks of trainval's images; those of a few true masks several times."""
        masks: MaskSet | FewMaskSet = store.get(self.masks)
        if isinstance(masks, FewMaskSet):
            return masks.epoch
        return np.flatnonzero(~masks.data.is_test[masks.rows])

    def batch(self, rows: np.ndarray, generator: torch.Generator, store: Products) -> tuple[Tensor, ...]:
        """Augmented images ``(B, 3, s, s)`` and masks ``uint8 (B, s, s)``."""
        masks: MaskSet | FewMaskSet = store.get(self.masks)
        images, target = self.augmented(masks.data.images[masks.rows[rows]], masks.at(rows), generator)
        if self.input_size is not None:
            side = (self.input_size, self.input_size)
            images = F.interpolate(images, side, mode="bilinear", antialias=True)
            images = images.contiguous(memory_format=torch.channels_last)
            target = F.interpolate(target[:, None].float(), side, mode="nearest-exact")[:, 0].to(torch.uint8)
        return images, target

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Focal loss, and the accuracy over the known pixels (of the masks learnt, not of the truth)."""
        images, masks = batch
        logits = model(images)[:, 0]
        known = masks != 255
        right = ((logits > 0) == (masks == 1)) & known
        return focal_loss(logits, masks, self.gamma), {"pixel_accuracy": right.sum() / known.sum().clamp_min(1)}


def _working_size(stage: Stage) -> int | None:
    """Side of the images that a stage's masks are of. By its fields: a key would need the data."""
    if isinstance(stage, Prepared):
        return stage.size
    return next((size for up in stage.upstream().values() if (size := _working_size(up)) is not None), None)
