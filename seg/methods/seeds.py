"""Seeds and masks from scores by thresholds, and cleaning of masks."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from seg.errors import SegError

CleanUp = Literal["fill_holes", "largest_component", "closing"]


def threshold_scores(scores: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """Scores to seeds, compared in ``float32``.

    Args:
        scores: ``float32``, any shape, in [0, 1] or NaN for unknown.
        low: scores below it are background. high: scores from it on are foreground; at least ``low``.

    Returns:
        ``uint8`` of the same shape: 0, 1, or 255 between the thresholds and where unknown.

    Examples:
        >>> threshold_scores(np.array([0.1, 0.5, 0.9, np.nan], np.float32), 0.3, 0.7).tolist()
        [0, 255, 1, 255]
    """
    out = np.full(scores.shape, 255, np.uint8)
    out[scores < np.float32(low)] = 0
    out[scores >= np.float32(high)] = 1
    return out


def alpha_threshold(alpha: float) -> float:
    """The score in (0, 1) above which foreground exceeds a background score of ``(1 - score) ** alpha``.

    The background score is from Ahn and Kwak, CVPR 2018, eq. 2.

    Examples:
        >>> alpha_threshold(1.0)
        0.5
    """
    from scipy.optimize import brentq

    return float(brentq(lambda t: t - (1 - t) ** alpha, 0.0, 1.0))


def clean_mask(mask: NDArray[np.uint8], operation: str, radius: tuple[int, int] = (3, 3)) -> None:
    """Clean the foreground of one mask in place; ignored pixels stay ignored.

    Args:
        mask: ``uint8 (H, W)`` of 0, 1, 255.
        operation: ``fill_holes``, ``largest_component`` (4-connected), or ``closing`` by a disk.
        radius: of the disk in pixels, vertical and horizontal; they differ if the image was resized to a square.

    Raises:
        SegError: for another operation.

    Examples:
        >>> mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
        >>> clean_mask(mask, "fill_holes")
        >>> mask.min()
        np.uint8(1)
    """
    foreground = mask == 1
    if operation == "fill_holes":
        from scipy.ndimage import binary_fill_holes

        result = binary_fill_holes(foreground)
    elif operation == "largest_component":
        from skimage.measure import label

        components = label(foreground, connectivity=1)
        sizes = np.bincount(components.ravel())[1:]
        result = components == sizes.argmax() + 1 if len(sizes) else foreground
    elif operation == "closing":
        from scipy.ndimage import binary_closing

        # Padding by reflection, so that the closing does not erode at the image's edge.
        (down, across), (height, width) = radius, foreground.shape
        padded = np.pad(foreground, ((down, down), (across, across)), mode="symmetric")
        result = binary_closing(padded, disk(down, across))[down : down + height, across : across + width]
    else:
        raise SegError(f"clean_up={operation}: must be one of {', '.join(get_args(CleanUp))}")
    known = mask != 255
    mask[known] = result[known]


def disk(down: int, across: int) -> NDArray[np.bool_]:
    """``bool (2 * down + 1, 2 * across + 1)``: the offsets of an ellipse with these half axes."""
    ys, xs = np.ogrid[-down : down + 1, -across : across + 1]
    return (ys * across) ** 2 + (xs * down) ** 2 <= (down * across) ** 2


def confident_seeds(scores: NDArray[np.float32], background_below: float, foreground_from: float) -> NDArray[np.int64]:
    """Confident seeds of background and foreground.

    Args:
        scores: ``float32 (H, W)``, NaN where unknown.
        background_below: scores below it, and of exactly 0, are background. foreground_from: scores from it on are
            foreground.

    Returns:
        ``int64 (H, W)``: 0 no seed, 1 background, 2 foreground.

    Examples:
        >>> confident_seeds(np.array([[0, 0.1, 0.5, 0.9, np.nan]], np.float32), 0.25, 0.75).tolist()
        [[1, 1, 0, 2, 0]]
    """
    seeds = np.zeros(scores.shape, np.int64)
    seeds[(scores < np.float32(background_below)) | (scores == 0)] = 1
    seeds[scores >= np.float32(foreground_from)] = 2
    return seeds
