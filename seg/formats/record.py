"""A picture with its annotated regions, for all formats; and regions as outlines or runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seg.data.dataset import UNKNOWN, Box

Points = npt.NDArray[np.float64]


class Shape(NamedTuple):
    """A region of one class: a mask, polygons, or a box; without any of them it is a line, a point, or the like.

    Attributes:
        class_name: its class.
        box: ``(xmin, ymin, xmax, ymax)`` in pixels.
        polygons: outlines ``float (n, 2)``, x and y in pixels from the image's left top corner.
        mask: ``bool (h, w)``, from the box's left top corner.
        score: in [0, 1], or None.
    """

    class_name: str
    box: Box | None = None
    polygons: tuple[Points, ...] = ()
    mask: npt.NDArray[np.bool_] | None = None
    score: float | None = None


class Picture(NamedTuple):
    """A photo and its regions.

    Attributes:
        file: its path, with ``/`` between folders.
        size: ``(height, width)``, None if the format does not have it.
        codes: the mask of the shapes: ``uint8 (H, W)``, 0 background, ``1 + class``, 255 undecided.
        subset: name of its split. source: the file of its annotations.
    """

    file: str
    size: tuple[int, int] | None
    shapes: Sequence[Shape] = ()
    codes: npt.NDArray[np.uint8] | None = None
    subset: str = ""
    source: Path | None = None


def picture_of(
    file: str,
    codes: npt.NDArray[np.uint8],
    names: Sequence[str],
    scores: npt.NDArray[np.floating] | None = None,
    min_area: int = 0,
) -> Picture:
    """The regions of a mask: the connected components (4-connectivity) of each class.

    Args:
        codes: ``uint8 (H, W)``: 0 background, ``1 + class``, 255 undecided. names: by code.
        scores: ``float (H, W)`` in [0, 1]; a region's is the mean over its pixels.
        min_area: regions of fewer pixels become background.
    """
    from scipy.ndimage import find_objects, label

    shapes, codes = [], codes.copy()
    for code in np.unique(codes[(codes > 0) & (codes < UNKNOWN)]).tolist():
        parts, _ = label(codes == code)
        for number, place in enumerate(find_objects(parts), 1):
            mask = parts[place] == number
            if mask.sum() < min_area:
                codes[place][mask] = 0
                continue
            rows, columns = place
            box = tuple(map(float, (columns.start, rows.start, columns.stop, rows.stop)))
            score = None if scores is None else float(np.nan_to_num(scores[place][mask], copy=False).mean(dtype=float))
            shapes.append(Shape(names[code], box, mask=mask, score=score))  # type: ignore[arg-type]
    return Picture(file, codes.shape, shapes, codes)


def outline(shape: Shape, tolerance: float = 0.0) -> list[Points]:
    """The outline of a region and those of its holes, ``float (n, 2)`` x and y, not closed.

    They run through the middles of the pixels' sides, so that drawing them restores the mask. With a tolerance, in
    pixels, they are simplified by Douglas and Peucker's method; smaller holes vanish.
    """
    from skimage.measure import approximate_polygon, find_contours

    mask, box = shape.mask, shape.box
    if mask is None or box is None:
        raise ValueError("an outline is of a mask")
    found = []
    for contour in find_contours(np.pad(mask, 1).astype(np.uint8), 0.5):
        points = contour[:, ::-1] - 0.5 + box[:2]
        simple = approximate_polygon(points, tolerance) if tolerance else points
        found.append((simple, points))
    found.sort(key=lambda pair: -abs(_area(pair[1])))
    rings = [(points if i == 0 and len(simple) < 4 else simple)[:-1] for i, (simple, points) in enumerate(found)]
    return [ring for ring in rings if len(ring) >= 3]


def _area(ring: Points) -> float:
    (x, y), (x2, y2) = ring.T, np.roll(ring, -1, 0).T
    return float((x * y2 - x2 * y).sum() / 2)


def bridged(rings: Sequence[Points]) -> Points:
    """One polygon of an outline and its holes, with a cut to each hole and back."""
    from scipy.spatial import KDTree

    ring = rings[0]
    for hole in rings[1:]:
        distances, nearest = KDTree(ring).query(hole)
        j = int(distances.argmin())
        i = int(nearest[j])
        ring = np.concatenate([ring[: i + 1], hole[j:], hole[: j + 1], ring[i:]])
    return ring


def full_mask(shape: Shape, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """A shape's mask in the whole image, ``bool (H, W)``, clipped to it."""
    full = np.zeros(size, bool)
    if shape.mask is not None and shape.box is not None:
        left, top = (round(side) for side in shape.box[:2])
        inner = shape.mask[max(-top, 0) :, max(-left, 0) :]
        place = full[max(top, 0) :, max(left, 0) :][: inner.shape[0], : inner.shape[1]]
        place[:] = inner[: place.shape[0], : place.shape[1]]
    return full


def runs(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """COCO's uncompressed RLE: lengths of runs down the columns, background first."""
    flat = mask.T.ravel().astype(np.int8)
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    return tuple(np.diff(changes, prepend=0, append=flat.size).tolist())


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> Points:
    """An ellipse around ``(x, y)`` as a polygon of 64 corners."""
    angle = np.arange(64) * (np.pi / 32)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], 1)


def turned(points: Points, degrees: float, x: float, y: float) -> Points:
    """Points rotated clockwise around ``(x, y)``."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (points - (x, y)) @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def box_of(points: Points) -> Box:
    """The box around points."""
    return (*points.min(0).tolist(), *points.max(0).tolist())


def corners(box: Sequence[float]) -> Points:
    """The corners of a box, clockwise."""
    left, top, right, low = box
    return np.array([[left, top], [right, top], [right, low], [left, low]], float)
