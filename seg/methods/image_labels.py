"""An image classifier on frozen features, and its use to correct the classes of a segmentation.

A segmenter that is trained on few images learns outlines better than classes, which a linear classifier on pretrained
features predicts well. Ladický et al. (Graph Cut Based Inference with Co-occurrence Statistics, ECCV 2010) use an image
classifier as a prior on a segmenter's classes; here it changes the class of the foreground, but not its outline.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class LabelProbe(NamedTuple):
    """A linear multi-label classifier.

    Attributes:
        weight: ``float32 (K, d)``. bias: ``float32 (K,)``. A class is predicted if its logit is above 0.
        variance: of the weights' Gaussian prior, chosen by cross-validation.
        held_out_loss: mean logistic loss per image and class in the cross-validation, in nats.
        exact_match: share of held-out images with every label correct, in [0, 1].
    """

    weight: Tensor
    bias: Tensor
    variance: float
    held_out_loss: float
    exact_match: float


def fit_label_probe(
    features: Tensor,
    labels: Tensor,
    variances: Sequence[float] = (3, 10, 30, 100, 300, 1000),
    folds: int = 4,
    seed: int = 0,
) -> LabelProbe:
    """Logistic regression of each label on features of whole images, its penalty chosen by cross-validation.

    Args:
        features: ``float (n, d)``, one row an image, such as globally pooled features of a frozen network.
        labels: ``bool (n, K)``.
        variances: candidates for that of the weights' prior; features are standardised and divided by ``sqrt(d)``.
        folds: number of folds. seed: of their random split.

    Returns:
        The classifier, for features without standardisation.

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
    for variance in variances:
        logits = torch.empty_like(y)
        for held_out in range(folds):
            weight, bias = _logistic(x[fold != held_out], y[fold != held_out], variance)
            logits[fold == held_out] = x[fold == held_out] @ weight + bias
        loss = float(F.binary_cross_entropy_with_logits(logits, y))
        results.append((loss, variance, float(((logits > 0) == (y > 0)).all(1).float().mean())))
    loss, variance, exact_match = min(results)
    weight, bias = _logistic(x, y, variance)
    weight = weight / scale[:, None]
    return LabelProbe(weight.T.contiguous(), bias - mean @ weight, variance, loss, exact_match)


def _logistic(x: Tensor, y: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """Weights ``(d, K)`` and biases ``(K,)`` that minimise the logistic loss and ``|w|^2 / (2 variance)``."""
    weight = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        total = F.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="sum")
        value = (total + weight.square().sum() / (2 * variance)) / len(x)
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return weight.detach(), bias.detach()


def follow_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """A segmenter's logits, with classes reweighted by an image classifier.

    The foreground is unchanged: the pixels where some class is more likely than the background. Their class becomes the
    one with the largest product of the segmenter's and the classifier's probability.

    Args:
        logits: ``float (B, 1 + K, H, W)``, the background's first. labels: ``float (B, K)``, the classifier's.

    Returns:
        ``float (B, 1 + K, H, W)``: the background's and the largest of the classes' are unchanged.

    Examples:
        >>> pixel = torch.tensor([0.0, 2.0, 1.9]).reshape(1, 3, 1, 1)
        >>> follow_labels(pixel, torch.tensor([[-5.0, 5.0]])).argmax(1).item()
        2
    """
    classes = logits[:, 1:]
    weighted = classes + F.logsigmoid(labels)[:, :, None, None]
    shift = classes.amax(1, keepdim=True) - weighted.amax(1, keepdim=True)
    return torch.cat([logits[:, :1], weighted + shift], 1)
