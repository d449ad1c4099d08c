"""Boxes: read from VOC XML, clipped to their photo, written as a list."""

import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from seg.data.dataset import Box
from seg.data.layout import nfc, regular
from seg.errors import SegError

_SIDES = ("xmin", "ymin", "xmax", "ymax")
#: Boxes may extend beyond their image by so many pixels: tools round them, or include the last pixel.
TOLERANCE = 1.0


class ListedBox(NamedTuple):
    """A box: the name of its image, where it is written, its class or "", and the image's size if known."""

    image: str
    box: Box
    where: str
    class_name: str = ""
    size: tuple[int, int] | None = None


def parse_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file. Raises SegError: it cannot be read or parsed."""
    regular(path)
    try:
        content = path.read_bytes().lstrip()
        # Entities can expand to gigabytes or include files. UTF-16 has zeros between the letters.
        if b"<!ENTITY" in content.replace(b"\0", b""):
            raise ValueError("it declares an entity, which is not followed")
        return ElementTree.fromstring(content)
    # Unknown and unsupported encodings come as LookupError and ValueError.
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise SegError(f"{path}: XML that does not parse ({error}); correct or delete the file") from error


def read_xml(path: Path, image: str) -> list[ListedBox]:
    """The boxes of a VOC XML file, for the image of that name; coordinates are not changed.

    Coordinates are edges: ``0 <= xmin < xmax <= width`` and likewise for y, which holds for files that count pixels
    from 0 or from 1.

    Raises:
        SegError: the file cannot be read or parsed, or an object has no complete box.
    """
    root = parse_xml(path)
    size, found = None, []
    with suppress(ValueError, OverflowError):
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
        size = (height, width) if min(height, width) > 0 else None
    for item in root.iter("object"):
        name = nfc((item.findtext("name") or "").strip())
        try:
            xmin, ymin, xmax, ymax = (float(item.findtext(f"bndbox/{side}") or "") for side in _SIDES)
        except ValueError as error:
            what = f"an object {name[:40]!r} without four numbers xmin, ymin, xmax, ymax"
            raise SegError(f"{path}: {what}; give it a <bndbox> or take it out") from error
        found.append(ListedBox(image, (xmin, ymin, xmax, ymax), str(path), name, size))
    return found


def fit_box(box: Box, size: tuple[int, int] | None, where: str) -> Box:
    """Clip a box to its image of ``(height, width)``, or of unknown size.

    Raises:
        SegError: the box is empty or more than a pixel outside; the message begins with ``where``.
    """
    height, width = map(float, size or (math.inf, math.inf))
    shown = " ".join(f"{side}={value:g}" for side, value in zip(_SIDES, box, strict=True))
    if not (box[0] < box[2] and box[1] < box[3]):  # NaN fails every comparison
        raise SegError(f"{where}: empty box ({shown}): xmax must be above xmin and ymax above ymin")
    inside = max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)
    is_far = any(abs(a - b) > TOLERANCE for a, b in zip(box, inside, strict=True) if a != b)
    if is_far or math.inf in inside or not (inside[0] < inside[2] and inside[1] < inside[3]):
        image = f"its {width:g} x {height:g} image" if size else "its image"
        raise SegError(f"{where}: box outside of {image} ({shown}); correct the file or delete it")
    return inside


def write_bbox_list(path: Path, rows: Iterable[tuple[str, Box]]) -> None:
    """Write ``trimaps_bbox.txt``: a line ``filename xmin ymin xmax ymax`` for every box.

    Args:
        path: the file; its folder must exist. rows: ``(filename, box)``, a row per box.
    """
    lines = (" ".join((name, *(np.format_float_positional(x, trim="-") for x in box))) + "\n" for name, box in rows)
    path.write_text("".join(lines), encoding="utf-8")
