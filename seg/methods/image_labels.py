"""Which classes does an image show? A linear classifier on frozen features, and segmentation that follows it.

Few images teach a segmenter where objects end, but not which class they are of; image labels and features of a network
that has seen millions of photos do. Restricting a segmenter's classes to those of an image classifier is old (Ladický
et al., Graph Cut Based Inference with Co-occurrence Statistics, ECCV 2010, use it as a prior); here the foreground
stays the segmenter's, and the classifier says what it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class LabelProbe(NamedTuple):
    """A linear classifier of several labels.

    Attributes:
        weight: ``float32 (K, d)``. bias: ``float32 (K,)``. A class is likelier than not where the logit is above 0.
        strength: how far weights may grow, as chosen by cross-validation.
        held_out: the logistic loss per image and class in that cross-validation, in nats.
        all_right: share of images of which all labels were right there, in [0, 1].
    """

    weight: Tensor
    bias: Tensor
    strength: float
    held_out: float
    all_right: float


def fit_label_probe(
    features: Tensor,
    labels: Tensor,
    strengths: Sequence[float] = (3, 10, 30, 100, 300, 1000),
    folds: int = 4,
    seed: int = 0,
) -> LabelProbe:
    """Logistic regression of each label on features of whole images, its penalty chosen by cross-validation.

    Args:
        features: ``float (n, d)``, one row an image, such as globally pooled features of a frozen network.
        labels: ``bool (n, K)``.
        strengths: of which the best is taken: variances of the weights of standardised features over ``sqrt(d)``.
        folds: of the cross-validation. seed: of the split.

    Returns:
        The classifier, for features as they are given.

    Raises:
        ValueError: fewer images than folds.

    Examples:
        >>> features = torch.tensor([[0.0, 1], [0, 2], [1, 0], [2, 0], [0, 3], [3, 0], [0, 1], [1, 0]])
        >>> labels = features > 0
        >>> probe = fit_label_probe(features, labels)
        >>> bool(((features @ probe.weight.T + probe.bias > 0) == labels).all())
        True
    """
    if len(features) < folds:
        raise ValueError(f"{len(features)} images: must be at least folds={folds}")
    x, y = features.float(), labels.float()
    mean, scale = x.mean(0), x.std(0).clamp_min(1e-6) * x.shape[1] ** 0.5
    x = (x - mean) / scale
    fold = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)) % folds)
    results = []
    for strength in strengths:
        logits = torch.empty_like(y)
        for one in range(folds):
            weight, bias = _logistic(x[fold != one], y[fold != one], strength)
            logits[fold == one] = x[fold == one] @ weight + bias
        loss = float(F.binary_cross_entropy_with_logits(logits, y))
        results.append((loss, strength, float(((logits > 0) == (y > 0)).all(1).float().mean())))
    held_out, strength, all_right = min(results)
    weight, bias = _logistic(x, y, strength)
    weight = weight / scale[:, None]
    return LabelProbe(weight.T.contiguous(), bias - mean @ weight, strength, held_out, all_right)


def _logistic(x: Tensor, y: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Weights ``(d, K)`` and biases ``(K,)`` that minimise the logistic loss and ``|w|^2 / (2 strength)``."""
    weight = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        total = F.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="sum")
        value = (total + weight.square().sum() / (2 * strength)) / len(x)
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return weight.detach(), bias.detach()


def follow_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """A segmenter's logits with the classes that an image classifier finds.

    A pixel is foreground as the segmenter has it: where its likeliest class is likelier than the background. What class
    it is says the product of the segmenter's probability and the image's.

    Args:
        logits: ``float (B, 1 + K, H, W)``, the background's first. labels: ``float (B, K)`` logits of the images.

    Returns:
        ``float (B, 1 + K, H, W)``: the background's as it was; the largest of the classes' as large as it was.

    Examples:
        >>> pixel = torch.tensor([0.0, 2.0, 1.9]).reshape(1, 3, 1, 1)
        >>> follow_labels(pixel, torch.tensor([[-5.0, 5.0]])).argmax(1).item()
        2
    """
    classes = logits[:, 1:]
    likely = classes + F.logsigmoid(labels)[:, :, None, None]
    shift = classes.amax(1, keepdim=True) - likely.amax(1, keepdim=True)
    return torch.cat([logits[:, :1], likely + shift], 1)
