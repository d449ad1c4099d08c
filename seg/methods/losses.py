"""Losses of a segmenter."""

import torch
from torch import Tensor
from torch.nn import functional as F


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017, eq. 4, without their alpha), averaged over the pixels that are not ignored.

    Args:
        logits: ``float (B, H, W)`` of the foreground; or ``(B, C + 1, H, W)``, of the background and each class.
        targets: ``uint8 (B, H, W)``: 0, 1 (or up to ``C``), or 255 ignored.
        gamma: exponent of the down-weighting of well-classified pixels; 0 gives the cross-entropy.

    Returns:
        Scalar >= 0; 0 if every pixel is ignored.

    Examples:
        >>> logits, targets = torch.zeros(1, 1, 2), torch.tensor([[[1, 255]]], dtype=torch.uint8)
        >>> round(focal_loss(logits, targets, gamma=0).item(), 4)  # log 2
        0.6931
    """
    valid = targets != 255
    safe_targets = torch.where(valid, targets, 0)
    if logits.ndim > targets.ndim:
        cross_entropy = F.cross_entropy(logits, safe_targets.long(), reduction="none")
    else:
        cross_entropy = F.binary_cross_entropy_with_logits(logits, safe_targets.to(logits.dtype), reduction="none")
    # Above 0, where the gradient of the power is infinite for gamma below 1 (and NaN in torchvision's loss).
    error = (1 - torch.exp(-cross_entropy)).clamp_min(torch.finfo(logits.dtype).tiny)
    return torch.where(valid, error**gamma * cross_entropy, 0).sum() / valid.sum().clamp_min(1)
