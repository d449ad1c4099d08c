"""Train a segmentation network on any masks."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from inspect import signature
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.data.prepared import Pool, Prepared
from seg.errors import SegError
from seg.masks import MaskSet, Threshold
from seg.nets.state_dicts import from_plain
from seg.segmenter.architectures import Architecture
from seg.segmenter.few import FewMasks, FewMaskSet
from seg.segmenter.losses import (
    corrected,
    focal_loss,
    is_known,
    look,
    posterior,
    probabilities,
    second_views,
    soft_targets,
)
from seg.store import Products, Stage, param
from seg.train import Given, NetworkStage, Training

S = TypeVar("S", bound=Stage)


class Segmenter(Training):
    """A segmentation network, trained on the masks of trainval's images.

    Where these tell classes apart it has an output for the background and for each class, else one.

    Attributes:
        masks: the stage whose product (:class:`seg.masks.MaskSet`, or the like) is learnt: seeds, refined masks, truth,
            or these with a few true masks among them.
        net: what is trained.
        gamma: of the focal loss.
        input_size: side in pixels of what the network sees, null for the working resolution.
        band: nothing is learnt of pixels whose score is nearer than this to the masks' threshold.
        soft: how much of the score itself is in what is learnt (:func:`seg.segmenter.losses.soft_targets`): at 0 the
            mask, at 1 the score as a probability.
        correct_from: the epoch from which on the answers of the weights' moving average (``decay``) replace the masks
            where it is sure (after ADELE: S. Liu et al., CVPR 2022); null for never.
        sure: the probability from which on it is, as :func:`seg.segmenter.losses.posterior` understands it.
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
    band: float = param(default=0.0, low=0, high=1)
    soft: float = param(default=0.0, low=0, high=1)
    correct_from: int | None = param(default=None, low=2)
    sure: float = param(default=0.9, above=0.5, high=1)
    consistency: float = param(default=0.0, low=0)

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
        if self.soft and self.pool.task == "classes":
            raise SegError("segmenter.soft: goes with task=foreground alone; segmenter.band ignores doubtful scores")

    @cached_property
    def pool(self) -> Pool:
        """The images that the masks are of."""
        found = _first(self.masks, Pool)
        if found is None:
            raise SegError(f"segmenter.masks={type(self.masks).__name__}: are of no pool of images; give it a pool")
        return found

    def upstream(self) -> dict[str, Stage]:
        """The images too, where their classes are what the network tells apart."""
        return super().upstream() | self.needs()

    def needs(self) -> dict[str, Stage]:
        """The same."""
        return {"pool": self.pool} if self.pool.task == "classes" else {}

    def outputs(self, store: Products) -> int:
        """1, the foreground; or the background and each class."""
        if self.pool.task == "foreground":
            return 1
        return len(self._classes(store)) + 1

    def _classes(self, store: Products) -> Sequence[str]:
        # Images are not decoded for their classes, nor the lists read again once they are.
        prepared = self.pool.data
        known: Any = store.get(prepared if store.has(prepared) else prepared.source)
        classes: Sequence[str] = known.classes
        return classes

    def params(self) -> dict[str, Any]:
        """Without that of a switch that is off."""
        return {n: value for n, value in super().params().items() if n != "sure" or self.correct_from is not None}

    @property
    def teacher_decay(self) -> float | None:
        """Of the average, which corrects masks too."""
        return self.decay if self.correct_from is not None else super().teacher_decay

    def check(self, store: Products) -> None:
        """Load what is given once, and look whether the network takes images of this size, before anything long."""
        prepared = _first(self.masks, Prepared)
        side = self.input_size or (prepared.size if prepared else None)
        if side is not None and side < self.net.smallest:
            built = " ".join(f"segmenter.net.{k}={v}" for k, v in self.net.params().items())
            raise SegError(
                f"{built}: takes images from {self.net.smallest} pixels on, and here it would see {side}; raise "
                f"{'segmenter.input_size' if self.input_size else 'data.size'}, or lower segmenter.net.depth"
            )
        self._built(self.net, 2 if self.pool.task == "classes" else 1)

    def _built(self, net: Architecture, outputs: int) -> nn.Module:
        if outputs == 1:
            return net.make()
        try:
            return net.make(outputs)
        except TypeError as error:
            if len(signature(net.make).parameters):
                raise
            raise SegError(
                f"segmenter.net={type(net).__name__}: its make() takes no number of outputs, so it serves "
                "task=foreground alone; write make(self, outputs=1)"
            ) from error

    def check_given(self, model: nn.Module, state: Mapping[str, Tensor], said: str) -> None:
        """Given weights have to tell apart what the masks do."""
        found = from_plain(model, state)
        apart = [(found[k].shape, v.shape) for k, v in model.state_dict().items() if k in found]
        apart = [(theirs, own) for theirs, own in apart if theirs != own]
        # Two networks that differ in their outputs alone do so in the size of their last layers.
        firsts = {(*theirs[:1], *own[:1]) for theirs, own in apart}
        if len(firsts) != 1 or any(theirs[1:] != own[1:] for theirs, own in apart):
            return
        outputs = firsts.pop()
        theirs, ours = map(_kinds, outputs)
        other = f"take task={'classes' if self.pool.task == 'foreground' else 'foreground'}, " if 1 in outputs else ""
        raise SegError(
            f"{said}: a segmenter of {theirs}, but task={self.pool.task} of this data asks for {ours}; {other}give one "
            f"of {ours}, or leave checkpoints.{self.role} out to train one"
        )

    def check_described(self, told: Mapping[str, Any], said: str, store: Products) -> None:
        """Their classes have to be the data's, in their order: an output is of the class of its number."""
        theirs = told.get("classes")
        if theirs is None or self.pool.task == "foreground":
            return
        own = ["background", *self._classes(store)]
        if theirs == own:
            return
        pairs = enumerate(zip(theirs, own, strict=False)) if isinstance(theirs, list) else ()
        apart = next((f"code {i} is {str(a)[:40]!r} there and {b!r} in the data" for i, (a, b) in pairs if a != b), "")
        raise SegError(
            f"{said}: of other classes than the data, or in another order{apart and f': {apart}'}; give a segmenter "
            "of these classes, or mend the names under classes in the JSON beside it if they mean the same"
        )

    def shape(self) -> dict[str, Any]:
        """What decides how given weights are used: the architecture, without the weights that it would start from."""
        net = self.net.bare()
        return {"input_size": self.input_size, "net": {"class": type(net).__name__, **net.params()}}

    def empty(self, store: Products) -> nn.Module:
        """A network with random weights."""
        return self._built(self.net.bare(), self.outputs(store))

    def network(self, store: Products) -> nn.Module:
        """A fresh network."""
        return self._built(self.net, self.outputs(store))

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
        probability = probabilities(teacher(images))
        if correcting:
            target = corrected(target, posterior(probability, self.gamma), self.sure)
        return (images, target, *views, probability) if self.consistency else (images, target)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Focal loss, and the accuracy over the known pixels (of the masks learnt, not of the truth)."""
        images, target, *more = batch
        if not self.consistency:
            outputs = model(images)
        else:
            # One pass, for several processes synchronise one.
            outputs, seen = model(torch.cat([images, look(images, more[0])])).chunk(2)
        known = is_known(target)
        if outputs.shape[1] == 1:
            logits = outputs[:, 0]
            # 0.5 is a probability's threshold, and between the two values of a mask.
            right = ((logits > 0) == ((target >= 0.5) & known)) & known
        else:
            logits = outputs
            right = (outputs.argmax(1) == target) & known
        metrics = {"pixel_accuracy": right.sum() / known.sum().clamp_min(1)}
        loss = focal_loss(logits, target, self.gamma)
        if self.consistency:
            expected = more[1] if len(more) > 1 else probabilities(outputs.detach())
            apart = F.mse_loss(probabilities(seen), look(expected, more[0]))
            loss, metrics["inconsistency"] = loss + self.consistency * apart, apart
        return loss, metrics


def _kinds(outputs: int) -> str:
    """What a network with so many outputs tells apart from the background."""
    return "the foreground alone" if outputs == 1 else f"{outputs - 1} classes"


def _first(stage: Stage, kind: type[S]) -> S | None:
    """The first stage of a kind at or above a stage. By its fields: a key would need the data."""
    if isinstance(stage, kind):
        return stage
    return next((found for up in stage.upstream().values() if (found := _first(up, kind)) is not None), None)
