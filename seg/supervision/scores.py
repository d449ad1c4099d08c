"""Score maps: what every supervision hands on."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg.data.prepared import PreparedData
from seg.files import rows_file
from seg.nets.augment import normalise
from seg.nets.maps import upsample
from seg.store import Products, Runtime, Stage


class ScoreMaps(ABC):
    """Foreground scores of ``n`` images.

    Attributes:
        data: the prepared images. rows: ``int64 (n,)``, their rows in ``data``, ascending.
    """

    data: PreparedData
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @abstractmethod
    def at(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """Scores of some images, upsampled.

        Args:
            positions: ``int (b,)`` indices into ``rows``.
            size: height and width in pixels; None for the working resolution.

        Returns:
            ``float32 (b, H, W)`` in [0, 1]; NaN where nothing is known.
        """

    def batches(self, size: int = 64) -> Iterator[np.ndarray]:
        """Positions ``0 .. n-1`` in runs of ``size``."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))


@dataclass(frozen=True)
class StoredScores(ScoreMaps):
    """Scores kept at the model's own resolution.

    Attributes:
        values: ``float16 (n, h, w)`` in [0, 1].
    """

    data: PreparedData
    rows: np.ndarray
    values: np.ndarray

    def at(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """Bilinear upsampling, ``align_corners=False``: the one rule for all scores."""
        values = np.asarray(self.values[positions], np.float32)
        return upsample(values, size or (self.data.side, self.data.side))


class ScoreStage(Stage):
    """Base of the stages whose product is :class:`ScoreMaps`."""

    @property
    def title(self) -> str:
        """What a table calls the scores."""
        return self.what or type(self).__name__

    def save(
        self, out: Path, data: PreparedData, rows: np.ndarray, values: np.ndarray | Iterable[np.ndarray]
    ) -> dict[str, Any]:
        """Write scores and which images they are of.

        Args:
            out: the product's folder. data: the prepared images. rows: ``int64 (n,)``, theirs.
            values: ``float (n, h, w)`` in [0, 1]; or its parts ``(b, h, w)``, one after the other.

        Returns:
            The manifest's notes.
        """
        parts = [values] if isinstance(values, np.ndarray) else values
        with rows_file(out / "scores.npy", np.float16) as file:
            for part in parts:
                file.write(part)
        np.save(out / "rows.npy", rows.astype(np.int64))
        (out / "ids.txt").write_text("\n".join(data.ids[r] for r in rows) + "\n", encoding="utf-8")
        return {"images": len(rows), "resolution": list(file.shape)}

    def read(self, path: Path, data: PreparedData) -> StoredScores:
        """Memory-map what :meth:`save` wrote."""
        return StoredScores(data, np.load(path / "rows.npy"), np.load(path / "scores.npy", mmap_mode="r"))

    def load(self, path: Path, store: Products) -> ScoreMaps:
        """What :meth:`save` wrote, of the images of the stage's field ``pool`` or ``scores``."""
        upstream = self.upstream()
        return self.read(path, store.get(upstream.get("pool") or upstream["scores"]).data)


@torch.inference_mode()
def infer(
    compute: Callable[[Tensor, np.ndarray], Tensor],
    data: PreparedData,
    rows: np.ndarray,
    runtime: Runtime,
    what: str,
    most: int | None = None,
) -> Iterator[np.ndarray]:
    """Apply a network to images, batch by batch: the one loop of inference.

    Args:
        compute: of normalised images ``float32 (b, 3, S, S)`` on the device, and of their positions ``int (b,)``
            among ``rows``.
        data: the prepared images. rows: ``int64 (n,)``, those wanted.
        runtime: the device, the size of a batch, the progress bar. what: that it says.
        most: images in a batch at most.

    Yields:
        What ``compute`` gave, on the CPU.
    """
    size = min(runtime.batch_size, most or runtime.batch_size)
    for start in runtime.bar(range(0, len(rows), size), what):
        part = np.arange(start, min(start + size, len(rows)))
        images = normalise(torch.from_numpy(data.images[rows[part]]).to(runtime.device))
        yield compute(images, part).cpu().numpy()
