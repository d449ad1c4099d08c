"""The walk against the dense matrix of the paper, which lives here and only here."""

import itertools

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from seg.errors import SegError
from seg.methods.walk import chebyshev_coefficients, pair_offsets, random_walk

OFFSETS = pair_offsets(5)


def dense_walk(
    affinity: Tensor, scores: Tensor, beta: float, steps: int, radius: float = 5, fixed: Tensor | None = None
) -> Tensor:
    """T^steps v in float64 by the matrix power, pair by pair from the definition."""
    offsets = pair_offsets(radius)
    batch, _, height, width = affinity.shape
    results = []
    for b in range(batch):
        matrix = torch.eye(height * width, dtype=torch.float64)
        for (p, (dy, dx)), y, x in itertools.product(enumerate(offsets), range(height), range(width)):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                i, j = y * width + x, (y + dy) * width + x + dx
                matrix[i, j] = matrix[j, i] = affinity[b, p, y, x].double() ** beta
        matrix /= matrix.sum(1, keepdim=True)
        if fixed is not None:
            matrix[fixed[b].flatten()] = torch.eye(len(matrix), dtype=torch.float64)[fixed[b].flatten()]
        transition = torch.linalg.matrix_power(matrix, steps)
        results.append(transition @ scores[b].double().flatten(1).T)
    return torch.stack(results).mT.reshape(scores.shape)


def random_case(height: int, width: int, batch: int = 2, channels: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height * 100 + width)
    affinity = torch.rand(batch, len(OFFSETS), height, width, generator=generator)
    return affinity, torch.rand(batch, channels, height, width, generator=generator)


def test_offsets_are_the_half_plane_inside_the_radius() -> None:
    assert len(OFFSETS) == 34  # the count of the authors' code at radius 5
    assert set(pair_offsets(1.5)) == {(0, 1), (1, -1), (1, 0), (1, 1)}
    both = OFFSETS + [(-y, -x) for y, x in OFFSETS]
    disc = {(y, x) for y in range(-9, 10) for x in range(-9, 10) if 0 < y * y + x * x < 25}
    assert len(both) == len(set(both))
    assert set(both) == disc


@pytest.mark.parametrize("steps", [0, 7, 256])
def test_polynomial_is_the_power(steps: int) -> None:
    x = np.linspace(-1, 1, 1001)
    coefficients = chebyshev_coefficients(steps, eps=1e-5)
    assert abs(chebyshev.chebval(x, coefficients) - x**steps).max() <= 2e-5
    assert sum(coefficients) == pytest.approx(1, abs=1e-12)
    assert len(coefficients) - 1 <= max(1, (2 * steps * np.log(2 / 1e-5)) ** 0.5)


@pytest.mark.parametrize(("height", "width"), [(9, 17), (1, 20), (1, 1)])
@pytest.mark.parametrize(("beta", "steps"), [(1.0, 3), (8.0, 256)])
def test_walk_is_the_dense_walk(height: int, width: int, beta: float, steps: int) -> None:
    affinity, scores = random_case(height, width)
    walked = random_walk(affinity, scores, offsets=OFFSETS, beta=beta, steps=steps)
    assert (walked - dense_walk(affinity, scores, beta, steps)).abs().max() <= 1e-4


@pytest.mark.parametrize("steps", [1, 30, 256])
def test_fixed_pixels_keep_their_score_and_pull_the_others(steps: int) -> None:
    affinity, scores = random_case(9, 17, batch=3)
    fixed = torch.zeros(3, 9, 17, dtype=torch.bool)
    fixed[0, 2, 3], fixed[0, 7, 12], fixed[2, :, 5] = True, True, True
    walked = random_walk(affinity, scores, offsets=OFFSETS, beta=2.0, steps=steps, fixed=fixed)
    assert (walked - dense_walk(affinity, scores, 2.0, steps, fixed=fixed)).abs().max() <= 1e-4
    kept = fixed[:, None].expand_as(scores)
    torch.testing.assert_close(walked[kept], scores[kept], atol=1e-5, rtol=0)


def test_constants_and_range_are_kept() -> None:
    affinity, scores = random_case(16, 16)
    scores[:, 0] = 0.3
    scores[:, 1] = scores[:, 1] * 7 - 3
    before = affinity.clone(), scores.clone()
    walked = random_walk(affinity, scores, offsets=OFFSETS)
    assert torch.equal(affinity, before[0]) and torch.equal(scores, before[1])  # the inputs stay as they are
    assert torch.equal(walked[:, 0], scores[:, 0])
    assert (walked.amax((2, 3)) <= scores.amax((2, 3))).all()
    assert (walked.amin((2, 3)) >= scores.amin((2, 3))).all()


def test_bad_input_is_refused() -> None:
    affinity, scores = random_case(8, 8)
    with pytest.raises(SegError, match="radius=1"):
        pair_offsets(1)
    with pytest.raises(SegError, match="one grid"):
        random_walk(affinity, scores[..., :4], offsets=OFFSETS)
    with pytest.raises(SegError, match="the walk needs beta > 0, steps >= 0 and 0 < eps < 1"):
        random_walk(affinity, scores, offsets=OFFSETS, beta=0)
