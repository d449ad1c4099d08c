"""COCO's annotation files: images, categories, and the box and outline of each annotation."""

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
from seg.data.read_report import ReadReport
from seg.errors import SegError, first_line

#: A number, or text that is not a number: ``3``, ``3.0`` and ``"3"`` are the same id.
Id = int | str

_WRONG = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, IndexError)


class CocoImage(NamedTuple):
    """Name of an image in the file, and its ``(height, width)`` if stated."""

    name: str
    size: tuple[int, int] | None = None


class Annotation(NamedTuple):
    """One object, or a crowd.

    Attributes:
        where: file and number, for messages.
        image, category: ids, which the file may not list.
        is_crowd: whether ``iscrowd`` or ``ignore`` (converters' mark of VOC's difficult objects) is 1.
        box: ``(xmin, ymin, xmax, ymax)`` of its ``bbox``, else its extent; it may be empty or exceed the image.
        extent: the box around its outline; None without an outline.
        polygons: outlines ``x0, y0, x1, y1, ...`` of three points or more.
        runs: or RLE: lengths of runs down the columns, background first; runs_size: their ``(height, width)``.
    """

    where: str
    image: Id
    category: Id
    is_crowd: bool
    box: Box
    extent: Box | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: tuple[int, ...] = ()
    runs_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class CocoFile:
    """The content of a file: images by id, names of categories by id in their order, and annotations.

    ``groups`` are the names that other categories have as ``supercategory``. ``report`` has a problem for each
    annotation that cannot be read.
    """

    path: Path
    images: dict[Id, CocoImage]
    categories: dict[Id, str]
    groups: set[str]
    annotations: list[Annotation]
    report: ReadReport


def read_coco(path: Path) -> CocoFile:
    """Read a JSON with ``images`` and ``annotations``, and perhaps ``categories``.

    Raises:
        SegError: it cannot be read or is of another kind, two images or categories have one id, or no annotation
            belongs to a listed image.
    """
    images: dict[Id, CocoImage] = {}
    categories: dict[Id, str] = {}
    groups: set[str] = set()
    try:
        content = json.loads(read_text(path))
        entries = list(content["annotations"])
        for entry in content["images"]:
            image = CocoImage(str(entry["file_name"]), _size(entry.get("height"), entry.get("width")))
            if images.setdefault(_id(entry["id"]), image).name != image.name:
                raise ValueError(f"two images have the id {entry['id']}")
        for entry in content.get("categories") or ():
            if not (name := str(entry["name"]).strip()) or not is_writable(name):
                raise ValueError(f"{entry['name']!r} is no name of a category")
            if categories.setdefault(_id(entry["id"]), name) != name:
                raise ValueError(f"two categories have the id {entry['id']}")
            groups |= {str(entry.get("supercategory"))} - {name, "None", "none", ""}
    except _WRONG as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise SegError(f"{path}: no COCO JSON of instances ({what}); export it as COCO again") from error
    annotations: list[Annotation] = []
    found = ReadReport()
    # As tools write it beside RLE; they are objects then.
    crowds_only = bool(entries) and all(isinstance(e, dict) and e.get("iscrowd") == 1 for e in entries)
    what = "files whose every annotation has iscrowd 1, as tools write it with RLE (used as objects)"
    found.warn(what, [path.name] * crowds_only)
    for number, entry in enumerate(entries):
        try:
            annotations.append(_annotation(entry, f"{path} annotation {number}", crowds_only))
        except _WRONG as error:
            what = "needs image_id, and bbox [x, y, width, height] or a segmentation of polygons [[x, y, ...]] or RLE"
            found.problems.append(f"{path} annotation {number}: {what} ({first_line(error)})")
    if annotations and not any(one.image in images for one in annotations):
        raise SegError(
            f"{path}: none of its {len(entries)} annotations belongs to a listed image "
            f"(image_id {annotations[0].image}, for example); give a file whose image_id are the ids of its images"
        )
    if annotations and all(0 <= side <= 1 for one in annotations for side in one.extent or one.box):
        raise SegError(f"{path}: its boxes and outlines are shares of the image's sides (0 to 1); write them in pixels")
    order = sorted(categories, key=lambda i: (isinstance(i, str), i))
    return CocoFile(path, images, {i: categories[i] for i in order}, groups, annotations, found)


def _id(value: Any) -> Id:
    text = str(value)
    return int(text) if text.isdecimal() else text


def _size(height: Any, width: Any) -> tuple[int, int] | None:
    are_sides = all(isinstance(side, int) and side > 0 for side in (height, width))
    return (height, width) if are_sides else None


def _annotation(entry: dict[str, Any], where: str, crowds_only: bool) -> Annotation:
    image, category = _id(entry["image_id"]), _id(entry.get("category_id"))
    is_crowd = entry.get("ignore") == 1 or (entry.get("iscrowd") == 1 and not crowds_only)
    extent: Box | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: tuple[int, ...] = ()
    runs_size = None
    if isinstance(outline := entry.get("segmentation"), dict) and outline:
        runs, runs_size = _runs(outline["counts"]), _size(*outline["size"])
        if runs_size is None or min(runs, default=0) < 0 or sum(runs) != runs_size[0] * runs_size[1]:
            raise ValueError("the runs of its RLE do not add up to its size")
        rle = coco_mask.frPyObjects({"size": runs_size, "counts": runs}, *runs_size)
        x, y, width, height = coco_mask.toBbox(rle).tolist()
        extent = x, y, x + width, y + height
    elif polygons := _polygons(outline) if outline else ():
        points: npt.NDArray[np.float64] = np.concatenate(polygons).reshape(-1, 2)
        extent = *points.min(0).tolist(), *points.max(0).tolist()
    box = extent
    if bbox := entry.get("bbox"):
        x, y, width, height = np.asarray(bbox, float).tolist()
        # Tools without boxes write zeros or NaN.
        box = (x, y, x + width, y + height) if width > 0 or height > 0 or extent is None else extent
    if box is None:
        raise ValueError("it has neither")
    return Annotation(where, image, category, is_crowd, box, extent, polygons, runs, runs_size)


def _polygons(outline: Any) -> tuple[tuple[float, ...], ...]:
    """From ``[[x, y, ...], ...]``, or VIA's ``[x, y, ...]`` of one polygon."""
    if not isinstance(outline[0], list):
        outline = [outline]
    polygons = [np.asarray(part, float) for part in outline]
    if any(part.ndim != 1 or len(part) % 2 or not np.isfinite(part).all() for part in polygons):
        raise ValueError("a polygon is x, y, x, y, ...")
    return tuple(tuple(part.tolist()) for part in polygons if len(part) >= 6)


def _runs(counts: str | list[int]) -> tuple[int, ...]:
    """The counts of RLE, in a list or compressed. Not by pycocotools, which reads past the end of a broken string."""
    if not isinstance(counts, str):
        return tuple(map(int, counts))
    if not re.fullmatch("(?:[P-o]{0,6}[0-O])*", counts):
        raise ValueError("counts is no string of COCO's")
    runs: list[int] = []
    for characters in re.findall("[P-o]*[0-O]", counts):
        number = sum((ord(c) - 48 & 31) << 5 * i for i, c in enumerate(characters))
        if ord(characters[-1]) - 48 & 16:  # the sign
            number -= 1 << 5 * len(characters)
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
    return tuple(runs)
