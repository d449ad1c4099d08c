"""Refinement of an image's score map by its colours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.methods.seeds import confident_seeds

Scores = NDArray[np.float32]


def grabcut(
    image: NDArray[np.uint8],
    scores: Scores,
    threshold: float = 0.5,
    background_below: float = 0.25,
    foreground_from: float = 0.75,
    iterations: int = 5,
) -> Scores:
    """OpenCV's GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004): colour models of both sides, and a graph cut.

    Confident seeds keep their side; other pixels start on the side of their score and may change. Unknown pixels start
    as foreground, like the paper's unknown region. A score of exactly 0, as outside of a box, is a background seed, as
    is the outside of the paper's rectangle.

    Args:
        image: ``uint8 (H, W, 3)`` RGB. scores: ``float32 (H, W)`` in [0, 1]; NaN where unknown.
        threshold: from it on a pixel starts as foreground. background_below, foreground_from: scores of the seeds.
        iterations: of colour models and cut.

    Returns:
        ``float32 (H, W)`` of 0 and 1. If all pixels start on one side, the initial mask, with NaN where unknown.

    Examples:
        >>> image = np.zeros((8, 8, 3), np.uint8)
        >>> image[:, 3:] = 200  # an edge
        >>> scores = np.linspace(0, 1, 8, dtype=np.float32)[None].repeat(8, 0)
        >>> grabcut(image, scores)[0].tolist()
        [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    import cv2

    sure = confident_seeds(scores, background_below, foreground_from)
    # OpenCV's numbers: 0 and 1 are surely background and foreground, 2 and 3 probably.
    labels = np.where(sure > 0, sure - 1, np.where(scores < np.float32(threshold), 2, 3)).astype(np.uint8)
    sides = (labels % 2).astype(np.float32)
    if sides.min() == sides.max():
        return np.where(np.isnan(scores), np.float32(np.nan), sides)
    behind, before = np.zeros((2, 1, 65))
    cv2.setRNGSeed(0)  # of this thread: the models of colours start from random clusters
    cv2.grabCut(np.ascontiguousarray(image), labels, (0, 0, 0, 0), behind, before, iterations, cv2.GC_INIT_WITH_MASK)
    return (labels % 2).astype(np.float32)


def random_walker(
    image: NDArray[np.uint8],
    scores: Scores,
    background_below: float = 0.25,
    foreground_from: float = 0.75,
    beta: float = 130.0,
    tolerance: float = 1e-3,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> Scores:
    """The probability that a random walk from a pixel reaches foreground seeds first (Grady, TPAMI 2006).

    Args:
        image: ``uint8 (H, W, 3)`` RGB. scores: ``float32 (H, W)`` in [0, 1]; NaN where unknown.
        background_below, foreground_from: scores of the seeds, which keep their side.
        beta: how strongly an edge separates pixels. tolerance: of the linear system's solution.
        spacing: height and width of a pixel.

    Returns:
        ``float32 (H, W)`` in [0, 1]; the unchanged scores without seeds of both kinds, or if the image has one colour.

    Examples:
        >>> image = np.zeros((8, 8, 3), np.uint8)
        >>> image[:, 3:] = 200  # an edge
        >>> scores = np.linspace(0, 1, 8, dtype=np.float32)[None].repeat(8, 0)
        >>> (random_walker(image, scores) > 0.5)[0].tolist()
        [False, False, False, True, True, True, True, True]
    """
    from skimage.segmentation import random_walker as library

    seeds = confident_seeds(scores, background_below, foreground_from)
    # The library divides by the spread of the colours.
    if len(np.unique(seeds[seeds > 0])) < 2 or image.min() == image.max():
        return scores
    if seeds.all():  # and answers in another shape
        return (seeds == 2).astype(np.float32)
    # prob_tol: no warning if the solution is outside of [0, 1] by the tolerance; it is clipped.
    options: dict[str, Any] = {"beta": beta, "mode": "cg_j", "tol": tolerance, "prob_tol": np.inf, "spacing": spacing}
    chances = library(image, seeds, return_full_prob=True, channel_axis=-1, **options)
    return np.asarray(chances[1].clip(0, 1), np.float32)


def superpixel_means(scores: Scores, superpixels: NDArray[np.int64]) -> Scores:
    """The mean of the known scores in each pixel's superpixel; NaN if none is known.

    Args:
        scores: ``float32 (H, W)``, NaN where unknown. superpixels: ``int (H, W)``, numbers from 0 on, for example of
            SLIC (Achanta et al., TPAMI 2012; ``skimage.segmentation.slic``).

    Examples:
        >>> superpixel_means(np.array([[0, 1, 0.5, np.nan]], np.float32), np.array([[0, 0, 1, 1]])).tolist()
        [[0.5, 0.5, 0.5, 0.5]]
    """
    known = ~np.isnan(scores)
    count = np.bincount(superpixels[known], minlength=superpixels.max() + 1)
    total = np.bincount(superpixels[known], scores[known], minlength=len(count))
    mean = np.full(len(count), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean.astype(np.float32)[superpixels]
