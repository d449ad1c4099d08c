"""Score maps: what every supervision hands on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg.data.prepared import PreparedData
from seg.stage import Stage


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


def upsample(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``float32 (b, h, w)`` to ``(b, *size)``, bilinear with ``align_corners=False``."""
    import torch
    from torch.nn import functional as F

    if values.shape[1:] == size:
        return values
    out = F.interpolate(torch.from_numpy(values)[:, None], size, mode="bilinear", align_corners=False)
    return out[:, 0].numpy()


class ScoreStage(Stage):
    """Base of the stages whose product is :class:`ScoreMaps`."""

    def save(self, out: Path, data: PreparedData, rows: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        """Write scores ``(n, h, w)`` for ``rows``; returns the manifest's notes."""
        np.save(out / "scores.npy", values.astype(np.float16))
        return self.describe(out, data, rows, values.shape[1:])

    def describe(self, out: Path, data: PreparedData, rows: np.ndarray, shape: tuple[int, ...]) -> dict[str, Any]:
        """Write which images the scores are of; returns the manifest's notes."""
        np.save(out / "rows.npy", rows.astype(np.int64))
        (out / "ids.txt").write_text("\n".join(data.ids[r] for r in rows) + "\n")
        return {"images": len(rows), "resolution": list(shape)}

    def read(self, path: Path, data: PreparedData) -> StoredScores:
        """Memory-map what :meth:`save` wrote."""
        values = np.load(path / "scores.npy", mmap_mode="r")
        return StoredScores(data, np.load(path / "rows.npy"), values)
