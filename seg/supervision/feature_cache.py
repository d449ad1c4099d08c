"""A cache of the features of frozen stages, which the networks of several epochs share."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seg.store import Runtime

#: Largest number of caches in a process, for example of different input sizes.
_KINDS = 4


class FeatureCache:
    """Features of images after frozen stages, in a temporary file.

    They are written when a second network computes them, and read by all later ones, so a single network costs nothing
    more. They are not cached on a GPU, which is faster than a disk, nor if the file would take half of the free space.

    Args:
        folder: for the file. is_used: False for no caching. networks: that have used the features; 2 to write at once.
    """

    def __init__(self, folder: Path, is_used: bool, networks: int = 0) -> None:
        self.folder, self.is_used, self.networks = folder, is_used, networks
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed with this object
        self._places: dict[tuple[int, ...], tuple[int, torch.Size]] = {}  # by batch and call: offset and shape
        self._batch, self._call = (0, 0, 0), 0

    @classmethod
    def of(cls, frozen: nn.Module, what: str, folder: Path, runtime: Runtime) -> "FeatureCache":
        """The process's cache for stages with these weights, for one more network.

        Args:
            frozen: the stages. what: identifies the images and their sizes. folder: for the file.
        """
        content = hashlib.sha256(what.encode())
        for name, value in frozen.state_dict().items():
            content.update(name.encode() + _bytes(value.cpu().contiguous()).tobytes())
        kept: dict[str, FeatureCache] = runtime.kept.setdefault(cls.__name__, {})
        key = content.hexdigest()
        kept[key] = found = kept.pop(key, None) or cls(folder, runtime.device.type == "cpu")  # as the last one
        while len(kept) > _KINDS:
            del kept[next(iter(kept))]
        found.networks += 1
        return found

    def begin(self, part: np.ndarray) -> None:
        """Start a batch with the images at these positions, ``int (b,)``, ascending."""
        self._batch, self._call = (int(part[0]), int(part[-1]), len(part)), 0

    def __call__(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """``compute(images)``, ``float (b, C, h, w)`` in channels-last memory, or its cached result.

        All networks must make the same calls for a batch (sizes, mirrored or not) in the same order.
        """
        key, self._call = (*self._batch, self._call), self._call + 1
        if key in self._places:
            offset, shape = self._places[key]
            rows = torch.empty(shape, dtype=images.dtype)
            self._file.seek(offset)
            self._file.readinto(_bytes(rows).data)
            return rows.permute(0, 3, 1, 2)
        features = compute(images).contiguous(memory_format=torch.channels_last)
        if self.is_used and self.networks > 1:
            rows, end = features.permute(0, 2, 3, 1), self._file.seek(0, 2)
            self.is_used = shutil.disk_usage(self.folder).free > end + 2 * rows.nbytes
            if self.is_used:
                self._file.write(_bytes(rows).data)
                self._places[key] = (end, rows.shape)
        return features


def _bytes(values: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor."""
    return values.flatten().view(torch.uint8).numpy()
