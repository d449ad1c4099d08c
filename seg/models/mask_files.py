"""Masks out of the store: PNG in three kinds, or COCO's run lengths."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg.data.prepared import PreparedData
from seg.errors import SegError
from seg.files import atomic_path
from seg.masks import MaskSet
from seg.models.png import PNGKind, save_png
from seg.store import Store

Format = Literal[PNGKind, "coco_rle"]

Mask = npt.NDArray[np.uint8]


def check_format(value: Any) -> None:
    """Refuse what is no :data:`Format` (None is: nothing was asked for)."""
    if value is not None and value not in get_args(Format):
        raise SegError(f"export.format={value}: must be one of {', '.join(get_args(Format))}")


def export_masks(
    folder: Path,
    masks_of: Mapping[str, MaskSet],
    store: Store,
    kind: Format = "png255",
    file_names: Mapping[str, str] | None = None,
) -> int:
    """Write every mask at its image's original size (upright, where EXIF turns it).

    PNG of the kinds of :func:`seg.models.png.save_png`, for ``palette`` with a ``classes.txt`` that names the indices;
    or for ``coco_rle`` one JSON per step, see :func:`coco_document`.

    Args:
        folder: gets a folder per step with ``<image id>.png``, or ``<step>.json``.
        masks_of: by step. store: for its progress bar.
        kind: of the files. file_names: of the images by id, for the JSON.

    Returns:
        How many files were written, lists of classes not counted.

    Raises:
        SegError: for a palette with more than 254 classes.
    """
    count = 0
    for name, masks in masks_of.items():
        target = folder / "".join(c if c.isalnum() else "_" for c in name).strip("_")
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "coco_rle":
            document = coco_document(masks, store, file_names or {}, f"exporting {name}")
            with atomic_path(target.with_suffix(".json")) as tmp:
                tmp.write_text(json.dumps(document) + "\n", encoding="utf-8")
            count += 1
            continue
        target.mkdir(exist_ok=True)
        if kind == "palette":
            _write_classes(target / "classes.txt", masks.data.classes)
        for position in store.runtime.bar(range(len(masks)), f"exporting {name}"):
            row, mask = _mask(masks, position)
            save_png(_within(target, masks.data.ids[row]), mask, kind, int(masks.data.labels[row]))
        count += len(masks)
    return count


def _mask(masks: MaskSet, position: int) -> tuple[int, Mask]:
    row = int(masks.rows[position])
    height, width = map(int, masks.data.sizes[row])
    return row, masks.at(np.asarray([position]), (height, width))[0]


def _within(folder: Path, name: str) -> Path:
    """The file of an image's mask; ids come with the data and the store, and must not lead elsewhere."""
    if Path(name).name != name or "\0" in name:
        raise SegError(f"{name[:200]!r}: an image's id that leads out of {folder}; rename the image")
    return folder / f"{name}.png"


def _write_classes(path: Path, classes: tuple[str, ...]) -> None:
    if len(classes) > 254:
        raise SegError(f"export.format=palette: {len(classes)} classes, but an indexed PNG has room for 254")
    lines = ["0 background", *(f"{label + 1} {name}" for label, name in enumerate(classes)), "255 ignored"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


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
    """Masks as a COCO document: every image, and one annotation for each that has foreground.

    ``segmentation`` is uncompressed RLE (:func:`run_lengths`, which pycocotools' ``frPyObjects`` reads, hence
    ``iscrowd: 1``); ``bbox`` is ``[x, y, width, height]``; ``category_id`` is 1 + the image's label. Ignored
    pixels are not foreground.
    """
    data: PreparedData = masks.data
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position in store.runtime.bar(range(len(masks)), what):
        row, mask = _mask(masks, position)
        height, width = mask.shape
        name = file_names.get(data.ids[row], data.ids[row])
        images.append({"id": row + 1, "file_name": name, "width": width, "height": height})
        foreground = mask == 1
        if not (box := Image.fromarray(foreground).getbbox()):
            continue
        left, top, right, bottom = box
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": row + 1,
                "category_id": int(data.labels[row]) + 1,
                "segmentation": {"size": [height, width], "counts": run_lengths(foreground)},
                "area": int(foreground.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 1,
            }
        )
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(data.classes)]
    info = {"description": f"weakseg: masks of {data.title}"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}
