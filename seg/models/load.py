"""A trained segmenter from its files, ready to use."""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg.errors import SegError
from seg.files import file_sha256
from seg.nets.augment import MEAN, STD
from seg.nets.given import ROLES, description, fit_into, saved_network
from seg.nets.state_dicts import read_state_dict
from seg.segmenter.architectures import Architecture
from seg.store import Runtime


@dataclass(frozen=True)
class Model:
    """A trained segmenter, ready to use; made by :func:`load_model`.

    Attributes:
        network: ``float32 (B, 3, H, W)`` normalised images to ``float32 (B, 1, H, W)`` logits, in ``eval`` mode.
        device: where it is.
        working_size: side in pixels to which images are squashed when they are decoded.
        input_size: side in pixels of what the network sees.
        mean, std: of the RGB channels in [0, 1], for the normalisation.
        info: the JSON beside the weights, or what their file says itself; empty without both.
        path: the weights' file. sha256: of its bytes.
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
    typed = description([*others.values()][-1]).get("command") or "python -m seg.run ..."
    raise SegError(
        f"model={path}: that run has {' and '.join(others)} but no segmenter, which masks for other images need; "
        f"add one to it: {typed} segmenter=unet"
    )


def load_model(path: str | Path, device: str = "auto", input_size: int | None = None) -> Model:
    """Load a segmenter for ``seg.predict``.

    Args:
        path: a run's folder, or a file of plain weights (``.safetensors``, ``.pth``). The JSON beside it or the file
            itself says what it is; else the architecture is recognised from the names and shapes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        input_size: side in pixels of what the network sees; None for what is written of it; needed where nothing is.

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
    if not info and file.with_suffix(".json").exists():
        raise SegError(f"{file.with_suffix('.json')}: does not describe a model; mend it, or move it away")
    model = _network(file, info, state)
    fit_into(model, state, file, "model")
    size = int(input_size or info.get("input_size") or 0)
    if not size:
        raise SegError(
            f"model={file}: neither it nor {file.stem}.json beside it says at which size it works; add input_size=224"
        )
    return Model(
        network=model.to(runtime.device).eval(),
        device=runtime.device,
        working_size=int(info.get("working_size") or size),
        input_size=size,
        mean=tuple(info.get("mean") or MEAN),
        std=tuple(info.get("std") or STD),
        info=info,
        path=file,
        sha256=file_sha256(file),
    )


def _network(file: Path, info: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> nn.Module:
    """A network with random weights of the architecture that is written of them or that the weights show."""
    described: Any = info.get("architecture")
    role = info.get("role")
    if described is None:
        from seg.nets.recognise import recognise  # and with it torchvision, for longer than PyTorch

        fits = recognise(state)
        role, described = (fits.role, fits.network) if fits else (None, None)
        if fits is not None and fits.role == "segmenter" and fits.classes is not None:
            raise SegError(f"model={file}: {fits.classes} outputs, but a segmenter of foreground has one")
    if role != "segmenter" or not isinstance(described, Mapping) or "_target_" not in described:
        raise SegError(f"model={file}: {f'it is of a {role}' if role else 'not known as a network'}, not a segmenter")
    params = {k: v for k, v in described.items() if k != "_target_"}
    try:
        # Older runs wrote the place where the networks were then.
        target = str(described["_target_"]).replace("seg.segmenter.networks.", "seg.segmenter.architectures.")
        cls = pkgutil.resolve_name(target)
        # What comes from elsewhere may name a network and nothing else, for what it names is called.
        if not (isinstance(cls, type) and issubclass(cls, Architecture)):
            raise SegError(f"{target} is not a segmentation network")
        net = cls(**params)
    except (SegError, ImportError, AttributeError, TypeError, ValueError) as error:
        raise SegError(f"model={file}: architecture: {error}") from error
    return net.make()
