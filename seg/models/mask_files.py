"""Masks as files: PNG in three kinds, or COCO's RLE."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from seg.data.dataset import UNKNOWN
from seg.data.prepared import PreparedData
from seg.errors import SegError
from seg.files import atomic_path
from seg.masks import MaskSet
from seg.store import Store

PNGKind = Literal["png255", "png01", "palette"]
Format = Literal[PNGKind, "coco_rle"]

#: Those that have room for classes.
WITH_CLASSES: tuple[Format, ...] = ("palette", "coco_rle")

#: The file beside indexed PNG that names the indices.
CLASSES = "classes.txt"


def check_format(value: Any, classes: int = 1) -> None:
    """Raise for what is no :data:`Format` for masks of so many classes; None is the default."""
    allowed = get_args(Format) if classes == 1 else WITH_CLASSES
    if value is not None and value not in allowed:
        raise SegError(f"export.format={value}: must be one of {', '.join(allowed)} for these masks")


def save_mask(path: Path, mask: npt.NDArray[np.uint8], kind: PNGKind, **options: Any) -> None:
    """Write a mask ``uint8 (H, W)`` of 0, ``1 + class`` and 255 (ignored) as PNG, whatever the ending of the file.

    ``png255`` has 255 for foreground and 128 for ignored; ``png01`` and ``palette`` keep the codes. ``options`` are
    Pillow's.
    """
    image = Image.fromarray(
        np.where(mask == 255, 128, 255 * (mask == 1)).astype(np.uint8) if kind == "png255" else mask
    )
    if kind == "palette":
        image = image.convert("P")
        image.putpalette(voc_palette().ravel().tolist())
    image.save(path, format="PNG", **options)


def write_classes(path: Path, names: Sequence[str]) -> None:
    """Write a line for every index of indexed PNG: the number and its name, ``background`` first."""
    lines = [f"{code} {' '.join(name.splitlines())}" for code, name in enumerate(names)]
    path.write_text("\n".join([*lines, "255 ignored"]) + "\n", encoding="utf-8")


def voc_palette() -> npt.NDArray[np.uint8]:
    """The 256 colours of Pascal VOC's masks, ``uint8 (256, 3)``: the index's bits, dealt to red, green, blue."""
    index, channel, bit = np.ogrid[:256, :3, :8]
    return ((((index >> (3 * bit + channel)) & 1) << (7 - bit)).sum(axis=2)).astype(np.uint8)


def export_masks(
    folder: Path,
    masks_of: Mapping[str, MaskSet],
    store: Store,
    kind: Format | None = None,
    file_names: Mapping[str, str] | None = None,
) -> int:
    """Write every mask at its image's original size (upright, where EXIF turns it).

    A code of ``palette`` and ``coco_rle`` is the mask's own where masks tell classes apart; in masks of the foreground
    it is 1 + the image's label, or 1 where images are not of one class each.

    Args:
        folder: gets per step a folder with ``<image id>.png``, or for ``coco_rle`` one ``<step>.json``.
        masks_of: by step. store: for its progress bar. file_names: of the images by id, for the JSON.
        kind: of the files; None for ``png255``, or ``palette`` where masks tell classes apart.

    Returns:
        How many files were written; the ``classes.txt`` beside ``palette`` is not counted.

    Raises:
        SegError: more than 254 classes for ``palette``, or a kind without room for the classes of the masks.
    """
    count = 0
    for name, masks in masks_of.items():
        data: PreparedData = masks.data
        check_format(kind, data.count)
        form = kind or ("png255" if data.count == 1 else "palette")
        target = folder / "".join(c if c.isalnum() else "_" for c in name).strip("_")
        (folder if form == "coco_rle" else target).mkdir(parents=True, exist_ok=True)
        # One foreground of images of one class each: an index or a category says which class that is.
        by_label = data.original is not None and data.original.has_one_label
        names = data.as_read.names if by_label else data.names
        if form == "palette":
            if len(names) > UNKNOWN:
                raise SegError(f"export.format=palette: {len(names) - 1} classes, and it has room for {UNKNOWN - 1}")
            write_classes(target / CLASSES, names)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for position in store.runtime.bar(range(len(masks)), f"exporting {name}"):
            row = int(masks.rows[position])
            image_id, (height, width) = data.ids[row], map(int, data.sizes[row])
            mask = masks.at(np.asarray([position]), (height, width))[0]
            if by_label and form in WITH_CLASSES:
                mask = np.where(mask == 1, np.uint8(1 + data.as_read.labels[row]), mask)
            if form != "coco_rle":
                if Path(image_id).name != image_id or "\0" in image_id:
                    raise SegError(f"{image_id[:200]!r}: an image's id that leads out of {target}; rename the image")
                save_mask(target / f"{image_id}.png", mask, form)
                continue
            file = (file_names or {}).get(image_id, image_id)
            images.append({"id": row + 1, "file_name": file, "width": width, "height": height})
            for code in np.unique(mask[(mask > 0) & (mask < UNKNOWN)]).tolist():
                rle = coco_mask.encode(np.asfortranarray(mask == code, dtype=np.uint8))
                one = {"id": len(annotations) + 1, "image_id": row + 1, "category_id": code, "iscrowd": 0}
                one |= {"area": int(coco_mask.area(rle)), "bbox": coco_mask.toBbox(rle).tolist()}
                annotations.append(one | {"segmentation": rle | {"counts": rle["counts"].decode()}})
        if form == "coco_rle":
            document: dict[str, Any] = {"info": {"description": f"weakseg: masks of {data.title}"}}
            categories = [{"id": code, "name": name} for code, name in enumerate(names) if code]
            document |= {"images": images, "annotations": annotations, "categories": categories}
            with atomic_path(target.with_suffix(".json")) as tmp:
                tmp.write_text(json.dumps(document) + "\n", encoding="utf-8")
        count += 1 if form == "coco_rle" else len(masks)
    return count
