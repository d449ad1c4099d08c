"""The outlines of COCO's annotations: polygons, or lengths of runs (RLE) as a list or as a compressed string."""

from itertools import pairwise
from typing import Any, NamedTuple

from seg.errors import SegError

#: Pixels from the corner at most: what lies further out is no place in an image.
_FARTHEST = 1_000_000
#: Characters that a number of a compressed string may take: more than 32 bits hold.
_LONGEST = 7


class Outline(NamedTuple):
    """Where an object is.

    Attributes:
        polygons: ``x0, y0, x1, y1, ...`` in pixels, three points or more each.
        runs: or lengths of runs down the columns, of what is outside first.
        area: in pixels; that of overlapping polygons counts twice.
        lines: how many polygons were left out, which have two points or one.
    """

    polygons: tuple[tuple[float, ...], ...] = ()
    runs: tuple[int, ...] = ()
    area: float = 0.0
    lines: int = 0

    def sticks_out(self, size: tuple[int, int], by: float) -> bool:
        """Whether a point of it is so many pixels out of an image of ``(height, width)``."""
        limits = (size[1] + by, size[0] + by)
        return any(not -by <= c <= limits[i % 2] for polygon in self.polygons for i, c in enumerate(polygon))


def read_outline(said: Any, size: tuple[int, int] | None, where: str) -> Outline | None:
    """What an annotation's ``segmentation`` says; None where it is missing or empty.

    Args:
        said: lists of numbers, or ``{size: [height, width], counts: a list or a string}``.
        size: ``(height, width)`` of the image, if it is known.
        where: what a refusal begins with.

    Raises:
        SegError: it is something else, or runs that are not of such an image.
    """
    if said is None or said == []:
        return None
    if isinstance(said, dict):
        runs = _runs(said, size, where)
        return Outline(runs=runs, area=float(sum(runs[1::2])))
    if not isinstance(said, list) or not all(isinstance(p, list) and len(p) % 2 == 0 for p in said):
        raise SegError(f"{where}: its segmentation must be polygons [[x, y, x, y, ...], ...] or runs (RLE)")
    for polygon in said:
        # Written so that a NaN, which fails every comparison, is refused.
        if not all(type(c) in (int, float) and abs(c) <= _FARTHEST for c in polygon):
            raise SegError(f"{where}: a polygon with what is no number of pixels; its numbers are x, y, x, y, ...")
    kept = tuple(tuple(map(float, polygon)) for polygon in said if len(polygon) >= 6)
    return Outline(kept, area=sum(map(_area, kept)), lines=len(said) - len(kept))


def _area(polygon: tuple[float, ...]) -> float:
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise([*points, points[0]]))) / 2


def _runs(said: dict[str, Any], size: tuple[int, int] | None, where: str) -> tuple[int, ...]:
    counts, own = said.get("counts"), said.get("size")
    runs = uncompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise SegError(f"{where}: its runs (RLE) are no list of numbers and no string of COCO's")
    if not (isinstance(own, list) and len(own) == 2 and all(type(side) is int for side in own)):
        raise SegError(f"{where}: its runs (RLE) need the image's size: [height, width]")
    if sum(runs) != own[0] * own[1]:
        raise SegError(f"{where}: its runs (RLE) are of {sum(runs)} pixels, their image of {own[1]} x {own[0]}")
    if size is not None and (own[0], own[1]) != size:
        raise SegError(
            f"{where}: its runs (RLE) are of an image of {own[1]} x {own[0]}, and it has {size[1]} x {size[0]}"
        )
    return tuple(runs)


def uncompressed(text: str) -> list[int] | None:
    """The lengths of the runs in a compressed string, as pycocotools writes it; None where it is none.

    Each character has five bits of a number, the lowest ones first, and one that says whether more follow, from ``0``
    on; the numbers are signed, and from the fourth on they are told by how much they differ from the one but before.
    """
    runs: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift == 5 * _LONGEST:
            return None
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = shift = 0
    return None if shift else runs
