"""Boxes: read from VOC files, written as a list."""

import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from seg.data.dataset import Box
from seg.data.decode import exif_orientation, image_size
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
        boxes: ``(xmin, ymin, xmax, ymax)`` of each object, in pixels of that image, in the order of the file.
        filename: the image that the file claims to describe, or None.
        size: ``(height, width)`` of that image, or None where the file does not state it.
        names: what each object is, "" where the file does not say.
    """

    boxes: tuple[Box, ...]
    filename: str | None
    size: tuple[int, int] | None
    names: tuple[str, ...] = ()


def read_box_file(path: Path) -> BoxFile:
    """Read the boxes of one VOC XML file, as they stand there (see :func:`to_photo`).

    Coordinates are taken as edges: ``0 <= xmin < xmax <= width`` and likewise for y, which holds for files that count
    pixels from 0 and for files that count from 1. An object with a polygon alone (LabelMe's XML) has the box of that;
    LabelMe's deleted objects are left out.

    Raises:
        SegError: the file cannot be read or parsed, an object has no complete box, or a box has ``xmax <= xmin`` or
            ``ymax <= ymin``.
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
    objects = [item for item in root.iter("object") if (item.findtext("deleted") or "0").strip() != "1"]
    boxes = tuple(_box(path, item) for item in objects)
    names = tuple((item.findtext("name") or "").strip() for item in objects)
    name = root.findtext("filename")
    return BoxFile(boxes, name.strip() if name else None, _size(root), names)


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


def _box(path: Path, item: ElementTree.Element) -> Box:
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
    check_order((xmin, ymin, xmax, ymax), str(path))
    return xmin, ymin, xmax, ymax


def to_photo(said: tuple[int, int] | None, photo: Path) -> tuple[tuple[int, int] | None, Callable[[Box], Box], str]:
    """How boxes get into the pixels of their upright photo.

    Args:
        said: ``(height, width)`` of the image that they are of, None where their file does not say.
        photo: its file.

    Returns:
        The photo's size, ``said`` where it cannot be read; what brings a box there; and a sentence to count if the
        sizes differ.

    Raises:
        SegError: they are of other proportions.
    """
    size = said
    with suppress(SegError):  # a photo that cannot be read is told when it is decoded
        size = image_size(photo)
    if said is None or size is None or size == said:
        return size, lambda box: box, ""
    down, right = said[0] / size[0], said[1] / size[1]
    if size == said[::-1]:
        if (orientation := exif_orientation(photo)) in (5, 6, 7, 8):
            sentence = "images whose boxes were turned along with their EXIF orientation"
            return size, partial(_turned, stored=said, orientation=orientation), sentence
        return size, lambda box: box, "images whose boxes' file has their width and height swapped"
    if abs(down - right) * max(size) <= 1:
        scale = (right, down, right, down)
        sentence = "images of another size than their boxes' file says (boxes scaled)"
        return size, lambda box: cast(Box, tuple(np.divide(box, scale).tolist())), sentence
    of = "{1} x {0}".format
    raise SegError(f"its boxes are of an image of {of(*said)}, and {photo.name} has {of(*size)}; mend one of them")


def _turned(box: Box, stored: tuple[int, int], orientation: int) -> Box:
    """A box of a photo stored as ``(height, width)`` as the EXIF orientations 5 to 8 turn it."""
    y, x, y2, x2 = box  # transposed
    height, width = stored
    if orientation in (6, 7):
        x, x2 = height - x2, height - x
    if orientation in (7, 8):
        y, y2 = width - y2, width - y
    return x, y, x2, y2


def fit_box(box: Box, size: tuple[int, int] | None, where: str) -> Box:
    """The box, cut where it sticks out of its image of ``(height, width)`` by up to a pixel; None: of unknown size.

    Raises:
        SegError: it sticks out by more, or nothing is left of it; ``where`` is what the message begins with.
    """
    check_order(box, where)
    height, width = size or (math.inf, math.inf)
    if min(box[:2]) < -TOLERANCE or box[2] > width + TOLERANCE or box[3] > height + TOLERANCE:
        image = f"its {width} x {height} image" if size else "its image"
        raise SegError(f"{where}: box outside of {image} ({_said(box)}); mend the file or delete it")
    xmin, ymin, xmax, ymax = box
    inside = max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width)), min(ymax, float(height))
    check_order(inside, where)
    return inside


def check_order(box: Box, where: str) -> None:
    """Refuse a box without an area, or of numbers that are none; ``where`` is what the message begins with."""
    xmin, ymin, xmax, ymax = box
    if any(math.isinf(side) for side in box):
        raise SegError(f"{where}: box without an end ({_said(box)}): its sides must be numbers of pixels")
    # Written so that a NaN, which fails every comparison, is refused.
    if not (xmin < xmax and ymin < ymax):
        raise SegError(f"{where}: empty box ({_said(box)}): xmax must be above xmin and ymax above ymin")


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
