"""COCO's annotation files: the images and categories they list, and the box and outline of each annotation."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from seg.data.dataset import Box
from seg.data.layout import is_writable, read_text
from seg.errors import SegError, first_line

#: A number, or a text that is none: ``3``, ``3.0`` and ``"3"`` are the same id.
Id = int | str

_WRONG = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, IndexError)
#: Pixels from the corner at most: what lies further out is no place in an image.
_FARTHEST = 1_000_000


class CocoImage(NamedTuple):
    """An image as the file names it, and its ``(height, width)`` if the file says so."""

    name: str
    size: tuple[int, int] | None


class Annotation(NamedTuple):
    """One object, or a crowd of objects that are not told apart.

    Attributes:
        where: file and number, for messages.
        image, category: ids, of images and categories that may be listed or not.
        is_crowd: what its ``iscrowd`` or ``ignore`` says (VOC's difficult objects have the latter).
        box: ``(xmin, ymin, xmax, ymax)`` of its ``bbox``, else its extent; it may be empty or stick out.
        extent: the box of its outline; None where it has none.
        polygons: outlines ``x0, y0, x1, y1, ...`` of three points or more; lines: how many of fewer were left out.
        runs: or RLE: lengths of runs down the columns, of background first; runs_size: their ``(height, width)``.
    """

    where: str
    image: Id
    category: Id | None
    is_crowd: bool
    box: Box
    extent: Box | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: tuple[int, ...] = ()
    runs_size: tuple[int, int] | None = None
    lines: int = 0


@dataclass(frozen=True)
class CocoFile:
    """What a file lists: images by id, name and ``supercategory`` of its categories by id, and its annotations.

    An annotation that cannot be read is a SegError. If all have ``iscrowd: 1``, as tools write it beside RLE
    (``crowds_only``), they are objects.
    """

    path: Path
    images: dict[Id, CocoImage]
    categories: dict[Id, tuple[str, str]]
    annotations: list[Annotation | SegError]
    crowds_only: bool


def read_coco(path: Path) -> CocoFile:
    """Read a JSON with ``images`` and ``annotations``, and perhaps ``categories``.

    Raises:
        SegError: it cannot be read or is of another kind, one id is of two images or categories, a category's name
            cannot be written, or no annotation is of an image that it lists.
    """
    images: dict[Id, CocoImage] = {}
    categories: dict[Id, tuple[str, str]] = {}
    try:
        content = json.loads(read_text(path))
        if not isinstance(content, dict):
            raise TypeError("it is a list, of results or in another format; export as COCO instances")
        entries = list(content["annotations"])
        for key, kind in (("segments_info", "panoptic segments"), ("caption", "captions")):
            if any(isinstance(entry, dict) and key in entry for entry in entries[:1]):
                raise TypeError(f"it holds {kind}; give the JSON of the instances")
        for image in content["images"]:
            listed = CocoImage(str(image["file_name"]), _size(image.get("height"), image.get("width")))
            if (other := images.setdefault(_id(image["id"]), listed).name) != listed.name:
                raise SegError(f"{path}: image id {image['id']} is of {other} and of {listed.name}")
        for category in content.get("categories") or ():
            if not isinstance(category["name"], str) or not (name := category["name"].strip()):
                raise TypeError("a category needs an id and a name")
            if not is_writable(name):
                raise TypeError(f"the category {name!r} has characters that cannot be written; rename it")
            said = (name, str(category.get("supercategory") or ""))
            if (other := categories.setdefault(_id(category["id"]), said)[0]) != name:
                raise SegError(f"{path}: category id {category['id']} is of {other!r} and of {name!r}")
    except _WRONG as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise SegError(f"{path}: is no COCO JSON with images and annotations ({what})") from error
    found = [_annotation(entry, f"{path} annotation {number}") for number, entry in enumerate(entries)]
    good = [one for one in found if isinstance(one, Annotation)]
    if good and not any(one.image in images for one in good):
        raise SegError(
            f"{path}: not one of its {len(entries)} annotations is of an image that it lists "
            f"(image_id {good[0].image}, say); give a file whose image_id are the ids of its images"
        )
    if good and all(0 <= side <= 1 for one in good for side in one.extent or one.box):
        raise SegError(f"{path}: its boxes and outlines are shares of the image's sides (0 to 1); write them in pixels")
    crowds_only = bool(good) and all(one.is_crowd for one in good)
    for place, (one, entry) in enumerate(zip(found, entries, strict=True)):
        if isinstance(one, Annotation):
            found[place] = one._replace(is_crowd=(one.is_crowd and not crowds_only) or _is_true(entry.get("ignore")))
    order = sorted(categories, key=lambda i: (isinstance(i, str), i))
    return CocoFile(path, images, {i: categories[i] for i in order}, found, crowds_only)


def _is_true(said: Any) -> bool:
    return str(said).lower() in ("1", "1.0", "true")


def _id(value: Any) -> Id:
    if isinstance(value, str) and value.strip():
        text = value.strip()
        return int(text) if re.fullmatch("0|-?[1-9][0-9]{0,17}", text) else text
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise TypeError(f"{str(value)[:40]!r} is no id")
    return int(value)


def _size(*sides: Any) -> tuple[int, int] | None:
    try:
        height, width = (int(float(side)) for side in sides)
    except _WRONG:
        return None
    return (height, width) if height > 0 and width > 0 else None


def _annotation(entry: Any, where: str) -> Annotation | SegError:
    try:
        image, category = _id(entry["image_id"]), entry.get("category_id")
        category = None if category is None else _id(category)
        is_crowd = _is_true(entry.get("iscrowd"))
        segmentation, bbox = entry.get("segmentation"), entry.get("bbox")
        if isinstance(bbox, str):  # whose digits would be taken for numbers
            raise TypeError
        box: Box | None = None
        if bbox:
            x, y, width, height = map(float, bbox)
            box = x, y, x + width, y + height
    except _WRONG:
        return SegError(f"{where}: needs the image_id of an image and bbox [x, y, width, height] or an outline")
    outline: dict[str, Any] = {}
    try:
        if isinstance(segmentation, list) and [*map(type, segmentation)] == [dict]:
            segmentation = segmentation[0]
        if segmentation:
            outline = (_runs if isinstance(segmentation, dict) else _polygons)(segmentation)
    except _WRONG as error:
        why = first_line(error)
        return SegError(f"{where}: its segmentation is no polygons [[x, y, x, y, ...], ...] and no RLE ({why})")
    # Tools that have no box write zeros or NaN.
    if box is None or not (box[0] < box[2] or box[1] < box[3]):
        box = outline.get("extent", box)
    if box is None:
        return SegError(f"{where}: needs bbox [x, y, width, height] or an outline of three points or more")
    return Annotation(where, image, category, is_crowd, box, **outline)


def _polygons(said: Any) -> dict[str, Any]:
    """Of ``[[x, y, ...], ...]``, of one flat list ``[x, y, ...]``, or with points as pairs ``[x, y]``."""
    if not isinstance(said, list):
        raise TypeError("neither a list nor {size, counts}")
    if not isinstance(said[0], list) or (len(said) > 2 and all(len(part) == 2 for part in said)):
        said = [said]
    polygons, lines = [], 0
    for part in said:
        pairs = part and isinstance(part[0], list)
        numbers = tuple(map(float, [c for point in part for c in point] if pairs else part))
        # Written so that a NaN, which fails every comparison, is refused.
        if len(numbers) % 2 or not all(abs(c) <= _FARTHEST for c in numbers):
            raise ValueError("a polygon is x, y, x, y, ... in pixels")
        if len(numbers) < 6:
            lines += 1
        else:
            polygons.append(numbers)
    if not polygons:
        return {"lines": lines}
    xs, ys = ([c for p in polygons for c in p[start::2]] for start in (0, 1))
    return {"polygons": tuple(polygons), "lines": lines, "extent": (min(xs), min(ys), max(xs), max(ys))}


def _runs(said: dict[str, Any]) -> dict[str, Any]:
    """Of ``{size, counts}``, the counts a list or a compressed string."""
    counts, size = said["counts"], _size(*said["size"])
    if isinstance(counts, str):
        text = re.sub(r"^b(['\"])(.*)\1$", r"\2", counts).replace("\\\\", "\\")  # bytes, as Python prints them
        counts = _uncompressed(text)
    runs = tuple(map(int, counts))
    if size is None or min(runs, default=0) < 0:
        raise ValueError("RLE needs size [height, width] and counts")
    if sum(runs) != size[0] * size[1]:
        raise ValueError(f"its runs are of {sum(runs)} pixels, its size is {size[1]} x {size[0]}")
    x, y, width, height = coco_mask.toBbox(coco_mask.frPyObjects({"size": size, "counts": runs}, *size)).tolist()
    return {"runs": runs, "runs_size": size, "extent": (x, y, x + width, y + height)}


def _uncompressed(text: str) -> list[int]:
    """The counts in a compressed string. pycocotools reads past the end of a broken one, so it gets none."""
    if not re.fullmatch("(?:[P-o]{0,6}[0-O])*", text):
        raise ValueError("counts is no string of COCO's")
    counts: list[int] = []
    for characters in re.findall("[P-o]*[0-O]", text):
        number = sum((ord(c) - 48 & 31) << 5 * i for i, c in enumerate(characters))
        if ord(characters[-1]) - 48 & 16:  # the sign
            number -= 1 << 5 * len(characters)
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
    return counts


def run_lengths(mask: npt.NDArray[Any]) -> tuple[int, ...]:
    """The counts of a mask ``(H, W)`` of 0 and 1: lengths of runs down the columns, of 0 first."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return tuple(_uncompressed(rle["counts"].decode()))
