"""Score maps: what every supervision hands on."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seg.data.prepared import PreparedData
from seg.errors import SegError
from seg.files import rows_file
from seg.nets.augment import normalise
from seg.nets.resize import nearest, upsample
from seg.store import Products, Runtime, Stage


class Channels(NamedTuple):
    """Score maps of some images, one for every class that an image has.

    Attributes:
        values: ``float32 (m, H, W)`` in [0, 1], NaN where nothing is known; those of an image side by side.
        image: ``int64 (m,)``, which of the images each is of. codes: ``uint8 (m,)``, the masks' code of its class.
    """

    values: np.ndarray
    image: np.ndarray
    codes: np.ndarray


class ScoreMaps(ABC):
    """Scores of ``n`` images: of their foreground, or where masks tell classes apart of each class that an image has.

    Attributes:
        data: the prepared images. rows: ``int64 (n,)``, their rows in ``data``, ascending.
    """

    data: PreparedData
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @abstractmethod
    def at(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """Scores of some images, upsampled: how much speaks for any object.

        Args:
            positions: ``int (b,)`` indices into ``rows``.
            size: height and width in pixels; None for the working resolution.

        Returns:
            ``float32 (b, H, W)`` in [0, 1]; NaN where nothing is known. With several classes in an image it is the
            largest of their scores.
        """

    def winner(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Scores of some images and of which class they are.

        Returns:
            What :meth:`at` returns, and ``uint8`` of the same shape: the code of the class with the largest score,
            1 where masks are of the foreground alone or the image has no class.
        """
        scores = self.at(positions, size)
        codes = first_codes(self.data, self.rows[positions])
        return scores, np.broadcast_to(codes[:, None, None], scores.shape)

    def codes(self, positions: np.ndarray) -> list[Sequence[int]]:
        """The masks' codes of the classes that some images have a map of, ascending."""
        return [[int(code)] for code in first_codes(self.data, self.rows[positions])]

    def channels(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> Channels:
        """The scores of every class that some images have."""
        codes = first_codes(self.data, self.rows[positions])
        return Channels(self.at(positions, size), np.arange(len(positions)), codes)

    def batches(self, size: int = 64) -> Iterator[np.ndarray]:
        """Positions ``0 .. n-1`` in runs of ``size``."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))


def first_codes(data: PreparedData, rows: np.ndarray) -> np.ndarray:
    """``uint8 (b,)``: the masks' code of each image's first class; 1 of the foreground, or of an image without one."""
    if data.task == "foreground":
        return np.ones(len(rows), np.uint8)
    return np.maximum(data.labels[rows] + 1, 1).astype(np.uint8)


@dataclass(frozen=True)
class StoredScores(ScoreMaps):
    """Scores kept at the model's own resolution: one map an image.

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


@dataclass(frozen=True)
class ClassScores(ScoreMaps):
    """Scores kept at the model's own resolution: a map for every class that an image has, and none for the others.

    Attributes:
        values: ``float16 (m, h, w)`` in [0, 1], those of an image side by side.
        first: ``int64 (n + 1,)``, where those of each image begin, and the last end.
        kinds: ``uint8 (m,)``, the masks' code of each map's class.
    """

    data: PreparedData
    rows: np.ndarray
    values: np.ndarray
    first: np.ndarray
    kinds: np.ndarray

    def at(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """The largest; 0 for an image without a class: nothing there is an object."""
        return self.winner(positions, size)[0]

    def winner(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Upsampled before they are compared."""
        maps = self.channels(positions, size)
        shape = (len(positions), *maps.values.shape[1:])
        scores, which = np.full(shape, -1, np.float32), np.ones(shape, np.uint8)
        for values, image, code in zip(*maps, strict=True):
            # What is unknown gives way to what is known.
            better = (values > scores[image]) | np.isnan(scores[image]) | (scores[image] < 0)
            better &= ~np.isnan(values) | (scores[image] < 0)
            scores[image][better], which[image][better] = values[better], code
        return np.where(scores < 0, np.float32(0), scores), which

    def codes(self, positions: np.ndarray) -> list[Sequence[int]]:
        """Those that are stored."""
        return [self.kinds[self.first[p] : self.first[p + 1]].tolist() for p in positions]

    def channels(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> Channels:
        """Bilinear upsampling, as ever."""
        starts, ends = self.first[positions], self.first[np.asarray(positions) + 1]
        maps = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)] or [starts])
        values = np.asarray(self.values[maps], np.float32)
        image = np.repeat(np.arange(len(positions)), ends - starts)
        return Channels(upsample(values, size or (self.data.side, self.data.side)), image, self.kinds[maps])


@dataclass(frozen=True)
class WinnerScores(StoredScores):
    """Scores of the best class of all, and which that is.

    Attributes:
        values: ``float16 (n, h, w)`` in [0, 1]. which: ``uint8 (n, h, w)``, codes from 1 on.
    """

    which: np.ndarray

    def winner(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Classes are never blended: the nearest cell's."""
        return self.at(positions, size), nearest(self.which[positions], size or (self.data.side, self.data.side))

    def channels(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> Channels:
        """Every class that wins somewhere in an image."""
        return by_class(*self.winner(positions, size))

    def codes(self, positions: np.ndarray) -> list[Sequence[int]]:
        """The same classes."""
        return [np.unique(self.which[p]).tolist() for p in positions]


@dataclass(frozen=True)
class ClassesAsBefore(StoredScores):
    """Scores of any object, by a refiner that knows no classes: which one a pixel is of stays as it was.

    Attributes:
        before: what was refined.
    """

    before: ScoreMaps

    def _there(self, positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.before.rows, self.rows[positions])

    def winner(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Its scores, and the class with the largest score before."""
        return self.at(positions, size), self.before.winner(self._there(positions), size)[1]

    def codes(self, positions: np.ndarray) -> list[Sequence[int]]:
        """As before."""
        return self.before.codes(self._there(positions))

    def channels(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> Channels:
        """Every class that wins somewhere in an image."""
        return by_class(*self.winner(positions, size))


def by_class(scores: np.ndarray, which: np.ndarray) -> Channels:
    """Scores ``(b, H, W)`` of the classes ``which`` as a map for each of an image's, 0 where another one is."""
    found = [(i, code) for i, one in enumerate(which) for code in np.unique(one)]
    values = [np.where((which[i] == code) | np.isnan(scores[i]), scores[i], np.float32(0)) for i, code in found]
    image, codes = zip(*found, strict=True) if found else ((), ())
    return Channels(np.stack(values) if values else scores, np.asarray(image, np.int64), np.asarray(codes, np.uint8))


def image_codes(data: PreparedData, row: int) -> list[int]:
    """The masks' codes of the classes that an image has: 1 where masks are of the foreground alone."""
    return [1] if data.task == "foreground" else [label + 1 for label in data.label_sets[row]]


class ScoreStage(Stage):
    """Base of the stages whose product is :class:`ScoreMaps`."""

    @property
    def title(self) -> str:
        """What a table calls the scores."""
        return self.what or type(self).__name__

    def save(
        self,
        out: Path,
        data: PreparedData,
        rows: np.ndarray,
        values: np.ndarray | Iterable[np.ndarray],
        codes: Sequence[Sequence[int]] | None = None,
    ) -> dict[str, Any]:
        """Write scores and which images they are of.

        Args:
            out: the product's folder. data: the prepared images. rows: ``int64 (n,)``, theirs.
            values: ``float (n, h, w)`` in [0, 1]; or its parts ``(b, h, w)``, one after the other. Where masks tell
                classes apart ``float (m, h, w)``, a map for each of ``codes``, image by image.
            codes: of each image the masks' codes of the classes that it has a map of, looked at once all parts are
                there; None: of its labels.

        Returns:
            The manifest's notes.
        """
        parts = [values] if isinstance(values, np.ndarray) else values
        with rows_file(out / "scores.npy", np.float16) as file:
            for part in parts:
                file.write(part)
        if data.task == "classes" and not (out / "which.npy").exists():
            codes = [image_codes(data, row) for row in rows] if codes is None else codes
            np.save(out / "first.npy", np.cumsum([0, *map(len, codes)]))
            np.save(out / "codes.npy", np.asarray([code for one in codes for code in one], np.uint8))
        np.save(out / "rows.npy", rows.astype(np.int64))
        (out / "ids.txt").write_text("\n".join(data.ids[r] for r in rows) + "\n", encoding="utf-8")
        return {"images": len(rows), "resolution": list(file.shape)}

    def read(self, path: Path, data: PreparedData, before: ScoreMaps | None = None) -> ScoreMaps:
        """Memory-map what :meth:`save` wrote; ``before`` is what was refined, if something was."""
        rows, values = np.load(path / "rows.npy"), np.load(path / "scores.npy", mmap_mode="r")
        if (path / "which.npy").is_file():
            return WinnerScores(data, rows, values, np.load(path / "which.npy", mmap_mode="r"))
        if data.task == "foreground":
            return StoredScores(data, rows, values)
        first, codes = np.load(path / "first.npy"), np.load(path / "codes.npy")
        if before is not None and len(codes) != len(values) == len(rows):
            return ClassesAsBefore(data, rows, values, before)
        if len(codes) != len(values):
            raise SegError(
                f"{type(self).__name__}: {len(values)} score maps for {len(codes)} classes of {len(rows)} images; "
                "with task=classes a supervision saves a map for each class that an image has (docs/extending.md)"
            )
        return ClassScores(data, rows, values, first, codes)

    def load(self, path: Path, store: Products) -> ScoreMaps:
        """What :meth:`save` wrote, of the images of the stage's field ``pool`` or ``scores``."""
        upstream = self.upstream()
        before = store.get(upstream["scores"]) if "scores" in upstream else None
        return self.read(path, store.get(upstream["pool"]).data if before is None else before.data, before)


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
