"""The image classifier that CAM looks into."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.backbones import make_classifier, set_output_stride, split_at_pooling
from seg.data.augment import augment, normalise
from seg.data.prepared import Prepared, PreparedData
from seg.stage import param
from seg.store import Store
from seg.train import Training


class Classifier(Training):
    """A torchvision classifier with global pooling and one linear layer, trained on trainval's labels.

    Attributes:
        data: the prepared images; all of trainval is used, whatever the pool of the masks is.
        backbone: torchvision's name.
        weights: null, a member of torchvision's enum, or a file (see :func:`seg.backbones.make_classifier`).
        output_stride: pixels per cell of the last feature map; below 32 the last stages are dilated.
        train_size: side of the training's input in pixels, null for the working resolution. A smaller one is
            cheaper, and tests at a somewhat larger size do no worse (Touvron et al., NeurIPS 2019).
        hold_out: share of trainval, drawn by class, that is not trained on: its accuracy is logged at every
            epoch, so that an epoch can be chosen without masks and without the test split.
    """

    what: ClassVar[str] = "classifier"

    data: Prepared
    backbone: str = param("resnet18")
    weights: str | None = param(None, file=True)
    output_stride: Literal[8, 16, 32] = param(32)
    train_size: int | None = param(None, low=32)
    hold_out: float = param(0.1, low=0, below=1)

    def check(self, store: Store) -> None:
        """Load the weights once, before anything long."""
        make_classifier(self.backbone, 2, self.weights)

    def network(self, store: Store) -> nn.Module:
        """The classifier with its initial weights."""
        data: PreparedData = store.get(self.data)
        model = make_classifier(self.backbone, len(data.classes), self.weights)
        if self.output_stride != 32:
            set_output_stride(model, self.output_stride)
        return model

    def _rows(self, store: Store) -> tuple[np.ndarray, np.ndarray]:
        data: PreparedData = store.get(self.data)
        rows = np.flatnonzero(~data.is_test)
        rng = np.random.default_rng(self.seed)
        held: list[int] = []
        for label in range(len(data.classes)):
            own = rows[data.labels[rows] == label]
            held += rng.permutation(own)[: int(self.hold_out * len(own))].tolist()
        return np.setdiff1d(rows, held), np.asarray(sorted(held), np.int64)

    def samples(self, store: Store) -> np.ndarray:
        """Rows of trainval, less those held out."""
        return self._rows(store)[0]

    def batch(self, rows: np.ndarray, generator: torch.Generator, store: Store) -> tuple[Tensor, ...]:
        """Augmented images ``(B, 3, S, S)`` and labels ``int64 (B,)``."""
        data: PreparedData = store.get(self.data)
        images, _ = augment(
            normalise(data.images[rows]), None, generator, flip=self.flip, zoom=self.zoom, jitter=self.jitter
        )
        if self.train_size is not None:
            images = F.interpolate(images, (self.train_size,) * 2, mode="bilinear", antialias=True)
            images = images.contiguous(memory_format=torch.channels_last)
        return images, torch.from_numpy(data.labels[rows])

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy, and the accuracy."""
        images, labels = batch
        logits = model(images)
        return F.cross_entropy(logits, labels), {"accuracy": (logits.argmax(1) == labels).float().mean()}

    def held_out(self, model: nn.Module, store: Store) -> dict[str, float]:
        """Accuracy on the share of trainval that was held out."""
        rows = self._rows(store)[1]
        if len(rows) == 0:
            return {}
        data: PreparedData = store.get(self.data)
        device = next(model.parameters()).device
        right = 0
        for start in range(0, len(rows), store.runtime.batch_size):
            part = rows[start : start + store.runtime.batch_size]
            logits = model(normalise(torch.from_numpy(data.images[part]).to(device)))
            right += int((logits.argmax(1).cpu().numpy() == data.labels[part]).sum())
        return {"held_out_accuracy": right / len(rows)}

    def parts(self, model: nn.Module) -> tuple[nn.Module, Tensor, Tensor]:
        """Network up to the pooling, class weights ``(classes, channels)`` and biases ``(classes,)``."""
        features, head = split_at_pooling(model, self.backbone)
        linear: Any = model.get_submodule(head)
        return features, linear.weight.detach(), linear.bias.detach()
