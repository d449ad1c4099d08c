"""The bootstrap over images (Efron, Annals of Statistics 1979): mIoU of resampled sets, and its interval."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from seg.methods.metrics import mean_iou


def bootstrap_miou(matrices: NDArray[np.int64], samples: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """The mIoU of resampled sets of images, each from counts summed over the set.

    Equal ``n``, ``samples`` and ``seed`` draw the same images, so results of several methods are paired.

    Args:
        matrices: ``int (n, K, K)``, pixels of each image by target (rows) and prediction (columns), background first.
        samples: number of sets. seed: of the drawing.

    Returns:
        ``float64 (samples,)`` in [0, 1]; nan for a set without an object in the target.

    Examples:
        >>> matrices = np.array([[[8, 2], [0, 6]], [[9, 1], [3, 3]]])
        >>> low, high = percentile_interval(bootstrap_miou(matrices))
        >>> round(low, 4), round(high, 4)
        (0.5604, 0.775)
    """
    count, classes = len(matrices), matrices.shape[-1]
    if count == 0:
        return np.full(samples, np.nan)
    areas = np.stack([np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(2), matrices.sum(1)], 1)
    summed = _weights(count, samples, seed) @ areas.reshape(count, -1).astype(np.float64)
    return mean_iou(summed.reshape(samples, 3, classes))


def percentile_interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """The interval between the quantiles ``(1 - level) / 2`` and ``(1 + level) / 2``; nan without values.

    Examples:
        >>> percentile_interval(np.arange(101.0), level=0.5)
        (25.0, 75.0)
    """
    values = values[~np.isnan(values)]
    if values.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=2)
def _weights(count: int, samples: int, seed: int) -> NDArray[np.float64]:
    """``(samples, count)``: number of times that each image is drawn, with replacement."""
    drawn = np.random.default_rng(seed).integers(count, size=(samples, count)) + count * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * count).reshape(samples, count).astype(np.float64)
