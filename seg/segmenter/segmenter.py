"""Training of a segmentation network on masks."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.data.decode import decode_image
from seg.data.prepared import Pool, Prepared
from seg.errors import SegError
from seg.masks import MaskSet, Threshold
from seg.methods.losses import focal_loss
from seg.nets.augment import MEAN, augment, crop, normalise
from seg.segmenter.architectures import Architecture
from seg.segmenter.labelled import LabelledNetwork, labelled
from seg.segmenter.mixed_masks import MixedMasks, MixedMaskSet
from seg.store import Products, Stage, param
from seg.supervision.image_labels import ImageLabels
from seg.train import NetworkStage, Training

S = TypeVar("S", bound=Stage)


class Segmenter(Training):
    """A segmentation network, trained on the masks of trainval's images.

    It has one output for the foreground, or with several classes one for the background and each class.

    Attributes:
        masks: seeds, refined masks, ground truth, or pseudo masks mixed with ground truth.
        net: the network.
        image_labels: an image classifier that the classes follow (:class:`seg.segmenter.labelled.LabelledNetwork`);
            null for none. Not used for the foreground alone.
        gamma: of the focal loss.
        input_size: side of the network's input in pixels; null for the working resolution.
        crop: side in pixels of random crops from images at their aspect ratio, with ``input_size`` as the longer side.
            Padding is ignored. The network then predicts whole images at their aspect ratio. null: images are resized
            to a square.
        scale: bounds of a random scale factor before cropping.
    """

    what: ClassVar[str] = "segmenter"
    role: ClassVar[str] = "segmenter"

    masks: Threshold | MixedMasks
    net: Architecture
    image_labels: ImageLabels | None = None
    gamma: float = param(default=2.0, low=0)
    input_size: int | None = param(default=None, low=32)
    crop: int | None = param(default=None, low=32)
    scale: tuple[float, ...] = param(default=(0.5, 2.0), above=0, high=8)
    zoom: float = param(default=0.7, above=0, high=1)
    jitter: float = param(default=0.2, low=0, below=1)

    @classmethod
    def from_config(cls, checkpoint: str | None = None, **values: Any) -> NetworkStage:
        """As for every training, without ``image_labels`` for the foreground alone."""
        design = cls(**values)
        if design.pool.task == "foreground":
            values["image_labels"] = None
        return super().from_config(checkpoint, **values)

    def validate(self) -> None:
        super().validate()
        if len(self.scale) != 2 or self.scale[0] > self.scale[1]:
            raise SegError(f"scale={[*self.scale]}: must be the smallest and the largest factor, like [0.5,2.0]")

    @property
    def unused_parameters(self) -> dict[str, str]:
        own = {"scale": "is used only with segmenter.crop"}
        if self.crop is not None:
            own = {"zoom": "is not used with segmenter.crop, whose random size is segmenter.scale"}
        return super().unused_parameters | own

    @cached_property
    def pool(self) -> Pool:
        """The images of the masks."""
        found = _first(self.masks, Pool)
        if found is None:
            raise SegError(f"segmenter.masks={type(self.masks).__name__}: has no pool of images upstream; give it one")
        return found

    def upstream(self) -> dict[str, Stage]:
        return super().upstream() | self.needs()

    def needs(self) -> dict[str, Stage]:
        return {"pool": self.pool}

    def class_names(self, store: Products) -> Sequence[str] | None:
        classes = self.pool.classes(store)
        return None if len(classes) == 1 else ["background", *classes]

    def outputs(self, store: Products) -> int:
        names = self.class_names(store)
        return 1 if names is None else len(names)

    def check(self, store: Products) -> None:
        prepared = _first(self.masks, Prepared)
        side = self.crop or self.input_size or (prepared.size if prepared else None)
        if side is not None and side < self.net.smallest:
            built = " ".join(f"segmenter.net.{k}={v}" for k, v in self.net.params().items())
            key = "segmenter.crop" if self.crop else "segmenter.input_size" if self.input_size else "data.size"
            raise SegError(
                f"{built}: needs images of at least {self.net.smallest} pixels, and its input has {side}; raise {key}, "
                "or lower segmenter.net.depth"
            )
        dataset = self.pool.data.source.dataset_if_known(store)
        self.net.make(2 if dataset and len(self.pool.classes_of(dataset)) > 1 else 1)

    def shape(self) -> dict[str, Any]:
        net = self.net.bare()
        labels = {} if self.image_labels is None else {"image_labels": self.image_labels.shape()}
        size = {"input_size": self.input_size, "crop": self.crop}
        return {**size, "net": {"class": type(net).__name__, **net.params()}, **labels}

    def empty(self, store: Products) -> nn.Module:
        outputs = self.outputs(store)
        model = self.net.bare().make(outputs)
        if self.image_labels is None or outputs == 1:
            return model
        return labelled(model, outputs - 1, **self.image_labels.shape())

    def network(self, store: Products) -> nn.Module:
        outputs = self.outputs(store)
        model = self.net.make(outputs)
        if self.image_labels is None or outputs == 1:
            return model
        return LabelledNetwork(model, store.get(self.image_labels), self.image_labels.size)

    def frozen(self, model: nn.Module) -> Sequence[nn.Module]:
        return [model.classifier] if isinstance(model, LabelledNetwork) else []

    def samples(self, store: Products) -> np.ndarray:
        masks: MaskSet | MixedMaskSet = store.get(self.masks)
        if isinstance(masks, MixedMaskSet):
            return masks.epoch
        return np.flatnonzero(~masks.data.is_test[masks.rows])

    def batch(self, rows: np.ndarray, generator: torch.Generator, store: Products) -> tuple[Tensor, ...]:
        """Augmented images ``float32 (B, 3, s, s)`` and masks ``uint8 (B, s, s)``, 255 for ignored pixels."""
        masks: MaskSet | MixedMaskSet = store.get(self.masks)
        if self.crop is not None:
            return self._crops(masks, rows, self.crop, generator, store)
        images, target = self.augmented(masks.data.images[masks.rows[rows]], masks.at(rows), generator)
        if self.input_size is not None:
            side = (self.input_size, self.input_size)
            images = F.interpolate(images, side, mode="bilinear", antialias=True)
            images = images.contiguous(memory_format=torch.channels_last)
            target = F.interpolate(target[:, None].float(), side, mode="nearest-exact")[:, 0].to(target.dtype)
        return images, target

    def _crops(
        self, masks: MaskSet | MixedMaskSet, rows: np.ndarray, side: int, generator: torch.Generator, store: Products
    ) -> tuple[Tensor, ...]:
        """A batch of random crops from images at their aspect ratio, each at a random scale."""
        files, data = self.pool.files(store), masks.data
        (low, high), longer = self.scale, self.input_size or data.side

        def one(position: int, drawn: list[float]) -> tuple[np.ndarray, np.ndarray]:
            size = max(1, round(longer * (low + (high - low) * drawn[0])))
            image, _ = decode_image(files[data.ids[masks.rows[position]]], size, aspect=True)
            mask = masks.at(np.asarray([position]), image.shape[:2])[0]
            return crop(image, side, drawn[1:], [round(255 * mean) for mean in MEAN]), crop(mask, side, drawn[1:], 255)

        drawn = torch.rand(len(rows), 3, generator=generator).tolist()
        with ThreadPoolExecutor(store.runtime.worker_count) as threads:
            images, target = map(np.stack, zip(*threads.map(one, rows, drawn), strict=True))
        known = torch.from_numpy(target)
        moved: Any = augment(normalise(images), known, generator, flip=self.flip, jitter=self.jitter)
        return moved

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Focal loss, and accuracy over the pixels that are not ignored."""
        images, target = batch
        logits = model(images)
        if logits.shape[1] == 1:
            logits = logits[:, 0]
            answer = (logits > 0).to(target.dtype)
        else:
            answer = logits.argmax(1)
        known = target != 255
        accuracy = ((answer == target) & known).sum() / known.sum().clamp_min(1)
        return focal_loss(logits, target, self.gamma), {"pixel_accuracy": accuracy}


def _first(stage: Stage, kind: type[S]) -> S | None:
    """The first stage of a kind at or upstream of a stage, found without keys, which would need the data."""
    if isinstance(stage, kind):
        return stage
    return next((found for up in stage.upstream().values() if (found := _first(up, kind)) is not None), None)
