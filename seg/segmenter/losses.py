"""What a segmenter learns from and how far it is from that: masks, soft targets, a teacher, a second view."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss, averaged over the known pixels: binary, or of the softmax over several outputs.

    Of masks it is that of Lin et al. (ICCV 2017, eq. 4); of probabilities the quality focal loss (X. Li et al.,
    Generalized Focal Loss, NeurIPS 2020, eq. 2), ``|y - p| ** gamma`` times the cross-entropy, which is the same where
    ``y`` is 0 or 1.

    Args:
        logits: ``float (B, H, W)`` of the foreground; or ``(B, C + 1, H, W)``, of the background and each class.
        targets: ``(B, H, W)``: ``uint8`` 0, 1 (or up to ``C``), or 255 ignored; or of the foreground ``float``
            probabilities, NaN ignored.
        gamma: how much what is already right is discounted; 0 gives the cross-entropy.

    Returns:
        Scalar >= 0; 0 when every pixel is ignored.
    """
    soft = targets.is_floating_point()
    known = is_known(targets)
    if logits.ndim > targets.ndim:
        wanted = torch.where(known, targets, 0).long()
        cross_entropy = F.cross_entropy(logits, wanted, reduction="none")
    else:
        wanted = torch.where(known, targets, 0).to(logits.dtype)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    doubt = 1 - torch.exp(-cross_entropy)
    if soft:
        between = (wanted > 0) & (wanted < 1)
        doubt = torch.where(between, (wanted - logits.sigmoid()).abs(), doubt)
    # Never quite 0: for gamma below 1 the power has no finite slope there, and torchvision's loss a gradient of NaN.
    doubt = doubt.clamp_min(torch.finfo(logits.dtype).tiny)
    loss = doubt**gamma * cross_entropy
    return torch.where(known, loss, 0).sum() / known.sum().clamp_min(1)


def is_known(targets: Tensor) -> Tensor:
    """``bool`` of the same shape: where :func:`focal_loss` takes a target into account."""
    return ~targets.isnan() if targets.is_floating_point() else targets != 255


def soft_targets(scores: np.ndarray, masks: np.ndarray, low: float, high: float, share: float) -> np.ndarray:
    """Masks as probabilities that say how sure the scores are.

    A score is a probability of 0 at 0, 1/2 at the threshold and 1 at 1, and linear between these.

    Args:
        scores: ``float32 (B, H, W)`` in [0, 1]. masks: ``uint8``, made from them: 0, 1, or 255 ignored. Where that was
            cleaned up, and so is on the other side than the score, the probability is 1/2.
        low, high: background was below the one, foreground from the other on.
        share: of that probability, in [0, 1]; the rest is of the mask.

    Returns:
        ``float32 (B, H, W)`` in [0, 1], not below 1/2 on the foreground, not above it on the background; NaN where
        ignored.
    """
    tiny = 1e-6
    below = np.clip(0.5 * scores / max(low, tiny), 0.0, 0.5)
    above = np.clip(1 - 0.5 * (1 - scores) / max(1 - high, tiny), 0.5, 1.0)
    hard = (masks == 1).astype(np.float32)
    out = hard + share * (np.where(masks == 1, above, below) - hard)
    return np.where(masks == 255, np.nan, out).astype(np.float32)


def posterior(probability: Tensor, gamma: float) -> Tensor:
    """What a network that was trained with the focal loss means by its probability.

    The focal loss is least not at the share ``q`` of foreground among pixels that look alike, but at a ``p`` nearer to
    1/2: for ``gamma`` 2 a ``q`` of 0.9 is answered by 0.69. This is ``q`` of ``p`` (Charoenphakdee et al., On Focal
    Loss for Class-Posterior Probability Estimation, CVPR 2021).

    Args:
        probability: ``float (B, 1, H, W)`` of the foreground, or ``(B, C + 1, H, W)`` of the background and each
            class, in [0, 1]. gamma: of the loss; 0 changes nothing.

    Returns:
        Of the same shape.
    """
    p = probability.clamp(1e-6, 1 - 1e-6)
    slope = lambda x: (1 - x) ** gamma / x - gamma * (1 - x) ** (gamma - 1) * torch.log(x)  # noqa: E731  of -loss
    if p.shape[1] == 1:
        return slope(1 - p) / (slope(p) + slope(1 - p))
    return 1 / slope(p) / (1 / slope(p)).sum(1, keepdim=True)


def probabilities(logits: Tensor) -> Tensor:
    """``float (B, K, H, W)`` logits to probabilities of the same shape: the logistic of one, the softmax of several."""
    return logits.float().sigmoid() if logits.shape[1] == 1 else logits.float().softmax(1)


def corrected(targets: Tensor, teacher: Tensor, sure: float) -> Tensor:
    """Targets with a teacher's answer where it is sure, be they known or not.

    Args:
        targets: as :func:`focal_loss` takes them. teacher: its probabilities, as :func:`posterior` gives them.
        sure: the probability, of either side or of a class, from which on it is.

    Returns:
        Of the shape and type of ``targets``.
    """
    if teacher.shape[1] == 1:
        surest, answer = torch.maximum(teacher, 1 - teacher)[:, 0], teacher[:, 0] >= 0.5
    else:
        surest, answer = teacher.max(1)
    return torch.where(surest >= sure, answer.to(targets.dtype), targets)


def second_views(count: int, zoom: float, generator: torch.Generator) -> Tensor:
    """Draw where second views of images look: mirrored, a crop of a side from ``zoom`` to the whole.

    Returns:
        ``float32 (count, 2, 3)``, affine maps from a view's coordinates to the image's, for :func:`look`.
    """
    side = 1 - (1 - zoom) * torch.rand(count, generator=generator)
    shift = (1 - side[:, None]) * (2 * torch.rand(count, 2, generator=generator) - 1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = -side, side, shift
    return theta


def look(maps: Tensor, theta: Tensor) -> Tensor:
    """``float (B, C, H, W)`` as the views of :func:`second_views` see them, at the same size, bilinear."""
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, "bilinear", "border", align_corners=False)
