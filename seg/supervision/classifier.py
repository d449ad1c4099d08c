"""The image classifier whose activation maps are the supervision."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor, nn
from torch.nn import functional as F

from seg.data.prepared import Prepared, PreparedData
from seg.errors import SegError
from seg.methods.average_precision import mean_average_precision
from seg.nets.augment import normalise
from seg.nets.backbones import Backbone, make_classifier
from seg.nets.pretrained import TIMM, known_backbone, weights_of
from seg.store import Products, Stage, param
from seg.supervision.scores import infer
from seg.train import NetworkStage, Training

#: McFadden's pseudo R squared of the training loss below which the CAMs are in doubt.
LEAST_LEARNT = 0.25


class Classifier(Training):
    """A classifier with global pooling and one linear layer, trained on trainval's labels.

    Attributes:
        data: the prepared images; all of trainval is used, whatever the pool of the masks.
        backbone: torchvision's name, or ``timm/NAME``.
        weights: as for :func:`seg.nets.backbones.make_classifier`.
        output_stride: pixels per cell of the last feature map; below 32 the last stages are dilated.
        stages: 3 leaves out the last stage; the stride is then at most 16.
        frozen_stages: number of stages that keep their weights and batch-norm statistics, with the stem. The CAMs of
            several epochs share their features. ``all`` trains the linear layer alone, on pooled features of images
            without augmentation, which are computed once per process.
        recalibrate: number of trainval images from which batch-norm statistics are computed at the end of an epoch,
            because running averages lag behind fast-moving weights; 0 keeps the running averages.
        train_size: side of the training's input in pixels; null for the working resolution.
        hold_out: share of trainval, drawn by class, for validation: accuracy, or mAP for images with several labels,
            is logged at every epoch.
        kind: ``softmax`` for one class per image, trained by cross-entropy; ``logistic`` for any number of classes,
            trained by a logistic loss for each; ``auto`` chooses by the labels.
    """

    what: ClassVar[str] = "classifier"
    role: ClassVar[str] = "classifier"

    data: Prepared
    backbone: str = param(default="resnet18", content=known_backbone)
    weights: str | None = param(default=None, content=weights_of("backbone"))
    output_stride: Literal[8, 16, 32] = param(default=32)
    stages: Literal[3, 4] = param(default=4)
    frozen_stages: int | Literal["all"] = param(default=0, low=0)
    recalibrate: int = param(default=0, low=0)
    train_size: int | None = param(default=None, low=32)
    hold_out: float = param(default=0.1, low=0, below=1)
    kind: Literal["auto", "softmax", "logistic"] = param(default="auto")

    @classmethod
    def from_config(
        cls, checkpoint: str | None = None, frozen_stages: Any = 0, weights: str | None = None, **values: Any
    ) -> NetworkStage:
        """As for every training; ``frozen_stages=None`` is 2 for pretrained weights and 0 for random ones."""
        if frozen_stages is None:
            frozen_stages = 0 if weights is None else 2
        return super().from_config(checkpoint, frozen_stages=frozen_stages, weights=weights, **values)

    @property
    def is_linear(self) -> bool:
        """Whether only the linear layer is trained."""
        return self.frozen_stages == "all"

    @property
    def unused_parameters(self) -> dict[str, str]:
        names = ("flip", "zoom", "jitter", "train_size", "recalibrate") if self.is_linear else ()
        why = "classifier.frozen_stages=all trains on features of images without augmentation"
        return super().unused_parameters | dict.fromkeys(names, why)

    def shape(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "stages": self.stages, "output_stride": self.output_stride}

    def needs(self) -> dict[str, Stage]:
        return {"data": self.data}

    def check(self, store: Products) -> None:
        dataset = self.data.source.dataset_if_known(store)
        if dataset is not None and len(dataset.classes) < 2 and all(r.labels for r in dataset.records):
            raise SegError(
                f"one class only, {dataset.classes[0]!r}: a classifier, and so supervision=cam, needs at least two; "
                "supervision=bbox and clip work; for cam add a class, such as similar photos without the object"
            )
        if self.is_linear and self.weights is None:
            raise SegError("classifier.frozen_stages=all: needs pretrained features; give weights")
        self._make(2, self.weights)

    def class_names(self, store: Products) -> Sequence[str]:
        # Without decoding images that are not decoded yet.
        known: Any = store.get(self.data if store.has(self.data) else self.data.source)
        return known.classes

    def empty(self, store: Products) -> nn.Module:
        """The classifier without drawing random weights, which takes longer than loading."""
        if self.backbone.startswith(TIMM):  # has buffers that are not in a state dict
            return self._make(len(self.class_names(store)), None)
        with torch.device("meta"):
            model = self._make(len(self.class_names(store)), None)
        model.to_empty(device="cpu")
        for buffer in model.buffers():  # a state dict may lack batch norm's counters
            buffer.zero_()
        return model

    def network(self, store: Products) -> nn.Module:
        data: PreparedData = store.get(self.data)
        return self._make(len(data.classes), self.weights)

    def _make(self, classes: int, weights: str | None) -> Backbone:
        model = make_classifier(self.backbone, classes, weights, self.stages, self.output_stride)
        try:
            model.first_stages(self._stages(model))
        except SegError as error:
            raise SegError(f"classifier.frozen_stages={self.frozen_stages}: {self.backbone} {error}") from None
        return model

    def _stages(self, model: Backbone) -> int:
        return len(model.stages) if isinstance(self.frozen_stages, str) else self.frozen_stages

    def frozen(self, model: Any) -> Sequence[nn.Module]:
        modules: list[nn.Module] = model.first_stages(self._stages(model))
        modules += [model.get_submodule(name) for name in model.norms] if self.is_linear else []
        return modules

    def is_logistic(self, data: PreparedData) -> bool:
        """Whether the loss is logistic, one for each class."""
        return self.kind == "logistic" or (self.kind == "auto" and not data.has_one_label)

    def _rows(self, store: Products) -> tuple[np.ndarray, np.ndarray]:
        data: PreparedData = store.get(self.data)
        rng = np.random.default_rng(self.seed)
        held: list[int] = []
        for label in (*range(len(data.classes)), -1):  # by the first label; images without a label last
            own = np.flatnonzero(~data.is_test & (data.labels == label))
            held += rng.permutation(own)[: int(self.hold_out * len(own))].tolist()
        return np.setdiff1d(np.flatnonzero(~data.is_test), held), np.asarray(sorted(held), np.int64)

    def samples(self, store: Products) -> np.ndarray:
        return self._rows(store)[0]

    def batch(self, rows: np.ndarray, generator: torch.Generator, store: Products) -> tuple[Tensor, ...]:
        """Augmented images ``(B, 3, S, S)`` or pooled features ``(B, channels)``, and labels.

        Labels are ``int64 (B,)``, or ``float32 (B, classes)`` of 0 and 1.
        """
        data: PreparedData = store.get(self.data)
        if self.is_linear:
            images = self._pooled(store)[rows]
        else:
            images, _ = self.augmented(data.images[rows], None, generator)
        if self.train_size is not None and not self.is_linear:
            images = F.interpolate(images, (self.train_size,) * 2, mode="bilinear", antialias=True)
            images = images.contiguous(memory_format=torch.channels_last)
        if self.is_logistic(data):
            return images, torch.from_numpy(data.is_labelled[rows]).float()
        if (data.labels[rows] < 0).any():
            raise SegError("classifier.kind=softmax: some images have no label; use auto, or logistic")
        return images, torch.from_numpy(data.labels[rows])

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy and accuracy; or the logistic loss and the share of images with all labels right."""
        images, labels = batch
        logits = model(images)
        if labels.is_floating_point():
            loss = F.binary_cross_entropy_with_logits(logits, labels)
            return loss, {"all_labels_right": ((logits > 0) == (labels > 0)).all(1).float().mean()}
        return F.cross_entropy(logits, labels), {"accuracy": (logits.argmax(1) == labels).float().mean()}

    def doubt(self, store: Products) -> str:
        """A line about a trained classifier that has learnt next to nothing; else empty.

        The measure is McFadden's pseudo R squared (1974): 1 - loss / loss of the class frequencies alone.
        """
        data: PreparedData = store.get(self.data)
        history, rows = self.history(store), self.samples(store)
        if history.empty:
            return ""
        loss = float(history["loss"].iloc[-1])
        if self.is_logistic(data):
            shares = data.is_labelled[rows].mean(0)
            by_frequencies = float((entr(shares) + entr(1 - shares)).mean())
        else:
            by_frequencies = float(entr(np.bincount(data.labels[rows]) / len(rows)).sum())
        if loss < (1 - LEAST_LEARNT) * by_frequencies:
            return ""
        return (
            f"the classifier has learnt little by epoch {self.wanted}: its loss is {loss:.2g}, and by the class "
            f"frequencies alone {by_frequencies:.2g}; CAMs and all after them may be wrong; give more epochs than "
            f"{self.wanted}, or another classifier.lr than {self.lr:g}"
        )

    def after_epoch(self, model: nn.Module, store: Products) -> None:
        if self.recalibrate == 0 or self.is_linear:
            return
        data: PreparedData = store.get(self.data)
        rows = self.samples(store)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), self.recalibrate)).round().astype(int)]
        model.train()
        for block in self.frozen(model):
            block.eval()
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
        momenta = [m.momentum for m in norms]
        like = next(model.parameters())  # of the training's device and precision
        with torch.no_grad():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over the batches
            parts = np.array_split(rows, max(1, len(rows) // 64))
            # The batch size affects the statistics, so it must not depend on the runtime as in `infer`.
            for part in store.runtime.bar(parts, "batch-norm statistics"):
                model(normalise(torch.from_numpy(data.images[part]).to(like.device)).to(like.dtype))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def held_out(self, model: nn.Module, store: Products) -> dict[str, float]:
        rows = self._rows(store)[1]
        if len(rows) == 0:
            return {}
        data: PreparedData = store.get(self.data)
        like = next(model.parameters())
        logistic = self.is_logistic(data)

        def answer(images: Tensor, _: np.ndarray) -> Tensor:
            logits: Tensor = model(images.to(like))
            return logits.detach().float() if logistic else logits.argmax(1)

        if self.is_linear:
            answers = answer(self._pooled(store)[rows], rows).cpu().numpy()
        else:
            answers = np.concatenate(list(infer(answer, data, rows, store.runtime, "held-out images")))
        if logistic:
            return {"held_out_map": mean_average_precision(answers, data.is_labelled[rows])}
        return {"held_out_accuracy": int((answers == data.labels[rows]).sum()) / len(rows)}

    def _pooled(self, store: Products) -> Tensor:
        """Features after the pooling, ``float32 (N, channels)``, 0 for test images; cached in the process."""
        kept: dict[str, Tensor] = store.runtime.kept.setdefault("pooled features", {})
        if self._content not in kept:
            data: PreparedData = store.get(self.data)
            with torch.random.fork_rng(devices=[]):
                model = self._make(2, self.weights).eval().to(store.runtime.device)
            rows, end = np.flatnonzero(~data.is_test), 0
            pooled = torch.zeros(len(data), model.channels)
            parts = infer(lambda images, _: model.features(images).mean((2, 3)), data, rows, store.runtime, "features")
            for part in parts:
                pooled[rows[end : (end := end + len(part))]] = torch.from_numpy(part)
            kept.clear()  # features of one network at a time
            kept[self._content] = pooled
        return kept[self._content]

    @cached_property
    def _content(self) -> str:
        return f"{self.data.id} {self.params()['weights']} {self.shape()}"

    def split(self, model: Any) -> tuple[nn.Module, nn.Module]:
        """The network before its pooling: what is frozen, and what follows; an empty part is ``nn.Identity``."""
        return model.split(self._stages(model))
