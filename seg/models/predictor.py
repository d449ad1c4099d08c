"""Masks of any images with a trained segmenter, as arrays."""

import glob
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from seg.data.decode import decode_image
from seg.errors import SegError
from seg.methods.seeds import threshold_scores
from seg.models.load import Model
from seg.models.png import CLASSES
from seg.nets.augment import normalise
from seg.nets.resize import upsample
from seg.segmenter.predicted import class_maps, logits

#: What is taken for a photo in a folder; a file that is named itself may end in anything.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".avif", ".ppm", ".pgm")

#: In the folder of the results: a line of JSON for each mask (its name, the SHA-256 of its photo, and of what it was
#: made with), and the folders.
RECORD, KINDS = "predict.jsonl", ("masks", "overlays", "scores")

Image = str | Path | np.ndarray


class Answer(NamedTuple):
    """What a model says of an image, at the image's own size.

    Attributes:
        scores: ``float32 (H, W)`` in [0, 1], of any object: the foreground's probability, or that of the likeliest
            class as a share of its and the background's. Bilinear.
        codes: ``uint8 (H, W)``, ``1 + class`` of the likeliest class; None where the model tells none apart.
    """

    scores: np.ndarray
    codes: np.ndarray | None = None

    def mask(self, threshold: float) -> np.ndarray:
        """``uint8 (H, W)``: 0 background; where the score reaches the threshold 1 foreground, or ``1 + class``."""
        mask = threshold_scores(self.scores, threshold, threshold)
        return mask if self.codes is None else np.where(mask == 1, self.codes, mask)


def predict(
    model: Model,
    images: "Image | Sequence[Image]",
    *,
    scores: bool = False,
    threshold: float = 0.5,
    batch_size: int = 16,
) -> list[np.ndarray]:
    """Masks of images, each at its own size. ::

        from seg import load_model, predict

        model = load_model("outputs/runs/full/2026-01-31_12-00-00")
        masks = predict(model, ["a.jpg", "b.png"])  # uint8 (H, W), 0 and 1; or the codes of model.names

    Args:
        model: of :func:`seg.load_model`.
        images: paths, or ``uint8 (H, W, 3)`` RGB arrays of any sizes; one or many. A text may also be a folder or
            a glob, whose images come in the order of :func:`find_images`.
        scores: return the foreground's probability instead; of a model with classes the score of any object, which is
            the likeliest class's probability as a share of its and the background's.
        threshold: an object from this score on; at 0.5 a pixel is of what the model finds likeliest.
        batch_size: images per forward pass.

    Returns:
        In the order of ``images``: ``uint8 (H, W)``, 0 background, 1 foreground or ``1 + class``, which is
        ``model.names`` by code; or ``float32 (H, W)`` in [0, 1]. They are those of a run at its images' original size:
        each class's scores are scaled bilinearly.
        A photo's H and W are as its EXIF orientation shows it.

    Raises:
        SegError: an image that is missing or unreadable, or no array of that kind.
    """
    if isinstance(images, np.ndarray):
        listed: Sequence[Image] = [images] if images.ndim == 3 else list(images)
    elif isinstance(images, str | Path):
        listed = [path for path, _ in find_images(str(images))]
    else:
        listed = images
    out = []
    for result in predict_each(model, listed, batch_size=batch_size):
        if isinstance(result, SegError):
            raise result
        out.append(result.scores if scores else result.mask(threshold))
    return out


def predict_each(
    model: Model, images: Sequence[Image], *, batch_size: int = 16, workers: int = 1
) -> Iterator[Answer | SegError]:
    """What a model says of images, one after the other, each at its own size.

    An unreadable image gives the error that it met. The next batch is decoded while one is computed; images are
    squashed, computed and scaled back exactly as a run does it.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Any]] = []
        done = 0
        for part in (*(images[i : i + batch_size] for i in range(0, len(images), batch_size)), []):
            decoding = [pool.submit(_decode, image, model.working_size) for image in part]
            decoded, waiting = [future.result() for future in waiting], decoding
            good = [d for d in decoded if not isinstance(d, SegError)]
            found = iter(_answers(model, np.stack([image for image, _ in good])) if good else ())
            before = images[done : done + len(decoded)]
            done += len(decoded)
            for image, one in zip(before, decoded, strict=True):
                if isinstance(one, SegError):
                    yield one
                elif np.isnan((said := next(found))[0]).any():
                    name = "an array" if isinstance(image, np.ndarray) else str(image)
                    yield SegError(
                        f"{name}: the network answers with NaN; its weights, or its mean and std, are broken"
                    )
                else:
                    maps, class_ids = upsample(said[0], one[1]), np.asarray(said[1], np.uint8)
                    yield Answer(maps.max(0), class_ids[maps.argmax(0)] if model.classes else None)


def _decode(image: Image, side: int) -> tuple[np.ndarray, tuple[int, int]] | SegError:
    """``uint8 (side, side, 3)`` and the original height and width."""
    if isinstance(image, np.ndarray):
        from PIL import Image as Pillow

        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            return SegError(f"an image is {image.dtype} {image.shape}; give uint8 (H, W, 3) RGB, or a path")
        squashed = Pillow.fromarray(image).resize((side, side), Pillow.Resampling.BILINEAR)
        return np.asarray(squashed), (image.shape[0], image.shape[1])
    try:
        return decode_image(Path(image), side)
    except SegError as error:
        return error


@torch.inference_mode()
def _answers(model: Model, images: np.ndarray) -> list[tuple[np.ndarray, list[int]]]:
    """``uint8 (B, S, S, 3)`` to ``float32 (k, s, s)`` scores of each image's classes, and the codes of these."""
    batch = normalise(torch.from_numpy(images).to(model.device), model.mean, model.std)
    found = map(class_maps, logits(model.network, batch, model.input_size))
    return [(maps.float().cpu().numpy(), class_ids) for maps, class_ids in found]


def _is_result(path: Path, root: Path) -> bool:
    """Whether a prediction has written the file: its folder of results lies below the root."""
    below = [folder for folder in path.parents if folder != root and folder.is_relative_to(root)]
    return any(folder.name in KINDS and (folder.parent / RECORD).is_file() for folder in below)


def find_images(pattern: str) -> list[tuple[Path, Path]]:
    """The images that a file, a folder or a glob stands for.

    Args:
        pattern: a folder is searched with all folders below it, for files that end as images do; ``**`` in a glob
            too. Results of earlier predictions are left out.

    Returns:
        In the order of their names: the path, and a name for its result: the path below the folder, without the
        ending (with it where two images differ in nothing else, or where it would be another's whole name).

    Raises:
        SegError: there is none.
    """
    path = Path(pattern)
    if path.is_file():
        found, root = [path], path.parent
    elif path.is_dir():
        root = path
        found = [p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
        found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    else:
        root = Path(pattern[: re.search(r"[*?[]|$", pattern).start()])  # type: ignore[union-attr]
        root = root if pattern.startswith(f"{root}/") else root.parent
        found = [p for p in map(Path, glob.glob(pattern, recursive=True)) if p.is_file()]
    if not path.is_file():
        found = [p for p in found if p.name not in (RECORD, CLASSES) and not _is_result(p, root)]
    if not found:
        what = f"no image ({', '.join(SUFFIXES[:4])}, ...) in it" if path.is_dir() else "no such file, folder or glob"
        raise SegError(f"images={pattern}: {what}")
    found.sort()
    names = [p.relative_to(root) for p in found]
    if any(".." in n.parts for n in names):  # a mask would lie outside of its folder
        raise SegError(f"images={pattern}: has '..' behind a wildcard; give the folder itself")
    stems, whole = Counter(n.with_suffix("") for n in names), set(names)
    short = [n.with_suffix("") for n in names]
    return [(p, n if stems[s] > 1 or s in whole else s) for p, n, s in zip(found, names, short, strict=True)]
