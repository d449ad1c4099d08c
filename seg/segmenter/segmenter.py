"""Train a segmentation network on any masks."""

import dataclasses
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
from seg.segmenter.losses import corrected, focal_loss, is_known, look, posterior, second_views, soft_targets
from seg.store import Products, Stage, param
from seg.train import Given, NetworkStage, Training


class Segmenter(Training):
    """A segmentation network, trained on the masks of trainval's images.

    Attributes:
        masks: the stage whose product (:class:`seg.masks.MaskSet`, or the like) is learnt: seeds, refined masks, truth,
            or these with a few true masks among them.
        net: what is trained.
        gamma: of the focal loss.
        input_size: side in pixels of what the network sees, null for the working resolution.
        band: nothing is learnt of pixels whose score is nearer than this to the masks' threshold.
        soft: how much of the score itself is in what is learnt (:func:`seg.segmenter.losses.soft_targets`): at 0 the
            mask, at 1 the score as a probability.
        averaged: the product is the moving average of the weights (a mean teacher: Tarvainen and Valpola, NIPS 2017).
        correct_from: the epoch from which on that average's answers replace the masks where it is sure (after ADELE:
            S. Liu et al., CVPR 2022); null for never.
        sure: the probability from which on it is, as :func:`seg.segmenter.losses.posterior` understands it.
        decay: of the average, per step.
        consistency: weight of the mean squared difference between the probabilities that the network gives in a
            mirrored and enlarged second view of an image (``zoom``) and those that the average, if one of the
            above wants one, or else the network itself gives in the first (without a gradient).
    """

    what: ClassVar[str] = "segmenter"
    role: ClassVar[str] = "segmenter"

    masks: Threshold | FewMasks
    net: Architecture
    gamma: float = param(default=2.0, low=0)
    input_size: int | None = param(default=None, low=32)
    zoom: float = param(default=0.7, above=0, high=1)
    jitter: float = param(default=0.2, low=0, below=1)
    band: float = param(default=0.0, low=0, high=1, switch=True)
    soft: float = param(default=0.0, low=0, high=1, switch=True)
    averaged: bool = param(default=False, switch=True)
    correct_from: int | None = param(default=None, low=2, switch=True)
    sure: float = param(default=0.9, above=0.5, high=1)
    decay: float = param(default=0.99, low=0, below=1)
    consistency: float = param(default=0.0, low=0, switch=True)

    @classmethod
    def from_config(
        cls, checkpoint: str | None = None, like: NetworkStage | None = None, **values: Any
    ) -> NetworkStage:
        """What a config node with this class describes.

        Args:
            checkpoint: weights to use instead of training, as for every training.
            like: another segmenter, whose parameters are taken where ``values`` has none.
        """
        if like is None:
            return super().from_config(checkpoint, **values)
        design = dataclasses.replace(like.designed_as(Segmenter, "like"), **values)
        return design if checkpoint is None else Given(design=design, file=checkpoint)

    def validate(self) -> None:
        """A correction that never begins is a mistake."""
        super().validate()
        if self.correct_from is not None and self.correct_from > max(self.epochs, self.wanted):
            raise SegError(
                f"segmenter.correct_from={self.correct_from}: the training ends at epochs={self.epochs}; "
                "begin earlier, or train longer"
            )

    def params(self) -> dict[str, Any]:
        """Without those of a switch that is off."""
        off = {"sure": self.correct_from is None, "decay": self.teacher_decay is None}
        return {name: value for name, value in super().params().items() if not off.get(name)}

    @property
    def teacher_decay(self) -> float | None:
        """Of the average, where something wants it."""
        return self.decay if self.averaged or self.correct_from is not None else None

    @property
    def saves_teacher(self) -> bool:
        """As ``averaged`` says."""
        return self.averaged

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
        """Augmented images ``(B, 3, s, s)`` and what is learnt of them ``(B, s, s)``.

        That is masks, ``uint8``; or with ``soft`` probabilities, ``float32``, NaN where nothing is learnt. With
        ``consistency`` a third is where the second views look, ``float32 (B, 2, 3)``.
        """
        masks: MaskSet | FewMaskSet = store.get(self.masks)
        learnt = masks.each(rows, self._learnt) if isinstance(masks, FewMaskSet) else self._learnt(masks, rows)
        images, target = self.augmented(masks.data.images[masks.rows[rows]], learnt, generator)
        if self.input_size is not None:
            side = (self.input_size, self.input_size)
            images = F.interpolate(images, side, mode="bilinear", antialias=True)
            images = images.contiguous(memory_format=torch.channels_last)
            target = F.interpolate(target[:, None].float(), side, mode="nearest-exact")[:, 0].to(target.dtype)
        if self.consistency:
            return images, target, second_views(len(rows), self.zoom, generator)
        return images, target

    def _learnt(self, masks: MaskSet, rows: np.ndarray) -> np.ndarray:
        """What is learnt of some images, before they are augmented."""
        masks = dataclasses.replace(masks, low=max(masks.low - self.band, 0.0), high=min(masks.high + self.band, 1.0))
        if not self.soft:
            return masks.at(rows)
        return soft_targets(masks.scores.at(rows), masks.at(rows), masks.low, masks.high, self.soft)

    def taught(self, teacher: nn.Module, batch: tuple[Tensor, ...], epoch: int) -> tuple[Tensor, ...]:
        """The targets corrected, if that has begun; with ``consistency`` the teacher's probabilities as a fourth."""
        correcting = self.correct_from is not None and epoch >= self.correct_from
        if not (correcting or self.consistency):
            return batch
        images, target, *views = batch
        probability = teacher(images)[:, 0].float().sigmoid()
        if correcting:
            target = corrected(target, posterior(probability, self.gamma), self.sure)
        return (images, target, *views, probability) if self.consistency else (images, target)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Focal loss, and the accuracy over the known pixels (of the masks learnt, not of the truth)."""
        images, target, *more = batch
        if not self.consistency:
            logits = model(images)[:, 0]
        else:
            # One pass, for several processes synchronise one.
            logits, seen = model(torch.cat([images, look(images, more[0])]))[:, 0].chunk(2)
        known = is_known(target)
        # 0.5 is a probability's threshold, and between the two values of a mask.
        right = ((logits > 0) == ((target >= 0.5) & known)) & known
        metrics = {"pixel_accuracy": right.sum() / known.sum().clamp_min(1)}
        loss = focal_loss(logits, target, self.gamma)
        if self.consistency:
            expected = more[1] if len(more) > 1 else logits.detach().float().sigmoid()
            apart = F.mse_loss(seen.float().sigmoid(), look(expected[:, None], more[0])[:, 0])
            loss, metrics["inconsistency"] = loss + self.consistency * apart, apart
        return loss, metrics


def _working_size(stage: Stage) -> int | None:
    """Side of the images that a stage's masks are of. By its fields: a key would need the data."""
    if isinstance(stage, Prepared):
        return stage.size
    return next((size for up in stage.upstream().values() if (size := _working_size(up)) is not None), None)
