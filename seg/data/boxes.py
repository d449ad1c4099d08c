"""Boxes: read from VOC files, written as a list, turned into Gaussian score maps, taken from a truth."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from seg.data.dataset import UNKNOWN, Box
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


def gaussian_score(
    boxes: npt.ArrayLike | Sequence[Box],
    size: tuple[int, int],
    out: tuple[int, int],
    *,
    divisor: float = 3.5,
    scale: float = 1.0,
    clip: bool = False,
) -> npt.NDArray[np.float32]:
    r"""Score map of an image from its boxes: a Gaussian on each box, their maximum where they overlap.

    .. math:: s(x, y) = \max_b \exp\left(-\frac{(x - x_b)^2 + (y - y_b)^2}{2 \sigma_b^2}\right),
              \qquad \sigma_b = \mathrm{scale} \cdot \frac{w_b + h_b}{\mathrm{divisor}}

    ``(x_b, y_b)`` is the middle and ``w_b, h_b`` the sides of box b, all in pixels of the original image.
    The map is evaluated at the centres of the cells of the ``out`` grid, ``x_j = (j + 1/2) * width / w``,
    so the grid may be squashed and the Gaussian stays round in the original image.

    Args:
        boxes: ``(K, 4)`` xyxy in pixels of the original image; K may be 0.
        size: ``(height, width)`` of the original image.
        out: ``(h, w)`` of the map.
        divisor: what the sum of the sides is divided by to give sigma.
        scale: a factor on sigma.
        clip: set a box's score to zero at cells whose centre is outside of it. The cell that holds the
            middle of the box is kept, lest a box smaller than a cell vanish.

    Returns:
        float32 ``(h, w)`` in [0, 1]; all zero without boxes.

    Raises:
        SegError: boxes of another shape or with a side that is not positive; a size, divisor or scale
            that is not positive.
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size and (array.ndim != 2 or array.shape[1] != 4):
        raise SegError(f"boxes must have the shape (K, 4), not {array.shape}")
    if min(*size, *out) <= 0 or not divisor > 0 or not scale > 0:
        raise SegError(f"Gaussian of boxes: {size=}, {out=}, {divisor=} and {scale=} must be positive")
    (height, width), (h, w) = size, out
    x = (np.arange(w) + 0.5) * (width / w)
    y = (np.arange(h) + 0.5) * (height / h)
    score = np.zeros((h, w))
    for xmin, ymin, xmax, ymax in array.reshape(-1, 4):
        if not (xmin < xmax and ymin < ymax):
            raise SegError(f"Gaussian of an empty box {(xmin, ymin, xmax, ymax)}")
        cx, cy = (xmin + xmax) / 2, (ymin + ymax) / 2
        sigma = scale * (xmax - xmin + ymax - ymin) / divisor
        # A Gaussian with one sigma is the product of one along x and one along y.
        along_x = np.exp(-((x - cx) ** 2) / (2 * sigma**2))
        along_y = np.exp(-((y - cy) ** 2) / (2 * sigma**2))
        if clip:
            along_x *= _inside(x, xmin, xmax, cx)
            along_y *= _inside(y, ymin, ymax, cy)
        np.maximum(score, along_y[:, None] * along_x, out=score)
    return score.astype(np.float32)


def _inside(centres: npt.NDArray[np.floating], low: float, high: float, middle: float) -> npt.NDArray[np.bool_]:
    inside = (centres >= low) & (centres <= high)
    inside[np.argmin(np.abs(centres - middle))] = True
    return inside


def body_box(trimap: npt.NDArray[np.uint8]) -> Box | None:
    """Tight box of the animal in a truth: foreground (1) and border (254) together.

    The border counts because thin parts (ears, tails, whiskers) are border only, and a box drawn by a
    person goes around the fur, not inside of it. It is made from the truth: an oracle.

    Args:
        trimap: ``(H, W)`` with 0 background, 1 foreground, 254 border, 255 no truth.

    Returns:
        ``(xmin, ymin, xmax, ymax)`` as pixel edges, so ``xmax`` is at most W; None without an animal.
    """
    animal = (trimap > 0) & (trimap < UNKNOWN)
    columns, rows = np.flatnonzero(animal.any(0)), np.flatnonzero(animal.any(1))
    if not columns.size:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
