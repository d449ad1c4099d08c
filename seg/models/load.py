"""A trained segmenter from its files, ready to use."""

import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg.data.dataset import MOST_CLASSES
from seg.errors import SegError, first_line
from seg.files import file_sha256
from seg.nets.augment import MEAN, STD
from seg.nets.checkpoints import LARGEST_SIDE, ROLES, description, fit_into, fitting, saved_network
from seg.nets.state_dicts import read_state_dict
from seg.segmenter.architectures import Architecture, class_of
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
    others = {role: file for role in ROLES if (file := saved_network(path, role))}
    if not others:
        raise SegError(f"model={path}: no networks in it; give the folder of a finished run, or a file of weights")
    typed = str(description([*others.values()][-1]).get("command") or "python -m seg.run ...")
    typed = " ".join(typed[:1000].split())
    raise SegError(
        f"model={path}: that run has {' and '.join(others)} but no segmenter, which masks for other images need; "
        f"add one to it: {typed} segmenter=unet"
    )


def load_model(
    path: str | Path, device: str = "auto", input_size: int | None = None, network: str | None = None
) -> Model:
    """Load a segmenter for ``seg.predict``.

    The files may be a stranger's: nothing that they name is imported or fetched.

    Args:
        path: a run's folder, or a file of plain weights (``.safetensors``, ``.pth``). The JSON beside it or the file
            itself says what it is; else the architecture is recognised from the names and shapes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        input_size: side in pixels of what the network sees; None for what is written of it; needed where nothing is.
        network: of a network of your own: its class, as ``my_segmenter.TinyNet``, which is imported. Not needed where
            that module is imported already.

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
    state = read_state_dict(file, key="model")
    info = description(file)
    net, classes = _architecture(file, info, state, network)
    size = input_size or _side(info, "input_size", file)
    if not size:
        raise SegError(
            f"model={file}: neither it nor {file.stem}.json beside it says at which size it works; add input_size=224"
        )
    if not net.smallest <= size <= LARGEST_SIDE:
        raise SegError(
            f"model={file}: input_size={size}: must lie in [{net.smallest}, {LARGEST_SIDE}] for this network"
        )
    working_size, mean, std = (
        _side(info, "working_size", file),
        _channels(info, "mean", file),
        _channels(info, "std", file),
    )
    if std is not None and min(std) <= 0:
        raise SegError(f"model={file}: its std is {list(std)}: must be above 0")
    return Model(
        network=_filled(net, len(classes) + 1, state, file).to(runtime.device).eval(),
        device=runtime.device,
        working_size=working_size or size,
        input_size=size,
        mean=mean or MEAN,
        std=std or STD,
        info=info,
        path=file,
        sha256=file_sha256(file),
        classes=classes,
    )


def _side(info: Mapping[str, Any], key: str, file: Path) -> int | None:
    """A side in pixels that is written of a model, or None."""
    value = info.get(key)
    if value is not None and (type(value) is not int or not 1 <= value <= LARGEST_SIDE):
        raise SegError(f"model={file}: its {key} is {_shown(value)}: must be a whole number from 1 to {LARGEST_SIDE}")
    return value


def _channels(info: Mapping[str, Any], key: str, file: Path) -> tuple[float, ...] | None:
    """A number per channel that is written of a model, or None."""
    value: Any = info.get(key)
    if value is None:
        return None
    good = isinstance(value, list) and len(value) == 3 and all(type(x) in (int, float) for x in value)
    if not good or not all(abs(x) < 1e6 and math.isfinite(x) for x in value):
        raise SegError(f"model={file}: its {key} is {_shown(value)}: must be three numbers, of red, green and blue")
    return tuple(map(float, value))


def _shown(value: object) -> str:
    """What a file says, short."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # a number of more digits than Python writes
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def _classes(info: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """The names of the classes that a model is told to tell apart, () for the foreground alone."""
    task, names = info.get("task", "foreground"), info.get("classes")
    if task == "foreground":
        return ()
    if task != "classes":
        raise SegError(f"model={file}: its task is {_shown(task)}: must be foreground or classes")
    if isinstance(names, list) and 2 <= len(names) <= MOST_CLASSES + 1 and all(isinstance(name, str) for name in names):
        return tuple(names[1:])
    raise SegError(
        f"model={file}: its classes are {_shown(names)}: must be names, of the background and of 1 to {MOST_CLASSES} "
        "classes"
    )


def _filled(net: Architecture, outputs: int, state: Mapping[str, torch.Tensor], file: Path) -> nn.Module:
    """The network with its weights; what is described takes no memory before it fits what the file holds."""

    def make() -> nn.Module:
        if outputs == 1:
            return net.make()
        try:
            return net.make(outputs)
        except TypeError as error:  # one's own may know the foreground alone
            name = type(net).__name__
            raise SegError(
                f"model={file}: it has {outputs} outputs, and {name}.make takes no number of them ({first_line(error)})"
            ) from error

    try:
        with torch.device("meta"):
            outline = make()
    except Exception as error:
        if type(net).__module__ == Architecture.__module__:
            raise SegError(f"model={file}: architecture: {first_line(error)[:120]}") from error
        outline = None  # one's own may compute with tensors
    if outline is not None:
        fitting(outline, state, file, "model")
    model = make()
    fit_into(model, state, file, "model")
    return model


def _architecture(
    file: Path, info: Mapping[str, Any], state: Mapping[str, torch.Tensor], network: str | None
) -> tuple[Architecture, tuple[str, ...]]:
    """The architecture that is written of some weights or that they show, without weights of its own; the classes."""
    described: Any = info.get("architecture")
    role, classes = info.get("role"), _classes(info, file)
    if described is None and network is not None:
        role, described = "segmenter", {"class": network}
    elif described is None:
        from seg.nets.recognise import recognise  # and with it torchvision, for longer than PyTorch

        fits = recognise(state)
        role, described = (fits.role, fits.network) if fits else (None, None)
        if fits is not None and not classes and role == "segmenter":
            classes = tuple(f"class {code}" for code in range(1, fits.classes or 1))
            if len(classes) > MOST_CLASSES:
                raise SegError(f"model={file}: tells {len(classes)} classes apart; a mask has room for {MOST_CLASSES}")
    if role != "segmenter" or not isinstance(described, Mapping):
        what = f"it is of a {role if role in ROLES else _shown(role)}" if role else "not known as a network"
        raise SegError(f"model={file}: {what}, not a segmenter")
    name = str(described.get("class") or described.get("_target_"))  # which older runs wrote
    cls = class_of(name) if network is None else _imported(network)
    if cls is None:
        own = re.fullmatch(r"\w+(\.\w+)+", name)
        raise SegError(
            f"model={file}: architecture: {_shown(name)} is no network of weakseg, and no module is imported because a "
            f"file names it; if it is yours, add network={name if own and len(name) < 200 else 'my_module.MyNet'}"
        )
    # Those to start from are of no use here, and they would be read or fetched.
    params = {k: v for k, v in described.items() if k not in ("class", "_target_", "weights", "weights_backbone")}
    try:
        return cls(**params).bare(), classes
    except (SegError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SegError(f"model={file}: architecture: {first_line(error)}") from error


def _imported(network: str) -> type[Architecture]:
    """The class that ``network=`` names: what is typed may be imported."""
    place, _, name = network.rpartition(".")
    try:
        cls = getattr(importlib.import_module(place), name)
    except Exception as error:  # of the module, too
        where = "Python looks in the folder of python -m seg.predict, and in those of PYTHONPATH"
        raise SegError(f"network={network}: no such class ({first_line(error)}; {where})") from error
    if not (isinstance(cls, type) and issubclass(cls, Architecture)):
        raise SegError(f"network={network}: is no seg.segmenter.architectures.Architecture")
    return cls
