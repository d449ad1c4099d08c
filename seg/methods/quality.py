"""Estimated quality of masks, from images and labels alone.

Three properties of good masks that can be measured without ground truth:

* **Agreement.** The foreground is predictable: a linear model that learns it from half of the images predicts it in the
  other half. Masks that follow the blur of the prior, or another object in every image, are not predictable.
* **Negatives.** Images without a label have no foreground. The model learns them as background; the share of them that
  it still predicts as foreground lowers the estimate.
* **Edges.** The image changes at the outline of a mask.

The estimate compares masks of the same images; its value does not estimate an mIoU. A fourth property is judged by
itself: what a mask marks tells the image's labels better than the rest of the image does (:func:`label_evidence`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from seg.methods.average_precision import mean_average_precision
from seg.methods.codes import BORDER

#: :func:`edge_contrast` above which more does not count: ground truth has 2.4 to 3.4, GrabCut mostly 3.8 to 5.6.
EDGE_CONTRAST = 5.5


class Quality(NamedTuple):
    """Estimated quality of the masks of some images.

    Attributes:
        quality: in [0, 1]; nan without foreground.
            ``agreement * precision**2 * min(edges, 1) * (0.8 + 0.2 * min(edges / EDGE_CONTRAST, 1))``, where
            ``precision`` is ``share / (share + false_positives)`` with the masks' share of the cells of images with a
            label, or 1 if all images have one.
        agreement: mean IoU of foreground and background between masks and held-out prediction, over all cells.
        edges: :func:`edge_contrast` of the outlines.
        false_positives: share of the cells in images without a label that are predicted as foreground; nan without
            such images.
        labels_inside, labels_outside: of :func:`label_evidence`.
        per_image: ``float (n,)``, IoU of the foreground between mask and held-out prediction; nan if both are empty.
    """

    quality: float
    agreement: float
    edges: float
    false_positives: float
    labels_inside: float
    labels_outside: float
    per_image: np.ndarray


def to_cells(masks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Masks on a coarser grid.

    Args:
        masks: ``uint8 (n, H, W)``, 0 background, 1 and on the classes, from 254 on unknown. grid: height and width.

    Returns:
        ``uint8 (n, h * w)``: 1 if most known pixels of a cell are foreground, else 0; 255 if most pixels are unknown.
    """
    import torch
    import torch.nn.functional as F

    codes = torch.from_numpy(np.ascontiguousarray(masks))
    known = F.adaptive_avg_pool2d((codes < BORDER).float()[:, None], grid)[:, 0]
    above = F.adaptive_avg_pool2d(((codes > 0) & (codes < BORDER)).float()[:, None], grid)[:, 0]
    cells = torch.where(known >= 0.5, (above > known / 2).to(torch.uint8), torch.tensor(255, dtype=torch.uint8))
    return cells.flatten(1).numpy()


def held_out_foreground(
    features: np.ndarray, cells: np.ndarray, folds: int = 2, ridge: float = 0.1, seed: int = 0, most: int = 60_000
) -> np.ndarray:
    """The foreground of each image, predicted by a ridge regression on the cells of the other folds' images.

    Args:
        features: ``float (n, m, d)`` of the cells of ``n`` images, with about unit variance.
        cells: ``uint8 (n, m)``: 0, 1, or 255 for unknown.
        folds: number of parts. ridge: added to the features' covariance. seed: of the split and the cells to fit.
        most: largest number of cells to fit.

    Returns:
        ``bool (n, m)``.

    Examples:
        >>> cells = np.array([[0, 1], [1, 0], [0, 0], [1, 1]], np.uint8)
        >>> held_out_foreground(cells[..., None] * 2.0 - 1, cells).astype(int).tolist()
        [[0, 1], [1, 0], [0, 0], [1, 1]]
    """
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(cells)) % folds
    out = np.zeros(cells.shape, bool)
    for one in range(folds):
        learnt = np.flatnonzero(fold != one)
        image, cell = np.nonzero(cells[learnt] != 255)
        if len(image) > most:
            drawn = np.sort(rng.choice(len(image), most, replace=False))
            image, cell = image[drawn], cell[drawn]
        if len(image) == 0:
            continue
        x = np.asarray(features[learnt[image], cell], np.float32)
        y = cells[learnt[image], cell].astype(np.float32)
        mean, share = x.mean(0), y.mean()
        x -= mean
        weights = np.linalg.solve(x.T @ x / len(x) + ridge * np.eye(x.shape[1]), x.T @ (y - share) / len(x))
        for i in np.flatnonzero(fold == one):
            out[i] = (np.asarray(features[i], np.float32) - mean) @ weights + share > 0.5
    return out


def edge_contrast(images: np.ndarray, masks: np.ndarray) -> float:
    """Difference of neighbouring pixels across the outline of a mask, divided by that anywhere; mean over images.

    Args:
        images: ``uint8 (n, H, W, 3)``. masks: ``uint8 (n, H, W)``.

    Returns:
        At least 0, and 1 for outlines independent of the image; nan if no mask has an outline.

    Examples:
        >>> image, mask = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8), np.uint8)
        >>> image[:, 2:6, 2:6], mask[:, 2:6, 2:6] = 200, 1
        >>> edge_contrast(image, mask) > 3
        True
    """
    found = []
    for image, mask in zip(images, masks, strict=True):
        total = pixels = everywhere = 0.0
        for axis in (0, 1):
            step = np.abs(np.diff(image.astype(np.float32), axis=axis)).mean(-1)
            at = np.diff(mask.astype(np.int16), axis=axis) != 0
            total, pixels, everywhere = total + step[at].sum(), pixels + at.sum(), everywhere + step.mean() / 2
        if pixels and everywhere:
            found.append(total / pixels / everywhere)
    return float(np.mean(found)) if found else float("nan")


def label_evidence(
    features: np.ndarray, cells: np.ndarray, labels: np.ndarray, ridge: float = 0.1, seed: int = 0, least: int = 6
) -> tuple[float, float]:
    """How well the labels of images are predicted from what their masks keep, and from the rest.

    Sufficiency and comprehensiveness (DeYoung et al., ACL 2020) with linear models: a ridge regression of the labels on
    the mean feature of the cells learns from one half of the images and predicts the other half, and vice versa.

    Args:
        features: ``float (n, m, d)`` of the cells of ``n`` images. cells: ``uint8 (n, m)``: 0, 1, or 255 for unknown.
        labels: ``bool (n, K)``; images without a label are left out.
        ridge: added to the covariance, in units of a feature's mean variance. seed: of the halves.
        least: a class counts if so many images have it, and so many do not.

    Returns:
        mAP from the foreground and from the background, in [0, 1]; an image that has none comes last. nan if no class
        counts.

    Examples:
        >>> labels = np.arange(40)[:, None] % 2 == [0, 1]
        >>> features = np.zeros((40, 2, 2))
        >>> features[:, 0] = labels  # of two cells the first shows the class
        >>> inside, outside = label_evidence(features, np.tile(np.uint8([1, 0]), (40, 1)), labels)
        >>> inside > 0.9 > outside
        True
    """
    images = np.flatnonzero(labels.any(1))
    counts = labels[images].sum(0)
    wanted = labels[images][:, (counts >= least) & (len(images) - counts >= least)]
    if not wanted.size:
        return float("nan"), float("nan")
    fold = np.random.default_rng(seed).permutation(len(wanted)) % 2
    found = []
    for side in (1, 0):
        own = (cells[images] == side).astype(np.float32)
        own /= own.sum(1, keepdims=True).clip(1)
        # Image by image: the features of all may be larger than the memory.
        x = np.stack([w @ np.asarray(features[i], np.float32) for w, i in zip(own, images, strict=True)])
        has, scores = own.any(1), np.full(wanted.shape, -1e9)
        for half in (0, 1):
            train, test = (fold != half) & has, (fold == half) & has
            if train.any() and test.any():
                scores[test] = _ridge(x[train], wanted[train], ridge * x[train].var(0).mean() + 1e-9)(x[test])
        found.append(mean_average_precision(scores, wanted))
    return found[0], found[1]


def _ridge(x: np.ndarray, y: np.ndarray, ridge: float) -> Callable[[np.ndarray], np.ndarray]:
    """A regression of ``y`` on ``x``, ``float (n, d)``, as a function of other rows."""
    mean, share = x.mean(0), y.mean(0)
    x = x - mean
    weights = np.linalg.solve(x.T @ x / len(x) + ridge * np.eye(x.shape[1]), x.T @ (y - share) / len(x))
    return lambda others: (np.asarray(others, np.float32) - mean) @ weights + share


def estimate_quality(
    features: np.ndarray, images: np.ndarray, masks: np.ndarray, labels: np.ndarray, folds: int = 2, seed: int = 0
) -> Quality:
    """Estimate the quality of masks without ground truth.

    Args:
        features: ``float (n, h, w, d)``, whitened (:func:`whiten`) features of a frozen network or of colours.
        images: ``uint8 (n, H, W, 3)``. masks: ``uint8 (n, H, W)``, 0 background, 1 and on the classes, 255 unknown.
        labels: ``bool (n, K)``; images without a label are background.
        folds, seed: of the split into images to fit and to predict.

    Returns:
        See :class:`Quality`. To judge labels by a model that is trained on them is reverse testing (Fan and Davidson,
        KDD 2006); the formula is ours.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> images = rng.integers(0, 60, (20, 16, 16, 3), dtype=np.uint8)
        >>> images[:, 4:12, 4:12] += 150
        >>> features = whiten(images.astype(np.float32))
        >>> good, bad = np.zeros((2, 20, 16, 16), np.uint8)
        >>> good[:, 4:12, 4:12], bad[:, 2:10, 5:14] = 1, 1
        >>> right, wrong = (estimate_quality(features, images, m, np.ones((20, 1), bool)).quality for m in (good, bad))
        >>> right > 0.95 > 0.7 > wrong
        True
    """
    cells, labelled = to_cells(masks, (features.shape[1], features.shape[2])), labels.any(1)
    cells[~labelled] = 0
    flat = features.reshape(*cells.shape, -1)
    found = held_out_foreground(flat, cells, folds, seed=seed)
    known, above = cells != 255, cells == 1
    both, either = (found & above).sum(1), ((found | above) & known).sum(1)
    per_image = np.divide(both, either, out=np.full(len(cells), np.nan), where=either > 0)
    empty = float("nan")
    ious = [both.sum() / either.sum() if either.sum() else empty]
    rest, any_rest = (~found & ~above & known).sum(), (~(found & above) & known).sum()
    ious.append(rest / any_rest if any_rest else empty)
    agreement = float(np.mean(ious)) if above.any() else empty
    edges = edge_contrast(images, masks)
    false_positives = float(found[~labelled].mean()) if not labelled.all() else empty
    # An outline across which the image changes less than on average avoids the edges of objects.
    factor = 1.0 if np.isnan(edges) else min(edges, 1.0) * (0.8 + 0.2 * min(edges / EDGE_CONTRAST, 1.0))
    if above.any() and not labelled.all():
        share = above[labelled].mean()
        factor *= float(share / (share + false_positives)) ** 2
    evidence = label_evidence(flat, cells, labels, seed=seed) if above.any() else (empty, empty)
    return Quality(agreement * factor, agreement, edges, false_positives, *evidence, per_image)


def whitening(features: np.ndarray, dims: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """The map of features to their first principal components, each with mean 0 and variance 1.

    Args:
        features: ``float (n, h, w, d)``; of a memory-mapped file 32 images are read at a time.
        dims: largest number of components; those without variance are left out.

    Returns:
        Mean ``float64 (d,)`` and weights ``float32 (d, k)``: the components are ``(features - mean) @ weights``.

    Examples:
        >>> features = np.random.default_rng(0).normal(3, 5, (2, 4, 4, 3))
        >>> mean, weights = whitening(features)
        >>> white = ((features - mean) @ weights).reshape(-1, 3)
        >>> bool(abs(np.cov(white.T, bias=True) - np.eye(3)).max() < 1e-3)
        True
    """
    parts = [features[i : i + 32].reshape(-1, features.shape[-1]) for i in range(0, len(features), 32)]
    cells = sum(map(len, parts))
    mean = sum(part.sum(0, dtype=np.float64) for part in parts) / cells
    moments = sum((x.T @ x).astype(np.float64) for x in (np.asarray(part - mean, np.float32) for part in parts))
    variances, vectors = np.linalg.eigh(moments / cells)
    first = np.flatnonzero(variances > 1e-9)[-dims:][::-1]
    return mean, (vectors[:, first] / np.sqrt(variances[first])).astype(np.float32)


def whiten(features: np.ndarray, dims: int = 128) -> np.ndarray:
    """The first principal components of features in memory, see :func:`whitening`: ``float32 (n, h, w, k)``.

    Examples:
        >>> whiten(np.eye(3).reshape(1, 1, 3, 3)).shape  # three points vary in two directions
        (1, 1, 3, 2)
    """
    mean, weights = whitening(features, dims)
    return np.asarray(features - mean, np.float32) @ weights
