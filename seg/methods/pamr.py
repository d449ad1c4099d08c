"""Pixel-adaptive mask refinement: scores spread between neighbouring pixels of similar colours.

N. Araslanov and S. Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_DIRECTIONS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def neighbours(maps: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """The eight neighbours at each distance, ``float (B, C, H, W)`` each, with replicated borders."""
    reach, (height, width) = max(dilations), maps.shape[2:]
    padded = F.pad(maps, (reach,) * 4, mode="replicate")
    for dilation in dilations:
        for y, x in _DIRECTIONS:
            down, across = reach + y * dilation, reach + x * dilation
            yield padded[:, :, down : down + height, across : across + width]


def affinities(images: Tensor, dilations: Sequence[int]) -> Tensor:
    r"""The weight of each neighbour of a pixel (Araslanov and Roth, section 3.3).

    .. math:: a_{ij} = \mathrm{softmax}_j \Big( -\frac{1}{C} \sum_c \frac{|x_{ic} - x_{jc}|}{0.1 \sigma_{ic}} \Big)

    with the standard deviation over a pixel and its neighbours (the pixel once for each distance). The 0.1 and the mean
    over the colours follow the authors' code. Scale and offset of a colour channel do not matter.

    Args:
        images: ``float (B, C, H, W)``. dilations: distances of the neighbours, in pixels.

    Returns:
        ``float (B, 8 * len(dilations), H, W)``, in the order of :func:`neighbours`; sums to 1 over the neighbours.
    """
    centres, count = len(dilations), 9 * len(dilations)
    mean = sum(neighbours(images, dilations), start=images * centres) / count
    squares = sum(
        ((n - mean).square() for n in neighbours(images, dilations)), start=centres * (images - mean).square()
    )
    spread = 0.1 * (squares / (count - 1)).sqrt() + 1e-8
    differences = [((n - images).abs() / spread).mean(1) for n in neighbours(images, dilations)]
    return torch.stack(differences, 1).neg_().softmax(1)


def pamr(images: Tensor, maps: Tensor, dilations: Sequence[int], iterations: int) -> Tensor:
    """Refine maps: each iteration replaces a pixel by the mean of its neighbours, weighted by affinity.

    Args:
        images: ``float (B, C, H, W)``. maps: ``float (B, K, H, W)``. dilations: see :func:`affinities`.
        iterations: number of iterations.

    Returns:
        ``float (B, K, H, W)``, within the range of ``maps``.

    Examples:
        >>> image = torch.zeros(1, 3, 1, 6)
        >>> image[..., 3:] = 1  # an edge
        >>> scores = torch.tensor([[[[0, 0, 0, 0, 1, 1.0]]]])  # starts a pixel too far to the right
        >>> (pamr(image, scores, (1, 2), 10) > 0.5).int().tolist()
        [[[[0, 0, 0, 1, 1, 1]]]]
    """
    weights = affinities(images, dilations)
    for _ in range(iterations):
        out = torch.zeros_like(maps)
        for i, neighbour in enumerate(neighbours(maps, dilations)):
            out.addcmul_(weights[:, i : i + 1], neighbour)
        maps = out
    return maps
