"""Predicts masks of images with a trained segmenter."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image as Pillow

from seg.data.decode import decode_image, fitted
from seg.errors import SegError
from seg.methods.seeds import threshold_scores
from seg.models import video
from seg.models.load import Model
from seg.models.tiles import Tiles, scores_in_tiles
from seg.models.video import Frame, frames
from seg.nets.augment import normalise
from seg.nets.resize import upsample
from seg.segmenter.predicted import class_maps, logits

#: Suffixes of photos in a folder; a file that is named itself may have any.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".avif", ".ppm", ".pgm")

#: Folders that ``seg.predict`` writes.
RESULTS = ("masks", "overlays", "scores", "cvat", "voc")

Image = str | Path | np.ndarray


class Prediction(NamedTuple):
    """A prediction for an image, at its original size.

    Attributes:
        scores: ``float32 (H, W)`` in [0, 1]: of the foreground, or with classes of the likeliest class against
            the background. Bilinear.
        codes: ``uint8 (H, W)``, ``1 + class`` of the likeliest class; None without classes.
    """

    scores: np.ndarray
    codes: np.ndarray | None = None

    def mask(self, threshold: float) -> np.ndarray:
        """``uint8 (H, W)``: 0 background; 1 foreground or ``1 + class`` where the score reaches the threshold."""
        mask = threshold_scores(self.scores, threshold, threshold)
        return mask if self.codes is None else np.where(mask == 1, self.codes, mask)


def predict(
    model: Model,
    images: "Image | Sequence[Image]",
    *,
    scores: bool = False,
    threshold: float = 0.5,
    batch_size: int = 16,
    tiles: Tiles | None = None,
) -> list[np.ndarray]:
    """Predict masks of images, each at its original size. ::

        from seg import load_model, predict

        model = load_model("outputs/runs/full/2026-01-31_12-00-00")
        masks = predict(model, ["a.jpg", "b.png"])  # uint8 (H, W), 0 and 1; or the codes of model.names

    Args:
        model: of :func:`seg.load_model`.
        images: paths, or ``uint8 (H, W, 3)`` RGB arrays of any sizes; one or many. A single path may also be a folder
            or a video, whose images come in the order of :func:`find_images`.
        scores: return :attr:`Prediction.scores` instead.
        threshold: least score of an object; 0.5 gives each pixel its likeliest class.
        batch_size: images (or tiles) per forward pass.
        tiles: cut images into tiles of ``model.input_size``, instead of resizing them to it.

    Returns:
        In the order of ``images``: ``uint8 (H, W)``, 0 background, 1 foreground or ``1 + class``, which is
        ``model.names`` by code; or ``float32 (H, W)`` in [0, 1]. A run gives the same at its images' original size.
        H and W are those of the photo in its EXIF orientation.

    Raises:
        SegError: an image is missing or unreadable, or an array has another shape or dtype.
    """
    each: Iterable[Image] = images if isinstance(images, Sequence) else [images]
    if isinstance(images, str | Path):
        each = video.read(image for image, _ in find_images(Path(images)))
    elif isinstance(images, np.ndarray) and images.ndim != 3:
        each = list(images)
    out = []
    for result in predict_each(model, each, batch_size=batch_size, tiles=tiles):
        if isinstance(result, SegError):
            raise result
        out.append(result.scores if scores else result.mask(threshold))
    return out


def predict_each(
    model: Model, images: Iterable[Image], *, batch_size: int = 16, workers: int = 1, tiles: Tiles | None = None
) -> Iterator[Prediction | SegError]:
    """Yield a prediction for each image at its original size, or the error for an unreadable one.

    The next batch is decoded while one is computed. Images are resized and scaled back as in a run. With tiles, one
    image is in memory at a time.
    """
    if tiles is not None:
        for image in images:
            whole = _decode(image, None)
            if isinstance(whole, SegError):
                yield whole
            else:
                scores, codes = scores_in_tiles(model, whole[0], tiles, batch_size)
                del whole
                yield _checked(image, Prediction(scores, codes if model.classes else None))
        return
    images = iter(images)
    side = model.input_size if model.aspect else model.working_size
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[tuple[Image, Future[Any]]] = []
        while True:
            coming = [(im, pool.submit(_decode, im, side, model.aspect)) for im in islice(images, batch_size)]
            decoded = [(image, future.result()) for image, future in waiting]
            good = [one[0] for _, one in decoded if not isinstance(one, SegError)]
            batches = [np.stack([one]) for one in good] if model.aspect else [np.stack(good)] if good else []
            found = (maps for batch in batches for maps in _class_maps(model, batch))
            for image, one in decoded:
                if isinstance(one, SegError):
                    yield one
                    continue
                maps, class_ids = next(found)
                maps, codes = upsample(maps, one[1]), np.asarray(class_ids, np.uint8)
                yield _checked(image, Prediction(maps.max(0), codes[maps.argmax(0)] if model.classes else None))
            if not (waiting := coming):
                return


def pixels_of(image: Image) -> np.ndarray:
    """``uint8 (H, W, 3)``. Raises SegError: it is missing or unreadable."""
    return image if isinstance(image, np.ndarray) else decode_image(Path(image))[0]


def _checked(image: Image, prediction: Prediction) -> Prediction | SegError:
    if not np.isnan(prediction.scores.sum()):
        return prediction
    name = "an array" if isinstance(image, np.ndarray) else image
    return SegError(f"{name}: the network answers with NaN; its weights, mean or std are broken")


def _decode(image: Image, side: int | None, aspect: bool = False) -> tuple[np.ndarray, tuple[int, int]] | SegError:
    """The image resized to ``side`` (None: not), ``uint8 (h, w, 3)``, and its original height and width."""
    try:
        if not isinstance(image, np.ndarray):
            return decode_image(Path(image), side, aspect)
    except SegError as error:
        return error
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        return SegError(f"an image is {image.dtype} {image.shape}; give uint8 (H, W, 3) RGB, or a path")
    pillow = Pillow.fromarray(image)
    if side is not None:
        pillow = pillow.resize(fitted(pillow.size, side) if aspect else (side, side), Pillow.Resampling.BILINEAR)
    return np.asarray(pillow), (image.shape[0], image.shape[1])


@torch.inference_mode()
def _class_maps(model: Model, images: np.ndarray) -> list[tuple[np.ndarray, list[int]]]:
    """``uint8 (B, H, W, 3)`` to ``float32 (k, s, s)`` scores of each image's classes, and the codes of these."""
    batch = normalise(torch.from_numpy(images).to(model.device), model.mean, model.std)
    found = map(class_maps, logits(model.network, batch, model.input_size, flip=model.flip, aspect=model.aspect))
    return [(maps.float().cpu().numpy(), class_ids) for maps, class_ids in found]


def find_images(path: Path, out: Path | None = None) -> list[tuple[Path | Frame, Path]]:
    """Find the images in a folder and below it, or a single image, or the frames of a video.

    Args:
        path: a file or a folder, or ``-`` to read paths from standard input, one per line.
        out: folder of results; those in it are no images.

    Returns:
        Sorted by name, or in the order of the lines: the image, and a name for its result. That is the path below the
        folder (of lines: below their common folder) without suffix, or with it where two images differ in nothing
        else; of a video's frame it ends in ``/000000`` and so on.

    Raises:
        SegError: no image is found.
    """
    if path == Path("-"):
        lines = (text.rstrip("\r\n") for text in sys.stdin)
        found = [*dict.fromkeys(Path(os.path.abspath(line)) for line in lines if line)]
        if missing := next((file for file in found if not file.is_file()), None):
            raise SegError(f"images=-: {missing}: no such file")
        if not found:
            raise SegError("images=-: standard input names no file; give a path per line")
        root = Path(os.path.commonpath([file.parent for file in found]))
    elif path.is_file():
        found, root = [path], path.parent
    else:
        results = () if out is None else tuple(out / name for name in RESULTS)
        found, root = sorted(p for p in path.rglob("*") if _is_image(p, path, results)), path
    if not found:
        kinds = ", ".join(SUFFIXES[:4])
        raise SegError(f"images={path}: no such file, or no image ({kinds}, ...) in that folder; name a video itself")
    names = [p.relative_to(root) for p in found]
    short = [name.with_suffix("") for name in names]
    named = zip(found, short if len({*short}) == len(short) else names, strict=True)
    return [one for file, name in named for one in _frames(file, name)]


def _is_image(path: Path, folder: Path, results: tuple[Path, ...]) -> bool:
    return (
        path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not any(path.is_relative_to(result) for result in results)
    )


def _frames(file: Path, name: Path) -> list[tuple[Path | Frame, Path]]:
    if file.suffix.lower() not in video.SUFFIXES:
        return [(file, name)]
    return [(frame, name / f"{frame.number:06d}") for frame in frames(file)]
