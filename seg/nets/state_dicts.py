"""State dicts: read from files, brought to one set of names, compared with a network, loaded into it."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from seg.errors import SegError, first_line


class MainOutput(nn.Module):
    """torchvision's segmentation models return a dictionary; take ``out`` of it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, outputs, H, W)``."""
        return self.model(images)["out"]


def to_plain(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a network on the CPU, with torchvision's own names where the network is torchvision's."""
    prefix = _prefix(model)
    return {k.removeprefix(prefix): v.detach().cpu().contiguous() for k, v in model.state_dict().items()}


def from_plain(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of :func:`to_plain`; torchvision's auxiliary head, if ``model`` has none, is left out."""
    prefix = _prefix(model)
    named = {prefix + k.removeprefix(prefix): v for k, v in state.items()}
    extra = f"{prefix}aux_classifier."
    wanted = any(k.startswith(extra) for k in model.state_dict())
    return {k: v for k, v in named.items() if wanted or not k.startswith(extra)}


def _prefix(model: nn.Module) -> str:
    return "model." if isinstance(model, MainOutput) else ""


def read_state_dict(path: Path, also: str = "", key: str = "weights") -> dict[str, Tensor]:
    """Read a plain state dict of any float type, with or without a wrapper or a ``module.`` prefix.

    Nothing in the file is executed.

    Args:
        path: a ``.safetensors`` file or anything ``torch.load(weights_only=True)`` reads.
        also: added to the message when there is no such file.
        key: the config key that named the file, for the messages.

    Returns:
        Tensors by name, floats cast to ``float32``.

    Raises:
        SegError: for a file that is missing, truncated, no state dict, or has weights that are not finite.
    """
    if not path.is_file():
        raise SegError(f"{key}={path}: no such file{also}")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Mapped, a storage that claims more bytes than the archive has is an error.
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


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, head: str, what: str) -> None:
    """Load a state dict whose head (the layer named ``head``) may be missing or of another size.

    Raises:
        SegError: naming the first keys or shapes that differ.
    """
    rest = {k: v for k, v in state.items() if not k.startswith(head + ".")}
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(head + ".")}
    if found := differences(own, rest):
        raise SegError(f"weights={what}: another architecture: {found}")
    model.load_state_dict(rest, strict=False)


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """The first three keys or shapes in which ``given`` differs from a network's ``own``; empty if none does.

    Counters of batch norm may be missing.
    """
    problems = [f"lacks {k}" for k in own if k not in given and "num_batches" not in k]
    problems += [f"has an unknown {k}" for k in given if k not in own]
    problems += [
        f"{k} is {tuple(v.shape)}, not {tuple(own[k].shape)}"
        for k, v in given.items()
        if k in own and v.shape != own[k].shape
    ]
    more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more
