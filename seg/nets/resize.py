"""Maps of scores: made from features, brought to [0, 1], upsampled."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def class_activation_maps(features: Tensor, weight: Tensor, classes: Tensor, image: Tensor | None = None) -> Tensor:
    """``M_c(x, y) = sum_k w_k^c f_k(x, y)`` (Zhou et al., eq. 2).

    Args:
        features: ``float (B, C, h, w)``, the input of the global pooling.
        weight: ``float (classes, C)``, of the linear layer.
        classes: ``int64 (m,)``, the classes asked for.
        image: ``int64 (m,)``, of which image each is asked; None: one of each, in order.

    Returns:
        ``float (m, h, w)``, unbounded; its mean over the map is the class's logit less its bias.
    """
    features = features if image is None else features[image]
    return torch.einsum("bchw,bc->bhw", features, weight[classes])


def normalise_maps(maps: Tensor, how: str) -> Tensor:
    """Bring each map to [0, 1].

    Args:
        maps: ``float (B, h, w)``.
        how: ``minmax``: its minimum to 0 and its maximum to 1; ``relu``: negative values to 0 and its
            maximum to 1. A constant map (for ``relu``: one without a positive value) becomes 0.

    Returns:
        ``float (B, h, w)`` in [0, 1].
    """
    flat = maps.flatten(1)
    low = flat.min(1).values[:, None, None] if how == "minmax" else torch.zeros_like(maps[:, :1, :1])
    shifted = (maps - low).clamp_min(0)
    high = shifted.flatten(1).max(1).values[:, None, None]
    return shifted / torch.where(high > 0, high, torch.ones_like(high))


def upsample(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``float32 (b, h, w)`` to ``(b, *size)``, bilinear with ``align_corners=False``."""
    if values.shape[1:] == size:
        return values
    out = F.interpolate(torch.from_numpy(values)[:, None], size, mode="bilinear", align_corners=False)
    return out[:, 0].numpy()


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``(b, h, w)`` of any type to ``(b, *size)``: the nearest cell's value, which is never blended."""
    if values.shape[1:] == size:
        return values
    ys, xs = (((np.arange(s) + 0.5) * v / s).astype(int) for s, v in zip(size, values.shape[1:], strict=True))
    return values[:, ys[:, None], xs[None, :]]
