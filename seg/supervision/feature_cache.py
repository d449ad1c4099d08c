"""Features of frozen blocks, which the networks of several epochs have in common, computed once."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seg.store import Runtime

#: Of so many kinds of features (at different scales, say) a process keeps files.
_KINDS = 4


class FeatureCache:
    """Features of images behind frozen blocks, in files that have no name and go with the process.

    The first network computes them, the second one writes them, all others read: a single network costs no more than
    without. On a GPU, which is faster than a disk, and where there is no space, all is computed again.
    """

    def __init__(self, images: int, folder: Path, is_used: bool) -> None:
        self.images, self.folder, self.is_used = images, folder, is_used
        self.networks = 0
        self._files: list[_File] = []  # one for each call of a batch
        self._part, self._call = np.arange(0), 0

    @classmethod
    def of(cls, frozen: nn.Module, what: str, images: int, folder: Path, runtime: Runtime) -> "FeatureCache":
        """The cache that this process has for blocks of such weights, for one more network.

        Args:
            frozen: the blocks. what: of which images, at which sizes. images: how many. folder: for the files.
        """
        content = hashlib.sha256(what.encode())
        for name, value in frozen.state_dict().items():
            content.update(name.encode() + _bytes(value.cpu().contiguous()).tobytes())
        kept: dict[str, FeatureCache] = runtime.kept.setdefault(cls.__name__, {})
        key = content.hexdigest()
        kept[key] = found = kept.pop(key, None) or cls(images, folder, runtime.device.type == "cpu")  # as the last one
        while len(kept) > _KINDS:
            del kept[next(iter(kept))]
        found.networks += 1
        return found

    def begin(self, part: np.ndarray) -> None:
        """A batch begins: ``int (b,)``, the images' positions."""
        self._part, self._call = part, 0

    def __call__(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """``compute(images)``, ``float (b, C, h, w)``, channels-last, or what that was for another network.

        All networks make the same calls for a batch (sizes, mirrored or not) in the same order.
        """
        call, self._call = self._call, self._call + 1
        if call < len(self._files) and self._files[call].is_written[self._part].all():
            return self._files[call].read(self._part)
        features = compute(images).contiguous(memory_format=torch.channels_last)
        if self.is_used and self.networks > 1:
            try:
                if call == len(self._files):
                    self._files.append(_File(features, self.images, self.folder))
                self._files[call].write(self._part, features)
            except OSError:  # no space
                self.is_used = False
                self._files.clear()
        return features


class _File:
    """``(images, h, w, C)`` on the disk, for ``features`` of ``float (b, C, h, w)``."""

    def __init__(self, features: Tensor, images: int, folder: Path) -> None:
        self.shape, self.dtype = features[0].permute(1, 2, 0).shape, features.dtype
        self.size = features[0].nbytes  # of an image
        self.is_written = np.zeros(images, bool)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed when nobody has it any more
        if 2 * self.size * images > shutil.disk_usage(folder).free:
            raise OSError(f"{folder}: not enough space")

    def write(self, part: np.ndarray, features: Tensor) -> None:
        self.file.seek(int(part[0]) * self.size)
        self.file.write(_bytes(features.permute(0, 2, 3, 1)).data)
        self.is_written[part] = True

    def read(self, part: np.ndarray) -> Tensor:
        rows = torch.empty((len(part), *self.shape), dtype=self.dtype)
        self.file.seek(int(part[0]) * self.size)
        self.file.readinto(_bytes(rows).data)
        return rows.permute(0, 3, 1, 2)


def _bytes(values: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor."""
    return values.flatten().view(torch.uint8).numpy()
