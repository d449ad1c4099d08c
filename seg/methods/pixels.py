"""Labelled pixels (points and scribbles): score maps from them, and their simulation from ground truth."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg.methods.codes import BORDER, UNKNOWN

Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def pixel_grid(at: NDArray[np.floating], codes: Codes, size: tuple[int, int]) -> Codes:
    """Labelled pixels on a grid of any size.

    Args:
        at: ``float (n, 2)``, y and x in [0, 1) as shares of the image's height and width.
        codes: ``uint8 (n,)``, 0 background, ``1 + class``. size: height and width of the grid.

    Returns:
        ``uint8 (H, W)``, 255 without a label; the last of several in a cell.

    Examples:
        >>> pixel_grid(np.array([[0.1, 0.9], [0.7, 0.2]]), np.array([0, 2], np.uint8), (2, 2)).tolist()
        [[255, 0], [2, 255]]
    """
    grid = np.full(size, UNKNOWN, np.uint8)
    ys, xs = (np.asarray(at) * size).astype(np.int64).T
    grid[ys, xs] = codes
    return grid


def paint_scores(scores: Floats, class_ids: Sequence[int], grid: Codes) -> Floats:
    """Score maps in which labelled pixels are 1 for their class and 0 for others.

    Args:
        scores: ``float32 (m, H, W)``, maps of one image. class_ids: the code of each. grid: from :func:`pixel_grid`.

    Examples:
        >>> paint_scores(np.full((2, 1, 3), 0.5, np.float32), [1, 2], np.array([[0, 2, 255]], np.uint8)).tolist()
        [[[0.0, 0.0, 0.5]], [[0.0, 1.0, 0.5]]]
    """
    codes = np.asarray(class_ids).reshape(-1, 1, 1)
    return np.where(grid == UNKNOWN, scores, (grid == codes).astype(np.float32))


def nearest_scores(grid: Codes, class_ids: Sequence[int], spacing: tuple[float, float], sigma: float) -> Floats:
    r"""Score maps from distances to labelled pixels: 1/2 where the class is as near as the nearest other one.

    .. math:: s_c = \frac{1}{2} \left(1 + e^{-d_c^2 / 2\sigma^2} - e^{-d_o^2 / 2\sigma^2}\right)

    ``d_c`` is the distance to the nearest pixel of class c, ``d_o`` that to the nearest of anything else.

    Args:
        grid: ``uint8 (h, w)``, from :func:`pixel_grid`. class_ids: the codes of the maps.
        spacing: height and width of a cell, in the unit of ``sigma``.

    Returns:
        ``float32 (m, h, w)`` in [0, 1].

    Examples:
        >>> nearest_scores(np.array([[1, 255, 255, 255, 0]], np.uint8), [1], (1, 1), 0.5)[0, 0] >= 0.5
        array([ True,  True,  True, False, False])
    """
    from scipy.ndimage import distance_transform_edt

    def near(here: NDArray[np.bool_]) -> NDArray[np.floating]:
        if not here.any():
            return np.zeros(grid.shape)
        distance = distance_transform_edt(~here, sampling=spacing)
        return np.exp(-(distance**2) / (2 * sigma**2))

    known = grid != UNKNOWN
    maps = [(1 + near(grid == code) - near(known & (grid != code))) / 2 for code in class_ids]
    return np.stack(maps).astype(np.float32) if maps else np.zeros((0, *grid.shape), np.float32)


def condition_scores(
    scores: Floats, features: Floats, grid: Codes, class_ids: Sequence[int], reach: float = 0.7, noise: float = 0.2
) -> Floats:
    r"""Correct score maps by labelled pixels, most where the features are similar to theirs.

    The mean of a Gaussian process with the scores as its prior mean, given the labels y at the cells X (Rasmussen and
    Williams 2006, eq. 2.38):

    .. math:: s' = s + K_{\cdot X} (K_{XX} + \mathrm{noise} \cdot I)^{-1} (y - s_X), \qquad
              k_{ij} = e^{-(1 - \cos(f_i, f_j)) / \mathrm{reach}}

    Args:
        scores: ``float (m, h, w)`` in [0, 1], maps of one image. features: ``float (C, h, w)``; each channel is
            standardised first.
        grid: ``uint8 (h, w)``, from :func:`pixel_grid`. class_ids: the code of each map.
        reach: cosine distance over which the effect of a label decays. noise: variance of a label, where scores have 1.

    Returns:
        ``float32 (m, h, w)`` in [0, 1]; the unchanged scores without a labelled pixel.

    Examples:
        >>> features = np.array([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], np.float32)  # two kinds of cells
        >>> grid = np.array([[1, 255, 255, 255]], np.uint8)
        >>> condition_scores(np.full((1, 1, 4), 0.4, np.float32), features, grid, [1])[0, 0] > 0.65
        array([ True,  True, False, False])
    """
    labelled = np.flatnonzero(grid.ravel() != UNKNOWN)
    if not len(labelled) or not len(scores):
        return scores
    cells = features.reshape(len(features), -1).T.astype(np.float64)
    cells = (cells - cells.mean(0)) / cells.std(0).clip(1e-6)
    cells /= np.linalg.norm(cells, axis=1, keepdims=True).clip(1e-9)
    kernel = np.exp((cells @ cells[labelled].T - 1) / reach)
    flat = scores.reshape(len(scores), -1)
    missing = (grid.ravel()[labelled] == np.asarray(class_ids)[:, None]) - flat[:, labelled]
    weights = np.linalg.solve(kernel[labelled] + noise * np.eye(len(labelled)), missing.T)
    return (flat + (kernel @ weights).T).clip(0, 1).reshape(scores.shape).astype(np.float32)


def simulated_points(target: Codes, rng: np.random.Generator, inner: float = 0.7) -> list[tuple[int, int, int]]:
    """A point well inside the background and every class of a ground truth, as annotators choose it.

    Args:
        target: ``uint8 (H, W)``: 0, ``1 + class``, 254 and 255 (without points).
        rng: draws the point among the pixels whose distance from the region's boundary or the image's edge is at least
            ``inner`` times the largest.

    Returns:
        ``(y, x, code)`` of each point, in pixels.

    Examples:
        >>> simulated_points(np.pad(np.ones((3, 3), np.uint8), (0, 4)), np.random.default_rng(0), 1.0)
        [(4, 4, 0), (1, 1, 1)]
    """
    found = []
    for code in np.unique(target[target < BORDER]).tolist():
        depth = _depth(target == code)
        inside = np.argwhere(depth >= inner * depth.max())
        y, x = inside[rng.integers(len(inside))].tolist()
        found.append((y, x, code))
    return found


def simulated_scribbles(target: Codes, eroded: float = 0.3) -> Codes:
    """Scribbles along the middle of the background and of every class of a ground truth.

    As annotators draw them (Lin et al., ScribbleSup, CVPR 2016): the longest piece of the skeleton of each region after
    erosion by the share ``eroded`` of the largest distance from its boundary.

    Args:
        target: as for :func:`simulated_points`.

    Returns:
        ``uint8 (H, W)``, 255 without a scribble.

    Examples:
        >>> (simulated_scribbles(np.ones((5, 9), np.uint8), 0.5) == 1).sum(1).argmax()
        np.int64(2)
    """
    from skimage.measure import label
    from skimage.morphology import skeletonize

    out = np.full(target.shape, UNKNOWN, np.uint8)
    for code in np.unique(target[target < BORDER]).tolist():
        depth = _depth(target == code)
        pieces = label(skeletonize(depth >= eroded * depth.max()))
        out[pieces == np.bincount(pieces[pieces > 0]).argmax()] = code
    return out


def _depth(region: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Distance of a region's pixels from its boundary or the image's edge."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
