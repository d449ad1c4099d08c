"""Networks of a segmenter, with their parameters."""

import dataclasses
from typing import Any

from torch import nn

from seg.nets.backbones import make_classifier
from seg.nets.pretrained import known_backbone, weights_of
from seg.nets.smp import SECTION, Arch, encoder_weights, known_encoder, make_network
from seg.nets.unet import EncoderUNet, UNet
from seg.store import Parameters, param

#: Classes by module and name.
_IMPORTED: dict[str, type["Architecture"]] = {}


class Architecture(Parameters):
    """Base: a network from ``(B, 3, H, W)`` images to ``(B, outputs, H, W)`` logits; its fields enter the key."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _IMPORTED[f"{cls.__module__}.{cls.__qualname__}"] = cls

    @property
    def smallest(self) -> int:
        """Side in pixels of the smallest accepted image."""
        return 32

    def make(self, outputs: int = 1) -> nn.Module:
        """A new network; ``outputs`` is 1 for the foreground, or 1 + number of classes."""
        raise TypeError(f"{type(self).__name__} has no make()")

    def bare(self) -> "Architecture":
        """The same network without pretrained weights, for loading a checkpoint."""
        names = {f.name for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **{k: None for k in ("weights", "weights_backbone") if k in names})


class PlainUNet(Architecture):
    """:class:`seg.nets.unet.UNet` with random weights."""

    width: int = param(default=16, low=1)
    depth: int = param(default=4, low=1, high=6)

    @property
    def smallest(self) -> int:
        return int(2**self.depth)

    def make(self, outputs: int = 1) -> nn.Module:
        return UNet(self.width, self.depth, outputs)


class BackboneUNet(Architecture):
    """:class:`seg.nets.unet.EncoderUNet` on a backbone.

    Attributes:
        encoder: torchvision's name, or ``timm/NAME``. weights: as for :func:`seg.nets.backbones.make_classifier`.
        width: channels of the finest level of the decoder.
    """

    encoder: str = param(default="resnet18", content=known_backbone)
    weights: str | None = param(default="DEFAULT", content=weights_of("encoder", SECTION))
    width: int = param(default=32, low=1)

    def make(self, outputs: int = 1) -> nn.Module:
        return EncoderUNet(make_classifier(self.encoder, 2, self.weights, section=SECTION), self.width, outputs)


class SMPNetwork(Architecture):
    """A network of segmentation_models_pytorch: a decoder on an encoder.

    Attributes:
        arch, encoder, weights: as for :func:`seg.nets.smp.make_network`.
    """

    arch: Arch = param(default="Unet")
    encoder: str = param(default="resnet18", content=known_encoder)
    weights: str | None = param(default="DEFAULT", content=weights_of("encoder", SECTION, published=encoder_weights))

    @property
    def smallest(self) -> int:
        return 128 if self.arch == "PAN" else 32

    def make(self, outputs: int = 1) -> nn.Module:
        return make_network(self.arch, self.encoder, self.weights, outputs)


#: Networks by the names that model files use.
KNOWN: dict[str, type[Architecture]] = {cls.__name__: cls for cls in (PlainUNet, BackboneUNet, SMPNetwork)}


def name_of(net: Architecture) -> str:
    """A network's name in model files: that of :data:`KNOWN`, else with its module."""
    name = type(net).__qualname__
    return name if KNOWN.get(name) is type(net) else f"{type(net).__module__}.{name}"


def class_of(name: str) -> type[Architecture] | None:
    """The class of a name in a model file: one of :data:`KNOWN`, or one that is already imported.

    Nothing is imported, because a file must not decide which code runs.
    """
    return KNOWN.get(name) or _IMPORTED.get(name)
