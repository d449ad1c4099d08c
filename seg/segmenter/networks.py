"""The networks that a segmenter can be, as small stages: their parameters enter the segmenter's key."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from seg.backbones import make_classifier
from seg.errors import SegError
from seg.segmenter.unet import EncoderUNet, UNet
from seg.stage import Stage, param
from seg.store import Store


class Network(Stage):
    """Base: ``load`` returns a fresh network, ``(B, 3, H, W)`` images to ``(B, 1, H, W)`` logits."""

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "network"

    @property
    def smallest(self) -> int:
        """Side in pixels of the smallest image that it takes."""
        return 32

    def bare(self) -> "Network":
        """The same architecture for weights that come from elsewhere: it reads and fetches none itself."""
        names = {f.name for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **{k: None for k in ("weights", "weights_backbone") if k in names})


class PlainUNet(Network):
    """:class:`seg.segmenter.unet.UNet` with random weights."""

    width: int = param(default=16, low=1)
    depth: int = param(default=4, low=1, high=6)

    @property
    def smallest(self) -> int:
        """Every level but the first halves."""
        return int(2**self.depth)

    def load(self, path: Path, store: Store) -> nn.Module:
        """A fresh U-Net."""
        return UNet(self.width, self.depth)


class BackboneUNet(Network):
    """:class:`seg.segmenter.unet.EncoderUNet` over a torchvision classifier.

    Attributes:
        encoder: torchvision's name. weights: as for :func:`seg.backbones.make_classifier`.
        width: channels of the decoder's finest level.
    """

    encoder: str = param(default="resnet18")
    weights: str | None = param(default="DEFAULT", file=True)
    width: int = param(default=32, low=1)

    def check(self, store: Store) -> None:
        """Load the weights once, before anything long."""
        EncoderUNet(make_classifier(self.encoder, 2, self.weights), self.width)

    def load(self, path: Path, store: Store) -> nn.Module:
        """A fresh U-Net whose encoder has its weights."""
        return EncoderUNet(make_classifier(self.encoder, 2, self.weights), self.width)


class TorchvisionNetwork(Network):
    """A segmentation model of torchvision's with one output.

    Attributes:
        name: such as ``deeplabv3_resnet50``, ``deeplabv3_mobilenet_v3_large``, ``fcn_resnet50``,
            ``lraspp_mobilenet_v3_large``.
        weights_backbone: null, or a member of the enum of its backbone's weights, such as ``DEFAULT``.
    """

    name: str = param(default="deeplabv3_mobilenet_v3_large")
    weights_backbone: str | None = param(default=None)

    def check(self, store: Store) -> None:
        """Build it once, which also fetches its weights."""
        self.load(Path(), store)

    def load(self, path: Path, store: Store) -> nn.Module:
        """A fresh model that returns its main output only."""
        from torchvision.models import get_model, list_models, segmentation

        names = list_models(module=segmentation)
        if self.name not in names:
            raise SegError(f"segmenter.network.name={self.name}: must be one of {', '.join(names)}")
        try:
            model = get_model(self.name, weights=None, weights_backbone=self.weights_backbone, num_classes=1)
        except (OSError, ValueError, KeyError) as error:
            raise SegError(
                f"segmenter.network.weights_backbone={self.weights_backbone}: cannot be had for {self.name} "
                f"({error}); offline, use weights_backbone=null"
            ) from error
        return MainOutput(model)


class MainOutput(nn.Module):
    """torchvision's segmentation models return a dictionary; take ``out`` of it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, 1, H, W)``."""
        out: Tensor = self.model(images)["out"]
        return out
