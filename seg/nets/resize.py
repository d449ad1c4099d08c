"""Resizing of maps."""

import numpy as np
import torch
from torch.nn import functional as F


def upsample(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``float32 (b, h, w)`` to ``(b, *size)``, bilinear with ``align_corners=False``."""
    if values.shape[1:] == size:
        return values
    out = F.interpolate(torch.from_numpy(values)[:, None], size, mode="bilinear", align_corners=False)
    return out[:, 0].numpy()


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``(b, h, w)`` of any type to ``(b, *size)``, each from the nearest cell."""
    if values.shape[1:] == size:
        return values
    ys, xs = (((np.arange(s) + 0.5) * v / s).astype(int) for s, v in zip(size, values.shape[1:], strict=True))
    return values[:, ys[:, None], xs[None, :]]
