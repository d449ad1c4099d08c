"""Networks that are given: a plain state dict into the network that the config describes, or one clear refusal."""

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

#: What ``checkpoints.*=`` can be: the networks that a run trains, and the names of their files in its folder.
ROLES = ("classifier", "affinity", "segmenter")

#: Side in pixels of what a network is shown, at most: for what a file says, and for what is typed.
LARGEST_SIDE = 8192

#: Bytes of a JSON that describes weights, at most; a run writes some thousand.
_LARGEST_JSON = 4_000_000

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
        given, have = f"checkpoints.{role}={path}", ", ".join(map(str, sorted(found)))
        if not have:
            raise SegError(f"{given}: a folder with neither models/{role}.safetensors nor ...epochN.pth")
        raise SegError(f"epoch={epoch}: the folder {given} lacks it; it has epochs: {have}")
    return found[epoch]


def fit_into(model: "nn.Module", state: "Mapping[str, Tensor]", file: Path, key: str) -> None:
    """Load a whole given state dict, with torchvision's names where the network is torchvision's.

    Args:
        model: of the architecture that is expected; changed in place.
        state: tensors by name. file: where they come from. key: the config key that named it.

    Raises:
        SegError: naming the first keys or shapes that differ, and the config that the weights would fit.
    """
    model.load_state_dict(fitting(model, state, file, key), strict=False)


def fitting(model: "nn.Module", state: "Mapping[str, Tensor]", file: Path, key: str) -> "dict[str, Tensor]":
    """What :func:`fit_into` loads, or its refusal; ``model`` may be on the device ``meta``, without memory."""
    from seg.nets.recognise import recognise
    from seg.nets.state_dicts import differences, from_plain

    own = model.state_dict()
    state = from_plain(model, state)
    if found := differences(own, state):
        # As is written of the weights, or as their names and shapes tell.
        described = description(file)
        if isinstance(config := described.get("config"), list):
            fits = " ".join(f"of a {described.get('role')} that fits {' '.join(map(str, config))}"[:500].split())
        else:
            fits = str(recognise(state) or "")
        raise SegError(f"{key}={file}: another architecture: {found}{fits and f'; it is {fits}'}")
    return state


def description(file: Path) -> dict[str, Any]:
    """What is known of a file of weights: what the JSON beside it says, else its own metadata; empty without both.

    It is a stranger's: whoever uses a value has to look at it first.

    Raises:
        SegError: there is a JSON, but it is broken or no description.
    """
    from safetensors import SafetensorError, safe_open

    beside = file.with_suffix(".json")
    if beside.exists() and beside != file:
        with contextlib.suppress(OSError, ValueError):
            if (
                beside.is_file()
                and beside.stat().st_size <= _LARGEST_JSON
                and isinstance(told := read_json(beside), dict)
            ):
                return told
        raise SegError(f"{beside}: does not describe a model; mend it, or move it away")
    if file.suffix == ".safetensors":
        with (
            contextlib.suppress(OSError, ValueError, RecursionError, SafetensorError),
            safe_open(file, "np") as weights,
        ):
            told = json.loads((weights.metadata() or {}).get(METADATA, "null"))
            return told if isinstance(told, dict) else {}
    return {}
