"""Checkpoints: finding a file, reading its description and weights, loading them into a network."""

import contextlib
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from seg.errors import SegError, first_line
from seg.files import read_json

#: Largest accepted side of a network's input in pixels.
LARGEST_SIDE = 8192

#: Key in the metadata of a ``.safetensors`` file whose value describes the network as JSON.
METADATA = "weakseg"


def saved_network(folder: Path, role: str) -> Path | None:
    """The weights in a run's folder or its ``models`` folder; None without such a network."""
    files = (place / f"{role}.safetensors" for place in (folder / "models", folder))
    return next((file for file in files if file.is_file()), None)


def find_checkpoint(path: Path, role: str) -> Path:
    """The file of ``checkpoints.<role>=path``: the path itself, or the network of that role in a run's folder.

    Raises:
        SegError: there is none.
    """
    file = path if path.is_file() else saved_network(path, role)
    if file is None:
        raise SegError(f"checkpoints.{role}={path}: no such file, nor a run's folder with models/{role}.safetensors")
    return file


def description(file: Path) -> dict[str, Any]:
    """The description of a network from the JSON file beside its weights, else from their metadata; empty without both.

    Raises:
        SegError: the JSON file is broken or no description.
    """
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


def read_state_dict(path: Path, key: str = "weights") -> dict[str, Tensor]:
    """Read a state dict of any float type, with or without a wrapper or a ``module.`` prefix, without running code.

    Args:
        path: a ``.safetensors`` file or anything ``torch.load(weights_only=True)`` reads.
        key: the config key that named the file, for the messages.

    Returns:
        Tensors by name, floats cast to ``float32``.

    Raises:
        SegError: for a file that is missing, truncated, no state dict, or has weights that are not finite.
    """
    if not path.is_file():
        raise SegError(f"{key}={path}: no such file")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # With mmap a storage that claims more bytes than the archive has is an error.
                mapped = zipfile.is_zipfile(path)
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch.load raises many kinds for a broken file
        reason = first_line(error)[:120]
        raise SegError(f"{key}={path}: cannot be read, truncated or not a state dict ({reason})") from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise SegError(f"{key}={path}: not a state dict of tensors by name; save model.state_dict()")
    state = {k.removeprefix("module."): v.float() if v.is_floating_point() else v for k, v in state.items()}
    if bad := [name for name, v in state.items() if v.is_floating_point() and not v.isfinite().all()]:
        raise SegError(
            f"{key}={path}: {bad[0]} holds NaN or infinite numbers: the training had diverged; give the weights of an "
            "earlier epoch"
        )
    return state


def load_state(model: nn.Module, state: Mapping[str, Tensor], what: str, *, head: str = "") -> None:
    """Load a state dict into a network.

    Counters of batch norm may be missing.

    Args:
        model: changed in place. state: tensors by name. what: beginning of the error message.
        head: dotted name of a layer that keeps its weights; it may be missing in ``state`` or have another size there.

    Raises:
        SegError: naming the first three keys or shapes that differ.
    """
    skipped = f"{head}." if head else "\0"
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(skipped)}
    given = {k: v for k, v in state.items() if not k.startswith(skipped)}
    problems = [f"lacks {k}" for k in own if k not in given and "num_batches" not in k]
    problems += [f"has an unknown {k}" for k in given if k not in own]
    problems += [
        f"{k} is {tuple(v.shape)}, not {tuple(own[k].shape)}"
        for k, v in given.items()
        if k in own and v.shape != own[k].shape
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise SegError(f"{what}: {'; '.join(problems[:3])}{more}")
    model.load_state_dict(given, strict=False)
