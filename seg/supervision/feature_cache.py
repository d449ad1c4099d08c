"""Features that the networks of several epochs have in common, computed once."""

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


class SharedFeatures:
    """Features of images behind the part of a network that several networks share.

    The first network computes them, the second one leaves them in files, all others read these. So a single network
    costs no more than without, and memory holds a batch. The files have no name and go with the process. Where they
    would take more than half of the free space, or on a GPU, which is faster than a disk, all is computed again.

    Args:
        images: how many there are. folder: the files' place.
    """

    def __init__(self, images: int, folder: Path) -> None:
        self.images, self.folder = images, folder
        self.networks = 0
        self.keeps = True
        self._files: list[_File] = []  # one for each call of a batch
        self._part, self._call = np.arange(0), 0

    @classmethod
    def of(cls, part: nn.Module, what: str, images: int, folder: Path, runtime: Runtime) -> "SharedFeatures":
        """Those that this process has of a part with such weights, for one more network.

        Args:
            part: of the network. what: of which images, at which sizes. images, folder: see the class.
        """
        content = hashlib.sha256(what.encode())
        for name, value in part.state_dict().items():
            content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            content.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
        key = content.hexdigest()
        kept: dict[str, SharedFeatures] = runtime.kept.setdefault(cls.__name__, {})
        found = kept.pop(key) if key in kept else cls(images, folder)
        kept[key] = found  # as the last one
        while len(kept) > _KINDS:
            del kept[next(iter(kept))]
        found.networks += 1
        found.keeps &= runtime.device.type == "cpu"
        return found

    def begin(self, part: np.ndarray) -> None:
        """A batch begins: ``int (b,)``, the images' positions, one after the other."""
        self._part, self._call = part, 0

    def __call__(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """``compute(images)``, ``float (b, C, h, w)`` with its channels last, or what that was for another network.

        All networks make the same calls for a batch (sizes, mirrored or not) in the same order.
        """
        call, self._call = self._call, self._call + 1
        if call < len(self._files) and self._files[call].known[self._part].all():
            return self._files[call].read(self._part)
        features = compute(images).contiguous(memory_format=torch.channels_last)
        if self.keeps and self.networks > 1:
            try:
                if call == len(self._files):
                    self._files.append(_File(features, self.images, self.folder))
                self._files[call].write(self._part, features)
            except OSError:  # no room
                self.keeps = False
                self._files.clear()
        return features


class _File:
    """``float (images, h, w, C)`` on the disk, like ``features``, ``float (b, C, h, w)``."""

    def __init__(self, features: Tensor, images: int, folder: Path) -> None:
        _, channels, height, width = features.shape
        self.shape, self.dtype = (height, width, channels), features.dtype
        self.size = features[0].nbytes  # of an image
        if 2 * self.size * images > shutil.disk_usage(folder).free:
            raise OSError(f"{folder}: not enough space")
        self.known = np.zeros(images, bool)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed when nobody has it any more

    def write(self, part: np.ndarray, features: Tensor) -> None:
        self.file.seek(int(part[0]) * self.size)
        self.file.write(_bytes(features.permute(0, 2, 3, 1)))
        self.known[part] = True

    def read(self, part: np.ndarray) -> Tensor:
        rows = torch.empty((len(part), *self.shape), dtype=self.dtype)
        self.file.seek(int(part[0]) * self.size)
        self.file.readinto(_bytes(rows))
        return rows.permute(0, 3, 1, 2)


def _bytes(rows: Tensor) -> memoryview:
    """The memory of a tensor that lies in one piece."""
    return rows.view(-1).view(torch.uint8).numpy().data
