"""Maps of scores: made from features, brought to [0, 1], upsampled."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def class_activation_maps(features: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
    """``M_c(x, y) = sum_k w_k^c f_k(x, y)`` (Zhou et al., eq. 2), for one class per image.

    Args:
        features: ``float (B, C, h, w)``, the input of the global pooling.
        weight: ``float (classes, C)``, of the linear layer.
        classes: ``int64 (B,)``, the class asked of each image.

    Returns:
        ``float (B, h, w)``, unbounded; its mean over the map is the class's logit less its bias.
    """
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
