"""Class activation maps (Zhou et al., CVPR 2016)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def class_activation_maps(features: Tensor, weight: Tensor, classes: Tensor, image: Tensor | None = None) -> Tensor:
    """``M_c(x, y) = sum_k w_k^c f_k(x, y)`` (Zhou et al., eq. 2).

    Args:
        features: ``float (B, C, h, w)``, the input of the global pooling.
        weight: ``float (classes, C)``, of the linear layer.
        classes: ``int64 (m,)``, the class of each map.
        image: ``int64 (m,)``, the index of each map's image; None: one map per image, in order.

    Returns:
        ``float (m, h, w)``, unbounded; a map's mean is the class's logit without its bias.

    Examples:
        >>> features, weight = torch.ones(1, 2, 3, 3), torch.tensor([[1.0, 2.0], [0.0, -1.0]])
        >>> class_activation_maps(features, weight, torch.tensor([0]))[0, 0].tolist()
        [3.0, 3.0, 3.0]
    """
    features = features if image is None else features[image]
    return torch.einsum("bchw,bc->bhw", features, weight[classes])


def normalise_maps(maps: Tensor, how: str = "minmax") -> Tensor:
    """Bring each map to [0, 1].

    Args:
        maps: ``float (B, h, w)``.
        how: ``minmax``: its minimum to 0 and its maximum to 1; ``relu``: negative values to 0 and its
            maximum to 1. A constant map (for ``relu``: one without a positive value) becomes 0.

    Returns:
        ``float (B, h, w)`` in [0, 1].

    Examples:
        >>> normalise_maps(torch.tensor([[[-2.0, 0, 2]]])).tolist()
        [[[0.0, 0.5, 1.0]]]
    """
    flat = maps.flatten(1)
    low = flat.min(1).values[:, None, None] if how == "minmax" else torch.zeros_like(maps[:, :1, :1])
    shifted = (maps - low).clamp_min(0)
    high = shifted.flatten(1).max(1).values[:, None, None]
    return shifted / torch.where(high > 0, high, torch.ones_like(high))


def multi_scale_cam(
    network: Callable[[Tensor], Tensor],
    weight: Tensor,
    images: Tensor,
    classes: Tensor,
    image: Tensor | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    normalisation: str = "minmax",
) -> Tensor:
    """Class activation maps at several input sizes, optionally with flipping; each is normalised, and so is their sum.

    Args:
        network: a classifier up to its pooling: ``float (B, 3, S, S)`` to ``float (B, C, h, w)``.
        weight, classes, image: as for :func:`class_activation_maps`.
        images: ``float (B, 3, S, S)``, normalised.
        scales: input sizes as multiples of S, rounded to multiples of 32; at least one.
        flip: average with the map of the mirrored image.
        normalisation: as for :func:`normalise_maps`.

    Returns:
        ``float (m, h, w)`` in [0, 1], on the grid of the largest size.

    Examples:
        >>> network = torch.nn.Conv2d(3, 8, 32, stride=32)
        >>> images, weight = torch.rand(2, 3, 64, 64), torch.rand(5, 8)
        >>> with torch.no_grad():
        ...     multi_scale_cam(network, weight, images, torch.tensor([3, 1]), scales=(1, 2), flip=True).shape
        torch.Size([2, 4, 4])
    """
    side = images.shape[-1]
    total: Tensor | None = None
    for s in sorted((max(32, round(side * scale / 32) * 32) for scale in scales), reverse=True):
        resized = images if s == side else F.interpolate(images, (s, s), mode="bilinear", antialias=True)
        cam = class_activation_maps(network(resized), weight, classes, image)
        if flip:
            mirrored = class_activation_maps(network(resized.flip(3)), weight, classes, image)
            cam = (cam + mirrored.flip(2)) / 2
        cam = normalise_maps(cam, normalisation)
        if total is not None:
            cam = total + F.interpolate(cam[:, None], total.shape[1:], mode="bilinear")[:, 0]
        total = cam
    assert total is not None
    return normalise_maps(total, normalisation)


def predicted_classes(logits: Tensor, logistic: bool = False) -> list[list[int]]:
    """The classes that a classifier predicts for each image, from its ``float (B, classes)`` logits.

    The most likely one; with ``logistic`` every class whose probability is above 1/2, which may be none.

    Examples:
        >>> predicted_classes(torch.tensor([[1.0, -1, 2], [-1, -2, -3]]), logistic=True)
        [[0, 2], []]
    """
    if not logistic:
        return [[int(label)] for label in logits.argmax(1)]
    return [(row > 0).nonzero()[:, 0].tolist() for row in logits.cpu()]


def foreground_maps(maps: Tensor, image: Tensor) -> Tensor:
    """The maximum of each image's maps over its classes.

    Args:
        maps: ``float (m, h, w)``. image: ``int64 (m,)``, the index of each map's image, ascending.

    Returns:
        ``float (b, h, w)`` of the b images that have a map, in order.

    Examples:
        >>> foreground_maps(torch.tensor([[[0.2]], [[0.7]], [[0.1]]]), torch.tensor([0, 0, 2])).flatten().tolist()
        [0.699999988079071, 0.10000000149011612]
    """
    images, position = image.unique(return_inverse=True)
    out = maps.new_zeros(len(images), *maps.shape[1:])
    return out.scatter_reduce_(0, position[:, None, None].expand_as(maps), maps, "amax")
