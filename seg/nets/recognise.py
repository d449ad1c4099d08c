"""Which network do these weights fit? Told from the names and shapes of a state dict alone."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from seg.errors import SegError
from seg.nets.backbones import backbone_blocks, levels_by_stride, split_at_pooling

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Recognised:
    """A network that a state dict fits.

    Attributes:
        role: ``classifier``, ``affinity`` or ``segmenter``.
        config: overrides of a run whose network it would be, where they can be told.
        classes: of a classifier; of a segmenter its outputs where it tells classes apart, the background among them.
        network: of a segmenter: the name (``class``) and the parameters of its architecture.
    """

    role: str
    config: tuple[str, ...]
    classes: int | None = None
    network: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        of = f" of {self.classes} classes" if self.classes is not None else ""
        return f"a {self.role}{of} ({' '.join(self.config)})"


def recognise(state: Mapping[str, Tensor]) -> Recognised | None:
    """The network that a state dict fits, or None if it is none of ours.

    Args:
        state: tensors by name, without a wrapper or a prefix.

    Returns:
        What could be told. Backbones are looked for among torchvision's; a few (RegNet) are not recognised.
    """
    try:
        return _recognised(_shapes(state))
    except (IndexError, KeyError):  # the names of one of ours, but tensors of other dimensions
        return None


def _recognised(shapes: Shapes) -> Recognised | None:
    if "mix.weight" in shapes:
        return _affinity(shapes)
    if "down.0.0.weight" in shapes and "head.weight" in shapes:
        width, depth = shapes["down.0.0.weight"][0], sum(bool(re.fullmatch(r"up\.\d+\.weight", k)) for k in shapes)
        config = ("segmenter=unet", f"segmenter.net.width={width}", f"segmenter.net.depth={depth}")
        return _segmenter(config, shapes["head.weight"][0], _network("PlainUNet", width=width, depth=depth))
    if any(k.startswith("encoder.") for k in shapes) and "head.weight" in shapes:
        return _encoder_unet(shapes)
    return _torchvision_segmenter(shapes) or _classifier(shapes)


def _segmenter(config: tuple[str, ...], outputs: int, network: Mapping[str, Any]) -> Recognised:
    if outputs == 1:
        return Recognised("segmenter", config, network=network)
    return Recognised("segmenter", ("task=classes", *config), outputs, network)


def _network(kind: str, /, **params: Any) -> dict[str, Any]:
    return {"class": kind, **params}


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {k: tuple(v.shape) for k, v in state.items() if "num_batches" not in k}


def _below(prefix: str, shapes: Shapes) -> Shapes:
    return {k.removeprefix(prefix): v for k, v in shapes.items() if k.startswith(prefix)}


def _candidates(segmentation: bool = False, **options: Any) -> Iterator[tuple[str, nn.Module]]:
    """torchvision's models by name, without memory for their weights; the common ones first."""
    from torchvision import models  # here: it takes as long as PyTorch, and a dry run needs none

    module = models.segmentation if segmentation else models
    names = models.list_models(module=module)
    for name in sorted(names, key=lambda n: (not n.startswith(("resnet", "mobilenet_v2", "deeplab")), n)):
        try:
            with torch.device("meta"):
                yield name, models.get_model(name, **options)
        except RuntimeError:  # its constructor computes with tensors, and these have no values
            continue


def _classifier(shapes: Shapes) -> Recognised | None:
    for name, model in _candidates():
        own = _shapes(model.state_dict())
        # A classifier may lack a ResNet's last stage, and its head is of the data's classes.
        shortened = not any(k.startswith("layer4.") for k in shapes)
        if shortened:
            own = {k: v for k, v in own.items() if not k.startswith("layer4.")}
        heads = {k for k in shapes if k in own and own[k] != shapes[k]}
        if own.keys() != shapes.keys() or len({k.rpartition(".")[0] for k in heads}) > 1:
            continue
        try:
            head = split_at_pooling(model, name)[1]
        except SegError:  # no CAM, so no use
            continue
        if not {k.rpartition(".")[0] for k in heads} <= {head}:
            continue
        config = [f"backbone={name}"]
        if type(model).__name__ == "ResNet":
            config.append(f"classifier.stages={3 if shortened else 4}")
        return Recognised("classifier", tuple(config), classes=shapes[f"{head}.weight"][0])
    return None


def _torchvision_segmenter(shapes: Shapes) -> Recognised | None:
    shapes = {k.removeprefix("model."): v for k, v in shapes.items() if "aux_classifier." not in k}
    if not any(k.startswith("backbone.") for k in shapes):
        return None
    for name, model in _candidates(segmentation=True, weights=None, weights_backbone=None, num_classes=1):
        own = _shapes(model.state_dict())
        if own.keys() == shapes.keys() and all(own[k][1:] == shapes[k][1:] for k in own if k.startswith("backbone.")):
            outputs = next(v[0] for k, v in reversed(shapes.items()) if not k.startswith("backbone."))
            config = ("segmenter=deeplabv3", f"segmenter.net.name={name}")
            return _segmenter(config, outputs, _network("TorchvisionNetwork", name=name))
    return None


def _encoder_unet(shapes: Shapes) -> Recognised | None:
    encoder = _below("encoder.", shapes)
    width = shapes["head.weight"][1]
    for name, model in _candidates():
        if _shapes(backbone_blocks(model).state_dict()) == encoder:
            network = _network("BackboneUNet", encoder=name, weights=None, width=width)
            config = ("segmenter=unet_resnet18", f"segmenter.net.encoder={name}", f"segmenter.net.width={width}")
            return _segmenter(config, shapes["head.weight"][0], network)
    return None


def _affinity(shapes: Shapes) -> Recognised:
    channels = shapes["mix.weight"][0]
    widths = [v[0] for k, v in shapes.items() if re.fullmatch(r"norm\.\d+\.running_mean", k)]
    place = "refiner.scores.affinity"
    config = ["refiner=affinity", f"{place}.channels={channels}"]
    given = _below("blocks.", shapes)
    if not given:  # it looks at the image itself alone, and any backbone will do
        return Recognised("affinity", (*config, f"{place}.strides=[1]"))
    for name, model in _candidates():
        own = _shapes(backbone_blocks(model).state_dict())
        # The backbone is cut after the coarsest level.
        count = 1 + max(int(k.partition(".")[0]) for k in given)
        if {k: v for k, v in own.items() if int(k.partition(".")[0]) < count} == given:
            strides = _strides(model, widths)
            levels = (f"{place}.strides=[{','.join(map(str, strides))}]",) if strides else ()
            return Recognised("affinity", (f"backbone={name}", *config, *levels))
    return Recognised("affinity", tuple(config))


def _strides(model: nn.Module, widths: list[int]) -> list[int]:
    """Strides of the levels of these widths, the coarser where two are equally wide; empty if there are none."""
    with torch.device("meta"):
        by_width = {width: stride for stride, width in sorted(levels_by_stride(backbone_blocks(model))[1].items())}
    return [by_width[w] for w in widths] if by_width.keys() >= set(widths) else []
