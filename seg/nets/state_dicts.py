"""State dicts: read from files, brought to one set of names, compared with a network, loaded into it."""

import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg.errors import SegError


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

    The file may be a stranger's: nothing in it is executed, and it takes no more memory than a few times its size.

    Args:
        path: a ``.safetensors`` file or anything ``torch.load(weights_only=True)`` reads.
        also: added to the message when there is no such file.
        key: the config key that named the file, for the messages.

    Returns:
        Tensors by name, floats cast to ``float32``.

    Raises:
        SegError: for a file that is missing, truncated, or no state dict of plain, finite tensors that the file holds.
    """
    if not path.is_file():
        raise SegError(f"{key}={path}: no such file{also}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = _unpickled(path)
    except SegError as error:
        raise SegError(f"{key}={path}: {error}") from error
    except Exception as error:  # torch.load raises many kinds for a broken file
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise SegError(f"{key}={path}: cannot be read, truncated or not a state dict ({reason})") from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise SegError(f"{key}={path}: not a state dict of tensors by name; save model.state_dict()")
    for name, tensor in state.items():
        if problem := _not_plain(tensor):
            raise SegError(f"{key}={path}: {name} is {problem}; save plain tensors, as of model.state_dict()")
    # A tensor may repeat what the file has once (``expand``): what is cast or copied would be as large as it says.
    if sum(v.numel() * v.element_size() for v in state.values()) > 2 * path.stat().st_size:
        raise SegError(f"{key}={path}: its tensors claim to be larger than the file; save contiguous tensors")
    state = {k.removeprefix("module."): _copied(v) for k, v in state.items()}
    bad = [name for name, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise SegError(
            f"{key}={path}: {bad[0]}{f' and {len(bad) - 1} more' if bad[1:] else ''} holds NaN or infinite numbers: "
            "the training had diverged; give the weights of an earlier epoch"
        )
    return state


def _unpickled(path: Path) -> Any:
    """What ``torch.load`` reads, without running anything and without unpacking more than the file holds."""
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\3\4"  # what PyTorch goes by
    if not is_archive:
        if tarfile.is_tarfile(path):
            raise SegError("a .tar of before PyTorch 0.2; save it anew")
        return _loaded(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    # PyTorch writes its archives uncompressed. Others may be small and unpack to anything.
    if any(x.compress_type != zipfile.ZIP_STORED for x in entries) or (
        sum(x.file_size for x in entries) > path.stat().st_size
    ):
        raise SegError("a compressed archive, or one whose parts claim to be larger than it; save it with torch.save")
    # By a map of the file, for what a tensor says of its size is then held against what is there.
    return _loaded(path, mmap=True)


def _loaded(path: Path, **options: Any) -> Any:
    with warnings.catch_warnings():  # what is odd about the file is told by what is found in it
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True, **options)


def _not_plain(tensor: Tensor) -> str:
    """Why a tensor is not one of numbers in memory; empty if it is."""
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.device.type != "cpu":
        return f"on the device {tensor.device.type}, without numbers"
    return "complex" if tensor.is_complex() else ""


def _copied(tensor: Tensor) -> Tensor:
    """In memory of its own, whatever becomes of the file; floats as ``float32``."""
    return tensor.detach().to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()


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
