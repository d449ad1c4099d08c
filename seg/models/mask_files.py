"""Masks out of the store: PNG in three kinds, or COCO's run lengths."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg.data.dataset import UNKNOWN
from seg.data.prepared import PreparedData
from seg.errors import SegError
from seg.files import atomic_path
from seg.masks import MaskSet
from seg.models.png import CLASSES, PNGKind, save_indexed, save_png, write_classes
from seg.store import Store

Format = Literal[PNGKind, "coco_rle"]

Mask = npt.NDArray[np.uint8]


#: Those that have room for classes.
WITH_CLASSES: tuple[Format, ...] = ("palette", "coco_rle")


def check_format(value: Any, classes: int = 1) -> None:
    """Refuse what is no :data:`Format` for masks of so many classes (None is: nothing was asked for)."""
    if value is not None and value not in get_args(Format):
        raise SegError(f"export.format={value}: must be one of {', '.join(get_args(Format))}")
    if classes > 1 and value not in (None, *WITH_CLASSES):
        raise SegError(
            f"export.format={value}: tells no classes apart, and these masks do; take {' or '.join(WITH_CLASSES)}, or "
            "task=foreground"
        )


def export_masks(
    folder: Path,
    masks_of: Mapping[str, MaskSet],
    store: Store,
    kind: Format | None = None,
    file_names: Mapping[str, str] | None = None,
) -> int:
    """Write every mask at its image's original size (upright, where EXIF turns it).

    PNG of the kinds of :func:`seg.models.png.save_png`, for ``palette`` with a ``classes.txt`` that names the indices;
    or for ``coco_rle`` one JSON per step, see :func:`coco_document`. An index of ``palette`` is 1 + the image's label;
    or the mask's code, where masks tell classes apart, or images are not of one class each.

    Args:
        folder: gets a folder per step with ``<image id>.png``, or ``<step>.json``.
        masks_of: by step. store: for its progress bar.
        kind: of the files; None for ``png255``, or ``palette`` where masks tell classes apart.
        file_names: of the images by id, for the JSON.

    Returns:
        How many files were written, lists of classes not counted.

    Raises:
        SegError: for a palette with more than 254 classes, or a kind without room for the classes of the masks.
    """
    count = 0
    for name, masks in masks_of.items():
        data: PreparedData = masks.data
        check_format(kind, data.count)
        form = kind or ("png255" if data.count == 1 else "palette")
        target = folder / "".join(c if c.isalnum() else "_" for c in name).strip("_")
        folder.mkdir(parents=True, exist_ok=True)
        if form == "coco_rle":
            document = coco_document(masks, store, file_names or {}, f"exporting {name}")
            with atomic_path(target.with_suffix(".json")) as tmp:
                tmp.write_text(json.dumps(document) + "\n", encoding="utf-8")
            count += 1
            continue
        target.mkdir(exist_ok=True)
        names = _names(data)
        if form == "palette":
            if len(names) > UNKNOWN:
                raise SegError(
                    f"export.format=palette: {len(names) - 1} classes, but an indexed PNG has room for {UNKNOWN - 1}"
                )
            write_classes(target / CLASSES, names)
        for position in store.runtime.bar(range(len(masks)), f"exporting {name}"):
            row, mask = _mask(masks, position)
            path = _within(target, data.ids[row])
            if form == "palette" and not _by_label(data):
                save_indexed(path, mask)
            else:
                save_png(path, mask, form, int(data.as_read.labels[row]))
        count += len(masks)
    return count


def _by_label(data: PreparedData) -> bool:
    """Whether an object's index or category is the label of its image, for the mask does not tell."""
    return data.original is not None and data.original.has_one_label


def _names(data: PreparedData) -> tuple[str, ...]:
    """What the indices, or the ids of categories, mean."""
    return data.as_read.names if _by_label(data) else data.names


def _mask(masks: MaskSet, position: int) -> tuple[int, Mask]:
    row = int(masks.rows[position])
    height, width = map(int, masks.data.sizes[row])
    return row, masks.at(np.asarray([position]), (height, width))[0]


def _within(folder: Path, name: str) -> Path:
    """The file of an image's mask; ids come with the data and the store, and must not lead elsewhere."""
    if Path(name).name != name or "\0" in name:
        raise SegError(f"{name[:200]!r}: an image's id that leads out of {folder}; rename the image")
    return folder / f"{name}.png"


def run_lengths(foreground: npt.NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed RLE of a mask: lengths of its runs, column by column from the top left.

    The first run is of background and may be 0; the lengths add up to ``H * W``.

    Args:
        foreground: ``bool (H, W)``.
    """
    flat = foreground.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return [0, *counts] if flat.size and flat[0] else counts


def coco_document(masks: MaskSet, store: Store, file_names: Mapping[str, str], what: str) -> dict[str, Any]:
    """Masks as a COCO document: every image, and an annotation for each class of its mask.

    ``segmentation`` is uncompressed RLE (:func:`run_lengths`, which pycocotools' ``frPyObjects`` reads, hence
    ``iscrowd: 1``); ``bbox`` is ``[x, y, width, height]``; ``category_id`` is the mask's code, or 1 + the image's label
    where masks tell no classes apart. Ignored pixels are of no class.
    """
    data: PreparedData = masks.data
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position in store.runtime.bar(range(len(masks)), what):
        row, mask = _mask(masks, position)
        height, width = mask.shape
        name = file_names.get(data.ids[row], data.ids[row])
        images.append({"id": row + 1, "file_name": name, "width": width, "height": height})
        for category, pixels in _regions(data, row, mask):
            if not (box := Image.fromarray(pixels).getbbox()):
                continue
            left, top, right, bottom = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": row + 1,
                    "category_id": category,
                    "segmentation": {"size": [height, width], "counts": run_lengths(pixels)},
                    "area": int(pixels.sum()),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 1,
                }
            )
    categories = [{"id": code, "name": name} for code, name in enumerate(_names(data)) if code]
    info = {"description": f"weakseg: masks of {data.title}"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def _regions(data: PreparedData, row: int, mask: Mask) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """The categories of an image's mask, with their pixels ``bool (H, W)``."""
    if _by_label(data):
        yield int(data.as_read.labels[row]) + 1, mask == 1
        return
    for code in np.unique(mask).tolist():
        if 0 < code < UNKNOWN:
            yield code, mask == code
