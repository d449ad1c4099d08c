"""Boxes: read from VOC files, written as a list."""

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from seg.data.dataset import Box
from seg.data.decode import image_size
from seg.data.layout import regular
from seg.errors import SegError

_number = partial(np.format_float_positional, trim="-")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
#: Tools write boxes that are rounded, or that count the last pixel in.
TOLERANCE = 1.0


@dataclass(frozen=True)
class BoxFile:
    """What one VOC XML file says.

    Attributes:
        boxes: ``(xmin, ymin, xmax, ymax)`` of each object, in pixels, in the order of the file.
        filename: the image that the file claims to describe, or None.
        size: ``(height, width)`` of that image, or None where the file does not state it.
        names: what each object is, "" where the file does not say.
    """

    boxes: tuple[Box, ...]
    filename: str | None
    size: tuple[int, int] | None
    names: tuple[str, ...] = ()


def read_box_file(path: Path, photo: Path | None = None) -> BoxFile:
    """Read the boxes of one VOC XML file.

    Coordinates are taken as edges: ``0 <= xmin < xmax <= width`` and likewise for y, which holds for files that count
    pixels from 0 and for files that count from 1. What sticks out by up to a pixel is cut. An object with a polygon
    alone (LabelMe's XML) has the box of that; LabelMe's deleted objects are left out.

    Args:
        path: the file.
        photo: its image, whose header says the size where the file does not; None: the upper limits are not checked.

    Raises:
        SegError: the file cannot be read or parsed, an object has no complete box, a box has ``xmax <= xmin`` or
            ``ymax <= ymin``, or it lies outside of its image by more than a pixel.
    """
    regular(path)
    try:
        content = path.read_bytes().lstrip()
        _refuse_entities(content)
        root = ElementTree.fromstring(content)
    except OSError as error:
        raise SegError(f"{path}: cannot be read ({error.strerror or error})") from error
    # Unknown and unsupported encodings come as LookupError and ValueError.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise SegError(f"{path}: XML that does not parse ({error}); mend or delete the file") from error
    size = _size(root)
    objects = [item for item in root.iter("object") if (item.findtext("deleted") or "0").strip() != "1"]
    if size is None and objects and photo is not None:
        with suppress(SegError):  # a photo that cannot be read is told when it is decoded
            size = image_size(photo)
    boxes = tuple(_box(path, item, size) for item in objects)
    names = tuple((item.findtext("name") or "").strip() for item in objects)
    name = root.findtext("filename")
    return BoxFile(boxes, name.strip() if name else None, size, names)


def _refuse_entities(content: bytes) -> None:
    """A few entities of entities are gigabytes of text, and others are files: no box needs any."""

    def refuse(name: str, *_: object) -> None:
        raise ValueError(f"it declares the entity {name[:40]}, which is not followed")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    with suppress(expat.ExpatError):  # which is told by the parser that reads the file
        parser.Parse(content, True)


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        height, width = (
            int(float((root.findtext(f"size/{side}") or root.findtext(f"imagesize/{other}") or "0").strip()[:10]))
            for side, other in (("height", "nrows"), ("width", "ncols"))
        )
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _box(path: Path, item: ElementTree.Element, size: tuple[int, int] | None) -> Box:
    try:
        if item.find("bndbox") is None and (polygon := item.find("polygon")) is not None:
            x, y = (
                [float(e.text or "") for e in polygon.iter() if re.fullmatch(rf"{axis}\d*", e.tag)] for axis in "xy"
            )
            xmin, ymin, xmax, ymax = min(x), min(y), max(x), max(y)
        else:
            xmin, ymin, xmax, ymax = (float(item.findtext(f"bndbox/{k}") or "") for k in _SIDES)
    except ValueError as error:
        name = (item.findtext("name") or "").strip()[:40]
        raise SegError(
            f"{path}: an object{f' {name!r}' if name else ''} without four numbers xmin, ymin, xmax, ymax; give it a "
            "<bndbox> or take it out"
        ) from error
    return fit_box((xmin, ymin, xmax, ymax), size, str(path))


def fit_box(box: Box, size: tuple[int, int] | None, where: str) -> Box:
    """The box, cut where it sticks out of its image of ``(height, width)`` by up to a pixel.

    Raises:
        SegError: it sticks out by more, or nothing is left of it; ``where`` is what the message begins with.
    """
    check_order(box, where)
    inside = clip_inside(box, size)
    check_order(inside, where)
    check_inside(inside, size, where)
    return inside


def check_order(box: Box, where: str) -> None:
    """Refuse a box without an area, or of numbers that are none; ``where`` is what the message begins with."""
    xmin, ymin, xmax, ymax = box
    if any(math.isinf(side) for side in box):
        raise SegError(f"{where}: box without an end ({_said(box)}): its sides must be numbers of pixels")
    # Written so that a NaN, which fails every comparison, is refused.
    if not (xmin < xmax and ymin < ymax):
        raise SegError(f"{where}: empty box ({_said(box)}): xmax must be above xmin and ymax above ymin")


def check_inside(box: Box, size: tuple[int, int] | None, where: str) -> None:
    """Refuse a box that is not within its image of ``(height, width)``; None where that is not known."""
    xmin, ymin, xmax, ymax = box
    height, width = size or (math.inf, math.inf)
    if not (xmin >= 0 and ymin >= 0 and xmax <= width and ymax <= height):
        image = f"its {width} x {height} image" if size else "its image"
        raise SegError(f"{where}: box outside of {image} ({_said(box)}); mend the file or delete it")


def clip_inside(box: Box, size: tuple[int, int] | None) -> Box:
    """The box without what sticks out of its image of ``(height, width)`` by a pixel or less."""
    height, width = size or (math.inf, math.inf)
    low = [0.0 if -TOLERANCE <= v < 0 else v for v in box[:2]]
    high = [float(end) if end < v <= end + TOLERANCE else v for v, end in zip(box[2:], (width, height), strict=True)]
    return low[0], low[1], high[0], high[1]


def _said(box: Box) -> str:
    # Numbers of hundreds of digits tell no more than their beginning.
    return " ".join(map("{}={}".format, _SIDES, (_number(side)[:30] for side in box)))


def write_bbox_list(path: Path, rows: Iterable[tuple[str, Box]]) -> None:
    """Write ``trimaps_bbox.txt``: a line ``filename xmin ymin xmax ymax`` for every box, in the order given.

    Args:
        path: the file; its folder must exist.
        rows: ``(filename, box)``; an image with several boxes comes several times. Whole numbers are
            written without a decimal point, others in full precision.
    """
    lines = (" ".join((name, *map(_number, box))) + "\n" for name, box in rows)
    path.write_text("".join(lines), encoding="utf-8")
