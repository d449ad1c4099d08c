"""Prompts for a promptable segmenter from score maps, and the choice among its candidate masks."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def score_prompts(
    scores: Array, threshold: float = 0.5, points: int = 3, least: float = 0.01
) -> tuple[Array, Array, NDArray[np.int64]]:
    """A box around each connected component of the foreground, and points at its peaks.

    The first peak is the largest score of the component, or of several equal ones the farthest from its boundary. Each
    further peak is the largest score at a distance of at least a fifth of the box's diagonal from all before it.

    Args:
        scores: ``float32 (H, W)`` in [0, 1]; NaN where unknown, which is not foreground.
        threshold: a score from it on is foreground. points: largest number of peaks per component.
        least: share of the image below which a component (8-connected) is left out, unless it is the largest.

    Returns:
        ``float32 (n, 4)``, the boxes ``xmin, ymin, xmax, ymax`` as indices of their first and last pixels;
        ``float32 (n, points, 2)``, the peaks ``x, y``, padded with the first; and ``int64 (H, W)``, the number of each
        pixel's component, 1 to n, or 0.

    Examples:
        >>> scores = np.zeros((6, 8), np.float32)
        >>> scores[1:4, 1:4], scores[2, 3], scores[4:6, 6] = 0.6, 0.9, 0.7
        >>> boxes, peaks, components = score_prompts(scores, points=1)
        >>> boxes.tolist(), peaks.tolist()
        ([[1.0, 1.0, 3.0, 3.0], [6.0, 4.0, 6.0, 5.0]], [[[3.0, 2.0]], [[6.0, 4.0]]])
    """
    from scipy.ndimage import distance_transform_edt, find_objects, label

    found, _ = label(scores >= np.float32(threshold), np.ones((3, 3)))
    sizes = np.bincount(found.ravel())[1:]
    kept = np.flatnonzero(sizes >= min(least * scores.size, sizes.max(initial=0)))
    boxes, peaks = np.zeros((len(kept), 4), np.float32), np.zeros((len(kept), points, 2), np.float32)
    components, places = np.zeros(scores.shape, np.int64), find_objects(found)
    for number, one in enumerate(kept):
        down, across = places[one]
        inside = found[down, across] == one + 1
        components[down, across][inside] = number + 1
        boxes[number] = across.start, down.start, across.stop - 1, down.stop - 1
        depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        ys, xs = np.nonzero(inside)
        order = np.lexsort((-depth[inside], -scores[down, across][inside]))
        at = np.stack([xs, ys], 1)[order]
        apart = 0.2 * np.hypot(*inside.shape)
        peaks[number] = at[0] + boxes[number, :2]
        for point in range(1, points):
            first = at[0]
            at = at[np.hypot(*(at - first).T) >= apart]
            if len(at) == 0:
                break
            peaks[number, point] = at[0] + boxes[number, :2]
    return boxes, peaks, components


def soft_iou(masks: Array, scores: Array) -> Array:
    r"""Overlap of masks with score maps, both in [0, 1]: :math:`\sum \min(m, s) / \sum \max(m, s)`.

    For masks and scores of 0 and 1 it is the IoU; 0 if both are 0 everywhere.

    Args:
        masks: ``float32 (..., H, W)``. scores: ``float32 (..., H, W)``, broadcast with masks; NaN counts as 0.

    Returns:
        ``float32 (...)`` in [0, 1].

    Examples:
        >>> soft_iou(np.float32([[1, 1, 0]]), np.float32([[1, 0, 0.5]])).item()
        0.4000000059604645
    """
    scores = np.nan_to_num(scores, nan=0.0)
    union = np.maximum(masks, scores).sum((-2, -1))
    return np.asarray(np.minimum(masks, scores).sum((-2, -1)) / np.maximum(union, 1e-6), np.float32)


def best_masks(masks: Array, scores: Array, components: NDArray[np.int64]) -> Array:
    """Choose for each component the candidate with the largest overlap with its scores, and join them.

    Args:
        masks: ``float32 (n, k, H, W)`` in [0, 1]: k candidates for each of n components.
        scores: ``float32 (H, W)`` in [0, 1], NaN where unknown. components: from :func:`score_prompts`.

    Returns:
        ``float32 (H, W)``: the maximum over components; 0 without components.

    Examples:
        >>> masks = np.float32([[[[1, 1, 1, 1]], [[1, 1, 0, 0]]]])  # all, or the left half
        >>> best_masks(masks, np.float32([[0.9, 0.8, 0.1, 0]]), np.array([[1, 1, 0, 0]])).tolist()
        [[1.0, 1.0, 0.0, 0.0]]
    """
    joined = np.zeros(scores.shape, np.float32)
    for number, candidates in enumerate(masks, 1):
        # Scores of other components count as 0; those outside of components (below the threshold) are kept.
        own = np.where((components == number) | (components == 0), scores, np.float32(0))
        np.maximum(joined, candidates[soft_iou(candidates, own).argmax()], out=joined)
    return joined
