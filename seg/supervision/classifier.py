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
        stages: 3 leaves a ResNet's last stage out.
        recalibrate: so many images of trainval are used to estimate the batch-norm statistics anew at the end
            of an epoch; running averages lag behind fast-moving weights (0: keep the running averages).
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
    stages: Literal[3, 4] = param(4)
    recalibrate: int = param(0, low=0)
    train_size: int | None = param(None, low=32)
    hold_out: float = param(0.1, low=0, below=1)

    def check(self, store: Store) -> None:
        """Load the weights once, before anything long."""
        self._make(2)

    def network(self, store: Store) -> nn.Module:
        """The classifier with its initial weights."""
        data: PreparedData = store.get(self.data)
        return self._make(len(data.classes))

    def _make(self, classes: int) -> nn.Module:
        model = make_classifier(self.backbone, classes, self.weights, self.stages)
        if self.output_stride < (32 if self.stages == 4 else 16):
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

    def after_epoch(self, model: nn.Module, store: Store) -> None:
        """Estimate the batch-norm statistics anew."""
        if self.recalibrate == 0:
            return
        data: PreparedData = store.get(self.data)
        rows = self.samples(store)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), self.recalibrate)).round().astype(int)]
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [m.momentum for m in norms]
        device = next(model.parameters()).device
        model.train()
        with torch.no_grad():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over the batches
            for part in np.array_split(rows, max(1, len(rows) // 64)):
                model(normalise(torch.from_numpy(data.images[part]).to(device)))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

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
