"""AffinityNet as a stage, trained or with frozen features."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.errors import SegError
from seg.masks import MaskSet, Threshold
from seg.methods.affinity import AffinityNet, FrozenAffinityNet, Pyramid, affinity_loss
from seg.nets.backbones import Backbone, make_classifier
from seg.nets.checkpoints import load_state
from seg.nets.pretrained import known_backbone, weights_of
from seg.store import Products, Stage, param
from seg.supervision.classifier import Classifier
from seg.train import NetworkStage, Training


class OnBackbone(Stage):
    """Base: a network on levels of a backbone.

    Attributes:
        backbone: as for the classifier. weights: of the backbone; null for those of the trained ``classifier``.
        strides: of the levels to use.
        radius: of the walk's pairs, in cells of the grid (a quarter of the working resolution).
    """

    backbone: str = param(default="resnet18", content=known_backbone)
    weights: str | None = param(default=None, content=weights_of("backbone"))
    classifier: NetworkStage | None = param(default=None, key=False)  # upstream if it is used
    strides: tuple[int, ...] = param(default=(8, 16))
    radius: float = param(default=5.0, above=1)

    def validate(self) -> None:
        super().validate()
        if not self.strides or set(self.strides) - {1, 2, 4, 8, 16, 32}:
            raise SegError(f"data.refine.levels={list(self.strides)}: must be levels of a backbone: 1, 2, 4, 8, 16, 32")

    def upstream(self) -> dict[str, Stage]:
        return {k: v for k, v in super().upstream().items() if self.weights is None or k != "classifier"}

    def check(self, store: Products) -> None:
        if self.weights is None and (other := self._design().backbone) != self.backbone:
            raise SegError(
                f"refiner: backbone={self.backbone} has no weights and cannot start from a classifier of "
                f"{other}; give weights= or use one backbone for both"
            )
        self._net(self._fresh())

    def _design(self) -> Classifier:
        if self.classifier is None:
            raise SegError("refiner: AffinityNet needs weights= (ImageNet's, or a file) or a classifier")
        return self.classifier.designed_as(Classifier, "refiner: classifier")

    def _fresh(self) -> Backbone:
        # A classifier may lack its last stage.
        return make_classifier(self.backbone, 2, self.weights, self._design().stages if self.weights is None else 4)

    def _started(self, store: Products) -> Backbone:
        backbone = self._fresh()
        if self.weights is None and self.classifier is not None:
            # A copy of its weights: a dilated classifier lacks the coarse levels, and the store shares the product.
            trained = {k: v.cpu() for k, v in store.get(self.classifier).state_dict().items()}
            load_state(backbone, trained, "the classifier does not fit affinity's backbone", head=backbone.head)
        return backbone

    def _net(self, backbone: nn.Module) -> Pyramid:
        return FrozenAffinityNet(backbone, self.strides, self.radius)


class Affinity(OnBackbone, Training):
    """AffinityNet, trained on the confident seeds of trainval's images.

    Attributes:
        seeds: confident foreground and background, the rest ignored.
        channels: width of each level's 1 x 1 convolution and of the embedding.
        train_radius: reach of the pairs learnt from; it has to span the gap between seeds of both kinds.
        pairs: so many of these pairs' offsets are drawn for every step.
        train_backbone: whether the backbone learns too.
    """

    what: ClassVar[str] = "AffinityNet"
    role: ClassVar[str] = "affinity"

    seeds: Threshold
    strides: tuple[int, ...] = param(default=(4, 8, 16))
    channels: int = param(default=32, low=1)
    train_radius: float = param(default=12.0, above=1)
    pairs: int = param(default=8, low=1)
    train_backbone: bool = param(default=False)

    def shape(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("backbone", "strides", "channels", "radius")}

    def empty(self, store: Products) -> nn.Module:
        # A classifier's missing last stage is no level of AffinityNet's, so nothing of it has to be known.
        return self._net(make_classifier(self.backbone, 2, None))

    def network(self, store: Products) -> nn.Module:
        """AffinityNet with its backbone's weights and fresh 1 x 1 convolutions."""
        backbone = self._started(store)
        torch.manual_seed(self.seed)
        return self._net(backbone)

    def _net(self, backbone: nn.Module) -> AffinityNet:
        names = ("strides", "channels", "radius", "train_radius", "train_backbone")
        return AffinityNet(backbone, **{name: getattr(self, name) for name in names})

    def samples(self, store: Products) -> np.ndarray:
        seeds: MaskSet = store.get(self.seeds)
        return np.flatnonzero(~seeds.data.is_test[seeds.rows])

    def batch(self, rows: np.ndarray, generator: torch.Generator, store: Products) -> tuple[Tensor, ...]:
        """Augmented images ``(B, 3, S, S)`` and seeds ``uint8 (B, S / 4, S / 4)``."""
        seeds: MaskSet = store.get(self.seeds)
        images, masks = self.augmented(seeds.data.images[seeds.rows[rows]], seeds.at(rows), generator)
        return images, to_grid(masks)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        images, seeds = batch
        net: Any = getattr(model, "module", model)
        offsets = net.draw_offsets(self.pairs)
        return affinity_loss(model(images, offsets), seeds, offsets), {}


class FrozenAffinity(OnBackbone):
    """Affinities of the backbone's features without training, for comparison."""

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "frozen features"

    def load(self, path: Path, store: Products) -> Pyramid:
        return self._net(self._started(store)).to(store.runtime.device).eval()


def to_grid(masks: Tensor) -> Tensor:
    """``uint8 (B, H, W)`` labels to ``(B, ceil(H / 4), ceil(W / 4))`` by the nearest pixel."""
    size = [-(-s // 4) for s in masks.shape[-2:]]
    return F.interpolate(masks[:, None].float(), size, mode="nearest-exact")[:, 0].to(torch.uint8)
