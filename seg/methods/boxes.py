"""Score maps from boxes, and boxes from masks."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg.errors import SegError
from seg.methods.codes import UNKNOWN


def gaussian_score(
    boxes: ArrayLike,
    size: tuple[int, int],
    out: tuple[int, int],
    *,
    divisor: float = 3.5,
    scale: float = 1.0,
    clip: bool = False,
) -> NDArray[np.float32]:
    r"""Score map of an image from its boxes: a Gaussian on each box, their maximum where they overlap.

    .. math:: s(x, y) = \max_b \exp\left(-\frac{(x - x_b)^2 + (y - y_b)^2}{2 \sigma_b^2}\right),
              \qquad \sigma_b = \mathrm{scale} \cdot \frac{w_b + h_b}{\mathrm{divisor}}

    ``(x_b, y_b)`` is the centre and ``w_b, h_b`` the sides of box b, all in pixels of the original image.
    The map is evaluated at the centres of the cells of the ``out`` grid, ``x_j = (j + 1/2) * width / w``,
    so the Gaussian is round in the original image for any shape of the grid.

    Args:
        boxes: ``(K, 4)`` xyxy in pixels of the original image; K may be 0.
        size: ``(height, width)`` of the original image.
        out: ``(h, w)`` of the map.
        divisor: sigma is the sum of the sides divided by it.
        scale: a factor on sigma.
        clip: set a box's score to zero at cells whose centre is outside of it, except for the cell that contains the
            centre of the box, so that boxes smaller than a cell are kept.

    Returns:
        float32 ``(h, w)`` in [0, 1]; all zero without boxes.

    Raises:
        SegError: boxes of another shape or with a side that is not positive; a size, divisor or scale
            that is not positive.

    Examples:
        >>> gaussian_score([(0, 0, 30, 40)], (40, 60), (4, 6), clip=True).round(1)[2].tolist()
        [0.8999999761581421, 1.0, 0.8999999761581421, 0.0, 0.0, 0.0]
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


def _inside(centres: NDArray[np.floating], low: float, high: float, middle: float) -> NDArray[np.bool_]:
    inside = (centres >= low) & (centres <= high)
    inside[np.argmin(np.abs(centres - middle))] = True
    return inside


def box_slices(boxes: ArrayLike, size: tuple[int, int]) -> list[tuple[slice, slice]]:
    """The cells of a grid that each box touches.

    Args:
        boxes: ``(K, 4)`` x0, y0, x1, y1 as shares of the image's width and height. size: height and width of the grid.

    Returns:
        Slices of rows and columns, at least a cell each.

    Examples:
        >>> box_slices([(0.1, 0.0, 0.5, 0.6)], (2, 4))
        [(slice(0, 2, None), slice(0, 2, None))]
    """
    found, (height, width) = [], size
    for x0, y0, x1, y1 in np.asarray(boxes, np.float64).reshape(-1, 4).clip(0, 1):
        top, left = min(int(y0 * height), height - 1), min(int(x0 * width), width - 1)
        bottom, right = max(int(np.ceil(y1 * height)), top + 1), max(int(np.ceil(x1 * width)), left + 1)
        found.append((slice(top, bottom), slice(left, right)))
    return found


def rank_in_boxes(scores: NDArray[np.float32], boxes: ArrayLike, fill: float = 0.6) -> NDArray[np.float32]:
    """Scores that start anew in every box, since every box holds an object: the mean of score and rank in the box.

    Args:
        scores: ``float32 (H, W)`` in [0, 1]. boxes: ``(K, 4)`` as for :func:`box_slices`.
        fill: the share of a box whose rank becomes at least 0.5, which its object is expected to fill.

    Returns:
        ``float32 (H, W)`` in [0, 1], 0 outside of all boxes, the larger one where they overlap.

    Examples:
        >>> rank_in_boxes(np.array([[0.0, 0.2, 0.4, 0.5]], np.float32), [(0.25, 0, 1, 1)]).tolist()
        [[0.0, 0.15000000596046448, 0.5, 0.75]]
    """
    out = np.zeros_like(scores)
    for inside in box_slices(boxes, (scores.shape[0], scores.shape[1])):
        own = scores[inside]
        ranks = own.ravel().argsort(kind="stable").argsort().reshape(own.shape) / max(own.size - 1, 1)
        ranks = (ranks + fill - 0.5).clip(0, 1).astype(np.float32)
        out[inside] = np.maximum(out[inside], (own + ranks) / 2)
    return out


def body_box(trimap: NDArray[np.uint8]) -> tuple[float, float, float, float] | None:
    """Tight box around the foreground (1) and border (254) of a ground truth.

    The border is included because thin parts (ears, tails, whiskers) are border only, and annotators draw boxes around
    the fur. A box from ground truth is an oracle.

    Args:
        trimap: ``(H, W)`` with 0 background, 1 foreground, 254 border, 255 no ground truth.

    Returns:
        ``(xmin, ymin, xmax, ymax)`` as pixel edges, so ``xmax`` is at most W; None without foreground.

    Examples:
        >>> body_box(np.array([[0, 0, 0], [0, 1, 254]], np.uint8))
        (1.0, 1.0, 3.0, 2.0)
    """
    animal = (trimap > 0) & (trimap < UNKNOWN)
    columns, rows = np.flatnonzero(animal.any(0)), np.flatnonzero(animal.any(1))
    if not columns.size:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
