"""Boundary IoU (Cheng et al., CVPR 2021): the IoU of the pixels near contours."""

import numpy as np
from numpy.typing import NDArray

from seg.methods.codes import BORDER, UNKNOWN
from seg.methods.metrics import Border


def boundary_areas(
    pred: NDArray[np.uint8],
    target: NDArray[np.uint8],
    classes: int = 1,
    border: Border = "ignore",
    ratio: float = 0.02,
) -> NDArray[np.int64]:
    """Count pixels near the contours of one image; :func:`seg.methods.mean_iou` of the sum over images is Boundary IoU.

    Pixels that are not evaluated (no ground truth, an ignored border, no decision) belong to no class in either mask.

    Args:
        pred: ``uint8 (H, W)``: 0 background, 1 and on the classes, 255 no decision. target: the same codes, 254 border,
            255 no ground truth.
        classes: number of classes. border: how border pixels are counted.
        ratio: depth of the regions as a share of the image's diagonal; at least one pixel.

    Returns:
        ``int64 (3, classes + 1)``: pixels in both regions, in the target's, in the prediction's; by class, background
        first.

    Examples:
        >>> target = np.zeros((9, 9), np.uint8)
        >>> target[2:7, 2:7] = 1
        >>> boundary_areas(np.roll(target, 1), target)[:, 1].tolist()
        [8, 16, 16]
    """
    if border != "ignore":
        target = np.where(target == BORDER, np.uint8(border == "foreground"), target)
    known = (target != BORDER) & (target != UNKNOWN) & (pred != UNKNOWN)
    areas = np.zeros((3, classes + 1), np.int64)
    for code in range(classes + 1):
        wanted, found = (known & (mask == code) for mask in (target, pred))
        if wanted.any() or found.any():
            wanted, found = _region(wanted, ratio), _region(found, ratio)
            areas[:, code] = (wanted & found).sum(), wanted.sum(), found.sum()
    return areas


def _region(mask: NDArray[np.bool_], ratio: float) -> NDArray[np.bool_]:
    """The pixels of a mask near its contour, which includes the image's edge as in the authors' code."""
    from scipy.ndimage import minimum_filter

    depth = max(1, round(ratio * float(np.hypot(*mask.shape))))
    return mask & ~minimum_filter(mask, 2 * depth + 1, mode="constant", cval=False)
