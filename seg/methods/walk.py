"""A random walk on the pixel grid without the n x n transition matrix.

The walk of Ahn and Kwak (CVPR 2018, eq. 7 and 8): ``T = D^-1 A^beta``, ``out = T^t v``. ``A`` couples a
pixel only with those inside a radius, so it is stored as one map per offset (a stencil), each undirected
pair once. ``T`` is similar to the symmetric ``S = D^-1/2 A^beta D^-1/2``, whose eigenvalues lie in [-1, 1],
and ``x^t`` is on [-1, 1] a Chebyshev polynomial of degree about ``sqrt(2 t ln(2 / eps))`` up to ``eps``
(Sachdeva and Vishnoi, Faster Algorithms via Approximation Theory, 2014, theorem 3.3): 256 steps cost
71 products instead of 256.
"""

import math

import numpy as np
import torch
from torch import Tensor

from seg.errors import SegError

# Pixels per call of the stencil on a CPU: few enough that their coefficients (34 floats a pixel at radius 5) stay in
# the cache, and enough to share the cost of a call among several images.
_CPU_CHUNK = 16_384


Offsets = list[tuple[int, int]]


def pair_offsets(radius: float) -> Offsets:
    """Offsets ``(dy, dx)`` of the neighbours closer than ``radius`` (strictly, as in eq. 3 of the paper).

    Each undirected pair appears once: ``dy > 0``, or ``dy == 0 and dx > 0``. 34 offsets for radius 5.

    Raises:
        SegError: no neighbour is that close.

    Examples:
        >>> pair_offsets(1.5)
        [(0, 1), (1, -1), (1, 0), (1, 1)]
    """
    reach = range(-math.ceil(radius), math.ceil(radius) + 1)
    offsets = [(y, x) for y in reach for x in reach if (y, x) > (0, 0) and y * y + x * x < radius * radius]
    if not offsets:
        raise SegError(f"radius={radius} leaves a pixel without neighbours; it must be above 1")
    return offsets


def chebyshev_coefficients(steps: int, eps: float = 1e-5) -> list[float]:
    """``c`` with ``x**steps = sum_k c[k] T_k(x)`` up to ``eps`` for x in [-1, 1].

    ``c[k]`` is the probability that ``steps`` fair +-1 steps end at distance k from 0, so all are >= 0. The tail
    beyond ``eps`` is cut off and the rest scaled to sum 1, so that ``x = 1`` (a constant map) is exact.
    """
    from scipy.special import gammaln

    distance = np.arange(steps % 2, steps + 1, 2)
    ups = (steps + distance) // 2
    log_chance = gammaln(steps + 1) - gammaln(ups + 1) - gammaln(steps - ups + 1) + steps * math.log(0.5)
    chance = np.where(distance, 2, 1) * np.exp(log_chance)
    kept = int(np.searchsorted(chance.cumsum(), 1 - eps)) + 1
    distance, chance = distance[:kept], chance[:kept]
    coefficients = np.zeros(distance[-1] + 1)
    coefficients[distance] = chance / chance.sum()
    return coefficients.tolist()


def random_walk(
    affinity: Tensor,
    scores: Tensor,
    *,
    offsets: Offsets,
    beta: float = 8.0,
    steps: int = 256,
    eps: float = 1e-5,
    fixed: Tensor | None = None,
) -> Tensor:
    """``T^steps @ scores`` with ``T = D^-1 (A^beta + I)``, for a batch of images on any device.

    Args:
        affinity: float (B, P, h, w) in [0, 1]; ``[b, p, y, x]`` is between ``(y, x)`` and
            ``(y, x) + offsets[p]``. Values whose partner lies outside the grid are ignored.
        scores: float (B, C, h, w), any range; channels are independent.
        offsets: the P offsets of ``pair_offsets``.
        beta: power of the affinity; above 1 it weakens low affinities more than high ones.
        steps: number of steps of the walk, >= 0.
        eps: allowed error of the polynomial, relative to the largest score.
        fixed: bool (B, h, w), pixels that keep their score, whose rows of T are the identity's; None for none.

    Returns:
        float32 (B, C, h, w) within the minimum and maximum of each input channel. A pixel without any
        affinity keeps its score; a constant channel stays as it is.

    Raises:
        SegError: shapes that do not fit, or ``beta <= 0``, ``steps < 0``, ``eps`` outside (0, 1).

    Examples:
        >>> offsets = pair_offsets(1.5)
        >>> affinity = torch.ones(1, len(offsets), 1, 5)
        >>> affinity[..., 2] = 0  # an edge after the third pixel
        >>> scores = torch.tensor([[[[1.0, 0, 0, 0, 0]]]])
        >>> random_walk(affinity, scores, offsets=offsets).gt(0.1).int().tolist()
        [[[[1, 1, 1, 0, 0]]]]
    """
    batch, pairs, height, width = affinity.shape
    if pairs != len(offsets) or scores.shape[:1] + scores.shape[2:] != (batch, height, width):
        raise SegError(
            f"the walk got affinities {tuple(affinity.shape)} for {len(offsets)} offsets and scores "
            f"{tuple(scores.shape)}; they must be (B, P, h, w) and (B, C, h, w) of one grid"
        )
    if beta <= 0 or steps < 0 or not 0 < eps < 1:
        raise SegError(f"the walk needs beta > 0, steps >= 0 and 0 < eps < 1, got {beta}, {steps} and {eps}")
    coefficients = chebyshev_coefficients(steps, eps)
    at_once = batch if affinity.is_cuda else max(1, _CPU_CHUNK // (height * width))
    return torch.cat(
        [
            _walk_chunk(a, s, offsets, beta, coefficients, None if fixed is None else fixed[i * at_once :][: len(a)])
            for i, (a, s) in enumerate(zip(affinity.split(at_once), scores.split(at_once), strict=True))
        ]
    )


@torch.no_grad()
def _walk_chunk(
    affinity: Tensor, scores: Tensor, offsets: Offsets, beta: float, coefficients: list[float], fixed: Tensor | None
) -> Tensor:
    batch, channels, height, width = scores.shape
    # All images of the chunk are one long row of pixels, so an offset is a shift along that row. Shifts that would wrap
    # into the next row or image have coupling 0.
    shifts: list[tuple[int, Tensor]] = []
    degree = affinity.new_zeros(batch * height * width, dtype=torch.float32)  # without the self-loop
    for p, (dy, dx) in enumerate(offsets):
        if dy >= height or abs(dx) >= width:
            continue  # no pair on this grid; and dy * width + dx might not be positive
        coupling = torch.zeros_like(degree).view(batch, height, width)
        rows, cols = slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
        coupling[:, rows, cols] = affinity[:, p, rows, cols].float().clamp(0, 1).pow(beta)
        shift = dy * width + dx
        flat = coupling.view(-1)[:-shift]
        degree[:-shift] += flat
        degree[shift:] += flat
        shifts.append((shift, flat))
    root = (1 + degree).rsqrt()
    diagonal = -2 * degree / (1 + degree)
    for shift, flat in shifts:
        flat.mul_(root[:-shift]).mul_(root[shift:]).mul_(2)

    value = scores.float().permute(1, 0, 2, 3).reshape(channels, -1) / root
    total = coefficients[0] * value
    # T_{k+1} = 2 S T_k - T_{k-1}, written for the differences T_{k+1} - T_k: near the eigenvalue 1 the usual
    # form multiplies rounding by k^2 (the modification that Reinsch made to Clenshaw's sum).
    change = torch.zeros_like(value)
    # Slicing costs as much as the product itself, so it is done once.
    plan = [(change[:, :-shift], flat, value[:, shift:]) for shift, flat in shifts]
    plan += [(change[:, shift:], flat, value[:, :-shift]) for shift, flat in shifts]
    for k, coefficient in enumerate(coefficients[1:], start=1):
        change.addcmul_(diagonal, value)
        for target, coupling, source in plan:
            target.addcmul_(coupling, source)
        if fixed is not None:
            change.masked_fill_(fixed.flatten(), 0)
        if k == 1:
            change.mul_(0.5)  # T_1 = S
        value.add_(change)
        if coefficient:
            total.add_(value, alpha=coefficient)
    total.mul_(root)
    result = total.view(channels, batch, height, width).permute(1, 0, 2, 3)
    # An average stays within the range; remove what rounding and eps add.
    return result.clamp(scores.float().amin((2, 3), True), scores.float().amax((2, 3), True)).contiguous()
