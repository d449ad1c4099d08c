"""Refinement of the score map of one image by its colours."""

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
    """OpenCV's GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004): models of both sides' colours, and a cut.

    What is surely background or foreground stays so; the rest starts on the side that its score says and may change.
    Where nothing is known it starts as foreground, as the paper's unknown region does. A score of exactly 0, as outside
    of a box, is surely background: the paper's rectangle.

    Args:
        image: ``uint8 (H, W, 3)`` RGB. scores: ``float32 (H, W)`` in [0, 1]; NaN where nothing is known.
        threshold: starts as foreground from it on. background_below, foreground_from: surely so.
        iterations: of models and cut.

    Returns:
        ``float32 (H, W)`` of 0 and 1. Without colours of both sides to compare what starts as a mask is the
        answer, and NaN where nothing is known.

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
    """The chance that a walker who starts at a pixel meets the foreground's seeds first (Grady, TPAMI 2006).

    Args:
        image: ``uint8 (H, W, 3)`` RGB. scores: ``float32 (H, W)`` in [0, 1]; NaN where nothing is known.
        background_below, foreground_from: what are seeds; they keep their side.
        beta: how much an edge hinders. tolerance: of the linear system's solution. spacing: height, width of a pixel.

    Returns:
        ``float32 (H, W)`` in [0, 1]; the scores as they are without seeds of both kinds, and where the image has one
        colour.

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
    # No warning (prob_tol): what a loose tolerance leaves outside of [0, 1] is clipped.
    options: dict[str, Any] = {"beta": beta, "mode": "cg_j", "tol": tolerance, "prob_tol": np.inf, "spacing": spacing}
    chances = library(image, seeds, return_full_prob=True, channel_axis=-1, **options)
    return np.asarray(chances[1].clip(0, 1), np.float32)


def superpixel_means(scores: Scores, superpixels: NDArray[np.int64]) -> Scores:
    """Every pixel gets the mean of the known scores in its superpixel, NaN where none is known.

    Args:
        scores: ``float32 (H, W)``, NaN where nothing is known. superpixels: ``int (H, W)``, numbers from 0 on, such as
            those of SLIC (Achanta et al., TPAMI 2012; ``skimage.segmentation.slic``).

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
