"""Networks of segmentation_models_pytorch (smp): a decoder over an encoder, both by name."""

import logging
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.errors import SegError, did_you_mean, first_line
from seg.nets.augment import MEAN, STD
from seg.nets.backbones import InputAdapter
from seg.nets.pretrained import (
    TIMM,
    Published,
    Weights,
    create,
    hub_is_reached,
    is_timm,
    load_weights,
    own_code,
    published_weights,
    read_weights,
)

#: Prefix of timm's encoders in smp.
TU = "tu-"

#: Of the config, for messages.
SECTION = "segmenter.net."

Arch = Literal[
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
    "Segformer", "DPT",
]  # fmt: skip

#: Encoders of smp's that are left to timm: they have another normalisation than ImageNet's, or are old names of timm's.
_LEFT_TO_TIMM = ("timm-", "dpn", "inception", "xception")


def smp() -> Any:
    """The package; a SegError if it is missing."""
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise SegError(
            "segmenter=smp: needs segmentation-models-pytorch, which is not installed: pip install 'weakseg[smp]'"
        ) from error
    return segmentation_models_pytorch


def known_encoder(stage: Any, name: str) -> str:
    """As :func:`seg.nets.pretrained.known_backbone`, for an encoder of smp's."""
    if name in ("resnet18", "resnet50", "resnet101"):  # without importing smp
        return name
    own = [n for n in smp().encoders.encoders if not n.startswith(_LEFT_TO_TIMM)]
    if name in own:
        return name
    bare = name.removeprefix(TU)
    if name != bare and is_timm(bare):
        return name + own_code(bare)
    import timm

    names = [*own, *(TU + n for n in (*timm.list_models(), *timm.list_pretrained()))]
    near = did_you_mean(name, names, 3) or did_you_mean(TU + name, names, 3)
    raise SegError(f"segmenter.net.encoder={name}: smp has none of that name (timm's are tu-NAME){near}")


def encoder_weights(name: str) -> Published:
    """The weights of an encoder: timm's; or smp's, and torchvision's if it has the network too."""
    if name.startswith(TU):
        return published_weights(TIMM + name.removeprefix(TU))
    from torchvision import models

    def fetch(tag: str) -> dict[str, Any]:
        if not hub_is_reached():
            raise OSError("the Hugging Face hub does not answer")
        return dict(smp().encoders.get_encoder(name, weights=tag).state_dict())

    settings = smp().encoders.encoders[name]["pretrained_settings"]
    tags = [tag for tag in settings if tag != "advprop"]  # of another normalisation
    published: Published = {tag: Weights(tag, [f"{name}.{tag}"], partial(fetch, tag)) for tag in tags}
    if tags:
        published["DEFAULT"] = published["imagenet" if "imagenet" in tags else tags[0]]
    return published | (published_weights(name) if name in models.list_models(module=models) else {})


class AnySize(nn.Module):
    """A network of smp's for images of any size, normalised as ImageNet's.

    ``float (B, 3, H, W)`` to ``float (B, outputs, H, W)`` logits. Images are padded to a multiple of 32 with the mean
    colour, at the bottom and on the right, or resized for an encoder with a fixed input size.

    Args:
        model: smp's. adapt: to its encoder's normalisation and input size.
    """

    model: Any
    adapt: InputAdapter

    def __init__(self, model: nn.Module, adapt: InputAdapter) -> None:
        super().__init__()
        # The model is no submodule: its parts are registered here under their own names.
        self.__dict__ |= {"model": model, "adapt": adapt, "_modules": model._modules}

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if self.adapt.size:
            return F.interpolate(self.model(self.adapt(images)), (height, width), mode="bilinear")
        x, more = self.adapt(images), (-height % 32, -width % 32)
        if not torch.compiler.is_compiling() and more == (0, 0):  # an export for any size must not depend on this one
            return self.model(x)
        return self.model(F.pad(x, (0, more[1], 0, more[0])))[..., :height, :width]


def make_network(arch: Arch, encoder: str, weights: str | None, outputs: int) -> AnySize:
    """A network with random weights in its decoder.

    Args:
        arch: a class of smp's. encoder: smp's, such as ``resnet18``, ``mit_b0``; or timm's: ``tu-convnext_tiny``.
        weights: of the encoder. None for random ones; else as for :func:`seg.nets.pretrained.load_weights`, or smp's
            names: ``imagenet``, ``ssl``.
        outputs: channels of the output.

    Returns:
        A ``float32`` model on the CPU.

    Raises:
        SegError: an unknown name, a decoder and an encoder that do not go together, or weights that are missing,
            broken, of another architecture, or cannot be downloaded.
    """
    known_encoder(None, encoder)
    options: dict[str, Any] = {"encoder_weights": None, "classes": outputs}
    config: Any = None
    if encoder.startswith(TU):
        import timm

        name = TIMM + (bare := encoder.removeprefix(TU))
        config = timm.models.get_pretrained_cfg(bare, allow_unregistered=True)
        if weights is not None:
            # timm maps a classifier's state dict to the network of features.
            classifier: Any = create(name)
            head = classifier.pretrained_cfg["classifier"]
            load_weights(classifier, head if isinstance(head, str) else head[0], name, weights, SECTION)
            source = {"source": "", "state_dict": classifier.state_dict()}
            options |= {"encoder_weights": True, "pretrained_cfg_overlay": source}
            logging.getLogger("timm.models._builder").setLevel(logging.ERROR)  # it warns that the head is not used
    try:
        model = smp().create_model(arch, encoder, **options)
    except Exception as error:  # of smp, timm or the network itself
        raise SegError(
            f"segmenter.net: arch={arch} does not go with encoder={encoder} ({first_line(error)[:150]}); take another "
            "of either"
        ) from error
    for module in model.modules():  # they need not keep a second copy of the weights
        getattr(module, "pretrained_cfg", {}).pop("state_dict", None)
    if weights is not None and config is None:
        _, state = read_weights(encoder, weights, SECTION, encoder_weights)
        try:
            model.encoder.load_state_dict(state)
        except RuntimeError as error:
            text = " ".join(str(error).split()[:20])
            raise SegError(f"{SECTION}weights={weights}: does not fit {encoder}: {text}") from error
    mean, std = getattr(config, "mean", MEAN), getattr(config, "std", STD)
    size = list(config.input_size[1:]) if getattr(config, "fixed_input_size", False) else None
    return AnySize(model, InputAdapter(mean, std, 1, size))
