"""PAMR: the paper's affinities, what it leaves alone, and what it snaps to."""

import itertools

import numpy as np
import pytest
import torch

from seg.methods.pamr import affinities, neighbours, pamr

DILATIONS = (1, 3)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def test_affinities_are_the_papers(images: torch.Tensor) -> None:
    share = affinities(images, DILATIONS)
    assert share.shape == (2, 16, 12, 10)
    torch.testing.assert_close(share.sum(1), torch.ones(2, 12, 10))
    # Of one pixel at the rim, by hand: its neighbours beyond it are the rim's pixels.
    around = [(dy, dx) for dy, dx in itertools.product((-1, 0, 1), repeat=2) if (dy, dx) != (0, 0)]
    image, y, x = images[1].double().numpy(), 2, 9
    near = np.stack([image[:, max(y + d * dy, 0), min(x + d * dx, 9)] for d in DILATIONS for dy, dx in around])
    spread = np.concatenate([near, image[None, :, y, x], image[None, :, y, x]]).std(0, ddof=1)
    logits = -(np.abs(near - image[:, y, x]) / (0.1 * spread)).mean(1)
    np.testing.assert_allclose(share[1, :, y, x], np.exp(logits) / np.exp(logits).sum(), atol=1e-5)


def test_a_constant_map_is_left_alone_and_no_map_leaves_its_range(images: torch.Tensor) -> None:
    constant = torch.full((2, 1, 12, 10), 0.3)
    torch.testing.assert_close(pamr(images, constant, DILATIONS, 10), constant)
    maps = torch.rand(2, 1, 12, 10, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.2
    refined = pamr(images, maps, DILATIONS, 3)
    assert maps.min() <= refined.min() and refined.max() <= maps.max()
    assert refined.std() < maps.std()
    # One colour alone tells no neighbour from another: their mean, and nothing divided by 0.
    flat = pamr(torch.ones(1, 3, 12, 10), maps[:1], DILATIONS, 1)
    torch.testing.assert_close(flat, sum(neighbours(maps[:1], DILATIONS)) / 16)
