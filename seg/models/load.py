"""A trained segmenter from its files, ready to use."""

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
from seg.nets.checkpoints import LARGEST_SIDE, ROLES, description, fitting, saved_network
from seg.nets.state_dicts import read_state_dict
from seg.segmenter.architectures import KNOWN, Architecture, class_of
from seg.store import Runtime


@dataclass(frozen=True)
class Model:
    """A trained segmenter, ready to use; made by :func:`load_model`.

    Attributes:
        network: ``float32 (B, 3, H, W)`` normalised images to ``float32 (B, 1, H, W)`` logits, or with ``classes`` to
            ``(B, 1 + len(classes), H, W)``, the background's first; in ``eval`` mode.
        device: where it is.
        working_size: side in pixels to which images are squashed when they are decoded.
        input_size: side in pixels of what the network sees.
        mean, std: of the RGB channels in [0, 1], for the normalisation.
        info: the JSON beside the weights, or what their file says itself; empty without both.
        path: the weights' file. sha256: of its bytes.
        classes: names of those that it tells apart, () if it knows the foreground alone.
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

    @property
    def names(self) -> tuple[str, ...]:
        """What the codes of its masks mean, from 0 on."""
        return ("background", *(self.classes or ("foreground",)))


def find_model(path: Path) -> Path:
    """The segmenter's weights that a run's folder, its ``models`` folder or a file stands for.

    Raises:
        SegError: there is none, with what to do about it.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise SegError(f"model={path}: no such file or folder; give a run's folder or a file of weights")
    if file := saved_network(path, "segmenter"):
        return file
    if others := [role for role in ROLES if saved_network(path, role)]:
        raise SegError(
            f"model={path}: that run has {' and '.join(others)} but no segmenter; run it with segmenter=unet"
        )
    raise SegError(
        f"model={path}: no networks in it; give the folder of a finished run (of a sweep's job: export.models=true)"
    )


def load_model(
    path: str | Path, device: str = "auto", input_size: int | None = None, network: str | None = None
) -> Model:
    """Load a segmenter for ``seg.predict``.

    The files may be a stranger's: nothing that they name is imported or fetched.

    Args:
        path: a run's folder, or a file of plain weights (``.safetensors``, ``.pth``) that the JSON beside it or its own
            metadata describes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        input_size: side in pixels of what the network sees; None for what is written of it; needed where nothing is.
        network: the class of the network, where nothing is written of it or it is your own: ``PlainUNet``, or
            ``my_segmenter.TinyNet``, whose module is imported.

    Returns:
        The model, in ``eval`` mode on the device.

    Raises:
        SegError: no such model, a file that is broken or no segmenter, or a device that is not there.
    """
    try:
        runtime = Runtime(accelerator=device)  # type: ignore[arg-type]
        runtime.check()
    except SegError as error:
        raise SegError(str(error).replace("runtime.accelerator", "device")) from error
    file = find_model(Path(path))
    state, info = read_state_dict(file, key="model"), description(file)

    if info.get("role", "segmenter") != "segmenter":
        raise SegError(f"model={file}: its role is {reprlib.repr(info['role'])}: must be segmenter")
    size = input_size or info.get("input_size")
    if size is None:
        raise SegError(
            f"model={file}: neither it nor {file.stem}.json says at which size it works; add input_size=SIDE"
        )
    classes = info.get("task", "foreground") == "classes"
    mean, std, working_size = info.get("mean", MEAN), info.get("std", STD), info.get("working_size", size)
    names: Any = info.get("classes") if classes else ["background", "foreground"]
    if not (_are_three(mean) and _are_three(std) and min(std) > 0 and _are_names(names)):
        raise SegError(f"model={file}: its description has no usable mean, std or classes; use the JSON of the run")
    if not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in (size, working_size)):
        raise SegError(f"model={file}: its input_size and working_size must be whole numbers from 1 to {LARGEST_SIDE}")
    net = _architecture(file, info, network)
    if not net.smallest <= size <= LARGEST_SIDE:
        raise SegError(f"model={file}: input_size={size}: must lie in [{net.smallest}, {LARGEST_SIDE}] for {net}")
    return Model(
        network=_filled(net, len(names) if classes else 1, state, file).to(runtime.device).eval(),
        device=runtime.device,
        working_size=working_size,
        input_size=size,
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        info=info,
        path=file,
        sha256=file_sha256(file),
        classes=tuple(names[1:]) if classes else (),
    )


def _are_three(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(type(x) in (int, float) for x in value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and 2 <= len(value) <= MOST_CLASSES + 1 and all(isinstance(x, str) for x in value)


def _filled(net: Architecture, outputs: int, state: Mapping[str, Tensor], file: Path) -> nn.Module:
    """The network with its weights."""
    model = net.make(outputs)
    model.load_state_dict(fitting(model, state, f"model={file}", str(net)), strict=False)
    return model


def _architecture(file: Path, info: Mapping[str, Any], network: str | None) -> Architecture:
    """The architecture that is written of some weights, or that ``network`` names."""
    described = info.get("architecture")
    described = described if isinstance(described, Mapping) else {}
    name = described.get("class")
    cls = class_of(str(name)) if network is None else _imported(network)
    if cls is None and name is None:
        raise SegError(
            f"model={file}: neither it nor {file.stem}.json says which network it is; give a run's folder, or add "
            f"network= one of {', '.join(KNOWN)} or my_module.MyNet"
        )
    if cls is None:
        raise SegError(
            f"model={file}: architecture: {reprlib.repr(name)} is no network of weakseg, and no module is imported "
            "because a file names it; if it is yours, add network=my_module.MyNet"
        )
    # Those to start from are of no use here, and they would be read or fetched.
    params = {k: v for k, v in described.items() if k not in ("class", "weights", "weights_backbone")}
    try:
        return cls(**params).bare()
    except (SegError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SegError(f"model={file}: architecture: {first_line(error)}") from error


def _imported(network: str) -> type[Architecture]:
    """The class that ``network=`` names: what is typed may be imported."""
    if network in KNOWN:
        return KNOWN[network]
    place, _, name = network.rpartition(".")
    try:
        cls = getattr(importlib.import_module(place), name)
    except Exception as error:  # of the module, too
        where = "Python looks in the folder of python -m seg.predict, and in those of PYTHONPATH"
        raise SegError(f"network={network}: no such class ({first_line(error)}; {where})") from error
    if not (isinstance(cls, type) and issubclass(cls, Architecture)):
        raise SegError(f"network={network}: is no seg.segmenter.architectures.Architecture")
    return cls
