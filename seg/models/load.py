"""Loads a trained segmenter from its files."""

import dataclasses
import importlib
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg.data.dataset import MOST_CLASSES
from seg.errors import SegError, first_line
from seg.files import file_sha256
from seg.nets.augment import MEAN, STD
from seg.nets.checkpoints import LARGEST_SIDE, description, load_state, read_state_dict, saved_network
from seg.segmenter.architectures import KNOWN, Architecture, class_of
from seg.segmenter.labelled import labelled
from seg.store import Runtime


@dataclass(frozen=True)
class Model:
    """A trained segmenter, loaded by :func:`load_model`.

    Attributes:
        network: ``float32 (B, 3, H, W)`` normalised images to ``float32 (B, 1, H, W)`` logits, or with ``classes`` to
            ``(B, 1 + len(classes), H, W)``, the background's first; in ``eval`` mode.
        device: where it is.
        working_size: side in pixels to which images are squashed when they are decoded.
        input_size: side in pixels of what the network sees.
        mean, std: of the RGB channels in [0, 1], for the normalisation.
        info: the description, as JSON values; empty without one. path: the weights' file. sha256: of its bytes.
        classes: their names, () for foreground and background alone.
        aspect: images keep their aspect ratio; ``input_size`` is their longer side.
        flip: logits are averaged over an image and its mirror image.
    """

    network: nn.Module
    device: torch.device
    working_size: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    info: Mapping[str, Any]
    path: Path
    sha256: str
    classes: tuple[str, ...] = ()
    aspect: bool = False
    flip: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the codes in its masks, from 0 on."""
        return ("background", *(self.classes or ("foreground",)))


def load_model(
    path: str | Path, device: str = "auto", input_size: int | None = None, network: str | None = None
) -> Model:
    """Load a segmenter. Nothing that the files name is imported or downloaded.

    Args:
        path: a run's folder, or a file of plain weights (``.safetensors``, ``.pth``) that the JSON beside it or its own
            metadata describes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        input_size: side in pixels of the network's input; default: as described.
        network: the network's class, such as ``PlainUNet``, or ``my_segmenter.TinyNet``, whose module is imported;
            default: as described.

    Raises:
        SegError: no such model or device, or the file is damaged or no segmenter.
    """
    runtime = Runtime(accelerator=device)  # type: ignore[arg-type]
    try:
        runtime.check()
    except SegError as error:
        raise SegError(str(error).replace("runtime.accelerator", "device")) from error
    file = Path(path) if Path(path).is_file() else saved_network(Path(path), "segmenter")
    if file is None and Path(path, ".hydra").is_dir() and not Path(path, "metrics.json").exists():
        raise SegError(f"model={path}: this run has not finished; the same command again resumes it or says why")
    if file is None:
        raise SegError(
            f"model={path}: no such file, or no segmenter in that folder; give the folder of a finished run with "
            "segmenter=unet (of a sweep's job: with export.models=true) or a file of weights"
        )
    state, info = read_state_dict(file, key="model"), description(file)
    if info.get("role", "segmenter") != "segmenter":
        raise SegError(f"model={file}: its role is {reprlib.repr(info['role'])}: must be segmenter")
    size = input_size or info.get("input_size")
    if size is None:
        raise SegError(f"model={file}: nothing says at which size it works; add input_size=SIDE")
    net = _architecture(file, info, network)
    try:
        names = ["background", *map(str, info["classes"][1:])] if info.get("task") == "classes" else []
        mean, std = (tuple(map(float, info.get(key, usual))) for key, usual in (("mean", MEAN), ("std", STD)))
        sides = int(size), int(info.get("working_size", size))
        if not (
            net.smallest <= min(sides) <= max(sides) <= LARGEST_SIDE and len(mean) == len(std) == 3 and min(std) > 0
        ):
            raise ValueError(f"input_size={size} or mean and std; sides: {net.smallest} to {LARGEST_SIDE}")
        if names and not 2 <= len(names) <= MOST_CLASSES + 1:
            raise ValueError(f"{len(names)} classes")
        made = net.make(len(names) or 1)
        if labels := info.get("image_labels"):
            made = labelled(made, len(names) - 1, str(labels["backbone"]), int(labels["size"]))
    except (SegError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise SegError(
            f"model={file}: its description cannot be used ({first_line(error)}); take that of the run"
        ) from error
    load_state(made, state, f"model={file}: does not fit {net}")
    return Model(
        network=made.to(runtime.device).eval(),
        device=runtime.device,
        working_size=sides[1],
        input_size=sides[0],
        mean=mean,
        std=std,
        info=info,
        path=file,
        sha256=file_sha256(file),
        classes=tuple(names[1:]),
        aspect=info.get("aspect") is True,
    )


class _InBfloat16(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()


def faster(model: Model, *, bf16: bool = False, compiled: bool = False) -> Model:
    """The same model with faster computation, if the machine supports it.

    Args:
        model: of :func:`load_model`.
        bf16: use bfloat16; scores differ in the third digit. Slower on CPUs without it.
        compiled: use ``torch.compile``, which takes a minute and pays for many images.

    Raises:
        SegError: compilation fails.
    """
    network = _InBfloat16(model.network) if bf16 else model.network
    if compiled:
        network = torch.compile(network)  # type: ignore[assignment]
        side = model.input_size
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, side, side, device=model.device))
        except Exception as error:  # the compilers raise many kinds
            raise SegError(f"compile=true: impossible here ({first_line(error)}); leave it out") from error
    return dataclasses.replace(model, network=network)


def _architecture(file: Path, info: Mapping[str, Any], network: str | None) -> Architecture:
    """The architecture that ``network`` or the description of the weights names."""
    described = info.get("architecture")
    described = described if isinstance(described, Mapping) else {}
    cls = _imported(network) if network is not None else class_of(str(described.get("class")))
    if cls is None:
        raise SegError(
            f"model={file}: architecture: {reprlib.repr(described.get('class'))} is no network of weakseg, and no "
            f"module is imported because a file names it; add network= one of {', '.join(KNOWN)} or my_module.MyNet"
        )
    # Without pretrained weights, which would be read or downloaded in vain.
    params = {k: v for k, v in described.items() if k not in ("class", "weights", "weights_backbone")}
    try:
        return cls(**params).bare()
    except (SegError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SegError(f"model={file}: architecture: {first_line(error)}") from error


def _imported(network: str) -> type[Architecture]:
    """The class that ``network=`` names; its module may be imported, since the user typed it."""
    if network in KNOWN:
        return KNOWN[network]
    module, _, name = network.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except Exception as error:  # of the module, too
        raise SegError(
            f"network={network}: no such class ({first_line(error)}; is its folder in PYTHONPATH?)"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Architecture)):
        raise SegError(f"network={network}: is no seg.segmenter.architectures.Architecture")
    return cls
