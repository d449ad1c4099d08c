"""Score maps, the product of every supervision and refiner."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seg.data.pixels import LabelledPixels
from seg.data.prepared import PreparedData
from seg.errors import SegError
from seg.files import rows_file
from seg.methods.pixels import paint_scores
from seg.nets.augment import normalise
from seg.nets.resize import upsample
from seg.store import Products, Runtime, Stage


class ClassMaps(NamedTuple):
    """Score maps of a batch of images, one for every class of an image.

    Attributes:
        values: ``float32 (m, H, W)`` in [0, 1], NaN where unknown, image by image.
        image: ``int64 (m,)``, index of each map's image. class_ids: ``uint8 (m,)``, code of its class in masks.
    """

    values: np.ndarray
    image: np.ndarray
    class_ids: np.ndarray

    @property
    def place(self) -> np.ndarray:
        """``int64 (m,)``: index of each map among those of its image."""
        return np.arange(len(self.image)) - np.searchsorted(self.image, self.image)

    def stacked(self, images: int) -> Tensor:
        """``float32 (images, K, H, W)``, padded with maps of 0; unknown scores are 0.5."""
        out = torch.zeros(images, int(self.place.max(initial=0)) + 1, *self.values.shape[1:])
        out[self.image, self.place] = torch.from_numpy(self.values).nan_to_num(0.5)
        return out


@dataclass(frozen=True)
class ScoreMaps:
    """Score maps of ``n`` images, one for every class that an image may show, at the model's resolution.

    An image without a class has no map: all of it is background.

    Attributes:
        data: the prepared images. rows: ``int64 (n,)``, their rows in ``data``, ascending.
        values: ``float16 (m, h, w)`` in [0, 1], NaN where unknown, image by image.
        first: ``int64 (n + 1,)``, index of each image's first map, and at the end ``m``.
        class_ids: ``uint8 (m,)``, code of each map's class in masks, from 1 on.
        resize: ``float32 (b, h, w)`` to another height and width; bilinear with ``align_corners=False`` by default.
        pixels: labelled pixels, whose scores are 0 and 1 at every size.
    """

    data: PreparedData
    rows: np.ndarray
    values: Any
    first: np.ndarray
    class_ids: np.ndarray
    resize: Callable[[np.ndarray, tuple[int, int]], np.ndarray] = upsample
    pixels: LabelledPixels | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_map(self) -> np.ndarray:
        """``bool (n,)``: whether an image has a map."""
        return np.diff(self.first) > 0

    @property
    def ids(self) -> list[list[int]]:
        """The class codes of each image's maps."""
        return [one.tolist() for one in np.split(self.class_ids, self.first[1:-1])]

    def per_class(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> ClassMaps:
        """The maps of some images, upsampled.

        Args:
            positions: ``int (b,)`` indices into ``rows``.
            size: height and width in pixels; None for the working resolution.
        """
        starts, ends = self.first[positions], self.first[np.asarray(positions) + 1]
        maps = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)] or [starts])
        values = np.asarray(self.values[maps], np.float32)
        image = np.repeat(np.arange(len(positions)), ends - starts)
        size, class_ids = size or (self.data.side,) * 2, self.class_ids[maps]
        resized = self.resize(values, size)
        for place, grid in self.labelled(positions, size):
            own = image == place
            resized[own] = paint_scores(resized[own], class_ids[own], grid)
        return ClassMaps(resized, image, class_ids)

    def labelled(self, positions: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
        """Index of each image with labelled pixels, and their codes, ``uint8 (H, W)``, 255 elsewhere."""
        if (pixels := self.pixels) is not None:
            yield from ((i, pixels.grid(row, size)) for i, row in enumerate(self.rows[positions]) if pixels.has(row))

    def argmax(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The largest score of each pixel, and its class; arguments as for :meth:`per_class`.

        Returns:
            ``float32 (b, H, W)`` in [0, 1], NaN where unknown; and ``uint8 (b, H, W)``, codes from 1 on. 0 and 1 for an
            image without a map.
        """
        maps = self.per_class(positions, size)
        if len(maps.image) == len(positions) and not maps.place.any():
            return maps.values, np.broadcast_to(maps.class_ids[:, None, None], maps.values.shape)
        shape = (len(positions), *maps.values.shape[1:])
        scores, class_ids = np.zeros(shape, np.float32), np.ones(shape, np.uint8)
        for values, image, place, class_id in zip(maps.values, maps.image, maps.place, maps.class_ids, strict=True):
            best = scores[image]
            # A known score replaces an unknown one.
            better = (values > best) | (np.isnan(best) & ~np.isnan(values)) if place else np.ones_like(values, bool)
            best[better], class_ids[image][better] = values[better], class_id
        return scores, class_ids

    def batches(self, size: int = 64) -> Iterator[np.ndarray]:
        """Positions ``0 .. n-1`` in batches of ``size``."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))


def image_class_ids(data: PreparedData, row: int) -> list[int]:
    """Codes in masks of an image's labels, ascending."""
    return [label + 1 for label in data.label_sets[row]]


class ScoreStage(Stage):
    """Base of the stages whose product is :class:`ScoreMaps`."""

    @property
    def title(self) -> str:
        """Name of the scores in tables."""
        return self.what or type(self).__name__

    def save(
        self,
        out: Path,
        data: PreparedData,
        rows: np.ndarray,
        values: np.ndarray | Iterable[np.ndarray],
        class_ids: Sequence[Sequence[int]] | None = None,
    ) -> dict[str, Any]:
        """Write score maps with their images and classes.

        Args:
            out: the product's folder. data: the prepared images. rows: ``int64 (n,)``, rows of the images in ``data``.
            values: ``float (m, h, w)`` in [0, 1], image by image; or an iterable of batches of it.
            class_ids: class codes of each image's maps, read after the last batch; None if each image has one map, of
                its only label.

        Returns:
            The manifest's notes.

        Raises:
            SegError: the number of maps is wrong; or ``class_ids`` is None and an image has not exactly one label.
        """
        parts: Iterable[np.ndarray] = [values] if isinstance(values, np.ndarray) else values
        if class_ids is None:
            class_ids = [image_class_ids(data, row) for row in rows]
            if any(len(own) != 1 for own in class_ids):
                raise SegError(
                    f"{type(self).__name__}: images of several classes need a map for each, of none none; give save() "
                    "their class_ids (docs/extending.md)"
                )
        with rows_file(out / "scores.npy", np.float16) as file:
            count = 0
            for part in parts:
                file.write(part)
                count += len(part)
        first = np.cumsum([0, *map(len, class_ids)])
        if first[-1] != count or len(class_ids) != len(rows):
            raise SegError(
                f"{type(self).__name__}: {count} score maps for {first[-1]} classes of {len(rows)} images; save one "
                "for each (docs/extending.md)"
            )
        np.save(out / "first.npy", first)
        np.save(out / "class_ids.npy", np.asarray([one for own in class_ids for one in own], np.uint8))
        np.save(out / "rows.npy", rows.astype(np.int64))
        (out / "ids.txt").write_text("\n".join(data.ids[r] for r in rows) + "\n", encoding="utf-8")
        return {"images": len(rows), "resolution": list(file.shape)}

    def load(self, path: Path, store: Products) -> ScoreMaps:
        """What :meth:`save` wrote, memory-mapped.

        Images and labelled pixels are those of the stage's field ``scores``, or the images those of its ``pool``.
        """
        upstream = self.upstream()
        source = store.get(upstream["scores"] if "scores" in upstream else upstream["pool"])
        pixels = source.pixels if isinstance(source, ScoreMaps) else None
        rows, first, class_ids = (np.load(path / f"{name}.npy") for name in ("rows", "first", "class_ids"))
        values = np.load(path / "scores.npy", mmap_mode="r")
        return ScoreMaps(source.data, rows, values, first, class_ids, pixels=pixels)


@torch.inference_mode()
def infer(
    compute: Callable[[Tensor, np.ndarray], Tensor],
    data: PreparedData,
    rows: np.ndarray,
    runtime: Runtime,
    what: str,
    most: int | None = None,
) -> Iterator[np.ndarray]:
    """Apply a network to images, batch by batch.

    Args:
        compute: called with normalised images ``float32 (b, 3, S, S)`` on the device, and their positions in ``rows``.
        data: the prepared images. rows: ``int64 (n,)``, rows of ``data``.
        runtime: device, batch size, progress bar. what: text of the bar. most: largest batch.

    Yields:
        The results of ``compute``, on the CPU.
    """
    size = min(runtime.batch_size, most or runtime.batch_size)
    for start in runtime.bar(range(0, len(rows), size), what):
        part = np.arange(start, min(start + size, len(rows)))
        images = normalise(torch.from_numpy(data.images[rows[part]]).to(runtime.device))
        yield compute(images, part).cpu().numpy()


def per_map(
    compute: Callable[[np.ndarray, np.ndarray, Any], np.ndarray],
    scores: ScoreMaps,
    further: Sequence[Sequence[Any]],
    runtime: Runtime,
    what: str,
) -> Iterator[np.ndarray]:
    """Apply a function to every map in threads on the CPU; the libraries release the interpreter lock.

    Args:
        compute: an image ``uint8 (S, S, 3)``, a map ``float32 (S, S)`` and a third argument to a map ``(S, S)``.
        scores: the maps. further: the third arguments, for each map of each image.
        runtime: number of threads, progress bar. what: text of the bar.

    Yields:
        ``(1, S, S)``, map by map in order.
    """
    with ThreadPoolExecutor(runtime.worker_count) as pool:
        for positions in runtime.bar([*scores.batches()], what):
            maps, image, _ = scores.per_class(positions)
            images = scores.data.images[scores.rows[positions[image]]]
            for found in pool.map(compute, images, maps, [one for i in positions for one in further[i]]):
                yield found[None]
