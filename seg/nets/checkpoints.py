"""Checkpoints: which file is meant, what is written of it, and loading it into the network that the config names."""

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg.errors import SegError
from seg.files import read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

#: The networks that a run trains, the keys of ``checkpoints.*``, and the names of their files in its folder.
ROLES = ("classifier", "affinity", "segmenter")

#: Side in pixels of what a network is shown, at most: for what a file says, and for what is typed.
LARGEST_SIDE = 8192

#: In the metadata of a ``.safetensors`` file that a run has written: what the network is, as JSON.
METADATA = "weakseg"


def saved_network(folder: Path, role: str) -> Path | None:
    """The weights that a run has left, by its folder or its ``models`` folder; None if it had no such network."""
    files = (place / f"{role}.safetensors" for place in (folder / "models", folder))
    return next((file for file in files if file.is_file()), None)


def find_checkpoint(path: Path, role: str, epoch: int) -> Path:
    """The file that ``checkpoints.<role>=path`` means.

    Args:
        path: a file; a folder of one file per epoch (``...epoch7.pth``); or a run's folder.
        role: one of :data:`ROLES`.
        epoch: the epoch that is wanted of a folder.

    Raises:
        SegError: there is no such file, folder or epoch.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise SegError(f"checkpoints.{role}={path}: no such file or folder")
    if saved := saved_network(path, role):
        return saved
    found = {
        int(m.group(1)): file
        for file in sorted(path.iterdir())
        if (m := re.search(r"epoch[_-]?0*(\d+)\.(?:pth|pt|safetensors)$", file.name))
    }
    if epoch not in found:
        there = f"only of epochs {', '.join(map(str, sorted(found)))}" if found else f"nor models/{role}.safetensors"
        raise SegError(f"checkpoints.{role}={path}: has no file of epoch={epoch} (...epoch{epoch}.pth), {there}")
    return found[epoch]


def fitting(model: "nn.Module", state: "Mapping[str, Tensor]", file: str, network: str) -> "dict[str, Tensor]":
    """A checkpoint under the names of a network, which may be on the device ``meta``, without memory.

    Args:
        model: of the architecture that is expected. state: tensors by name; torchvision's where it is torchvision's.
        file: ``key=path`` that named the checkpoint. network: what the config calls the network.

    Raises:
        SegError: naming file, network, and the first keys or shapes that differ.
    """
    from seg.nets.state_dicts import differences, from_plain

    state = from_plain(model, state)
    if found := differences(model.state_dict(), state):
        raise SegError(f"{file}: does not fit {network}: {found}")
    return state


def description(file: Path) -> dict[str, Any]:
    """What the JSON beside a file of weights says, else its own metadata; empty without both.

    Raises:
        SegError: there is a JSON, but it is broken or no description.
    """
    from safetensors import SafetensorError, safe_open

    beside = file.with_suffix(".json")
    if beside.exists() and beside != file:
        with contextlib.suppress(OSError, ValueError):
            if isinstance(written := read_json(beside), dict):
                return written
        raise SegError(f"{beside}: does not describe a model; repair it, or move it away")
    if file.suffix == ".safetensors":
        with contextlib.suppress(OSError, ValueError, SafetensorError), safe_open(file, "np") as weights:
            written = json.loads((weights.metadata() or {}).get(METADATA, "{}"))
            return written if isinstance(written, dict) else {}
    return {}
