"""Upsampling of coarse maps along the edges of their images."""

import torch
from torch import Tensor
from torch.nn import functional as F


def joint_bilateral_upsampling(
    maps: Tensor,
    images: Tensor,
    size: tuple[int, int],
    radius: int = 2,
    sigma_space: float = 1.0,
    sigma_colour: float = 0.1,
) -> Tensor:
    """A fine pixel is the mean of the coarse cells around it, weighted by distance and difference in colour.

    Kopf et al., Joint Bilateral Upsampling, SIGGRAPH 2007, with the mean colour of a cell. The weights depend on the
    image alone: a linear function of upsampled features is the upsampled linear function of the features.

    Args:
        maps: ``float (b, c, h, w)``. images: ``float (b, 3, H, W)``. size: of the output, at least ``(h, w)``.
        radius: of the neighbourhood, in coarse cells. sigma_space: of the distance, in coarse cells.
        sigma_colour: of the Euclidean difference in colour, in units of ``images``; the default is for [0, 1].

    Returns:
        ``float (b, c, *size)``, within the range of each map.

    Examples:
        >>> image = torch.zeros(1, 3, 4, 8)
        >>> image[..., 3:] = 1  # an edge within a cell
        >>> joint_bilateral_upsampling(torch.tensor([[[[0.0, 0, 1, 1]]]]), image, (4, 8))[0, 0, 0].round().tolist()
        [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    fine, coarse = (F.interpolate(images, s, mode="bilinear", antialias=True) for s in (size, maps.shape[2:]))
    sides = list(zip(size, maps.shape[2:], strict=True))
    where = [(torch.arange(n, device=maps.device) + 0.5) * m / n - 0.5 for n, m in sides]
    total, weight = maps.new_zeros(*maps.shape[:2], *size), maps.new_zeros(len(maps), 1, *size)
    shifts = range(-radius, radius + 1)
    for shift in ((dy, dx) for dy in shifts for dx in shifts):
        cells = [x.round().long() + d for x, d in zip(where, shift, strict=True)]
        near = [
            torch.exp(-((x - c) ** 2) / (2 * sigma_space**2)) * ((c >= 0) & (c < m))
            for x, c, (_, m) in zip(where, cells, sides, strict=True)
        ]
        ys, xs = (c.clamp(0, m - 1) for c, (_, m) in zip(cells, sides, strict=True))
        difference = (fine - coarse[:, :, ys][..., xs]).square().sum(1, keepdim=True)
        # With a small constant, a pixel unlike all cells gets their mean.
        own = (torch.exp(-difference / (2 * sigma_colour**2)) + 1e-4) * near[0][:, None] * near[1]
        total, weight = total + own * maps[:, :, ys][..., xs], weight + own
    return total / weight
