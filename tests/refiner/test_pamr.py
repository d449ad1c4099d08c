"""PAMR: the paper's affinities, what it leaves alone, and what it snaps to."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from seg.data.prepared import Pool
from seg.errors import SegError
from seg.masks import Threshold
from seg.methods.pamr import affinities, neighbours, pamr
from seg.nets.augment import normalise
from seg.refiner.by_image import Superpixels
from seg.refiner.pamr import PAMR
from seg.store import Store
from seg.supervision.mask import TruthScores

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


def test_the_maps_edge_snaps_to_the_images() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[..., 16:] = 1  # the edge
    image += 0.02 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    maps = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).clone()
    maps[..., :20] = 0  # four pixels too far to the right
    maps[..., 20:] = 1
    refined = pamr(image, maps, (1, 2, 4, 8), 10)[0, 0]
    assert (refined[:, 16:] > 0.5).all() and (refined[:, :16] < 0.5).all()


def test_the_stage_is_the_function_and_takes_any_scores(store: Store, pool: Pool) -> None:
    truth = TruthScores(pool=pool)  # its border is unknown
    before = Superpixels(scores=truth, segments=30)
    stage = PAMR(scores=before, dilations=DILATIONS, iterations=2)
    refined, scores = store.get(stage), store.get(before)
    assert refined.rows.tolist() == scores.rows.tolist() and refined.values.shape == (22, 64, 64)
    start = torch.from_numpy(np.nan_to_num(scores.argmax(np.asarray([7]))[0], nan=0.5))[:, None]
    expected = pamr(normalise(torch.from_numpy(refined.data.images[refined.rows[[7]]])), start, DILATIONS, 2)
    np.testing.assert_allclose(refined.argmax(np.asarray([7]))[0], expected[:, 0], atol=1e-3)
    masks = store.get(Threshold(scores=stage, threshold=0.5)).at(np.arange(2))
    assert set(np.unique(masks)) == {0, 1}


def test_unknown_scores_start_undecided(store: Store, pool: Pool, tmp_path: Path) -> None:
    truth = TruthScores(pool=pool)
    assert np.isnan(store.get(truth).argmax(np.arange(22))[0]).any()
    PAMR(scores=truth, dilations=(1,), iterations=1).build(tmp_path, store)
    assert not np.isnan(np.load(tmp_path / "scores.npy")).any()


@pytest.mark.parametrize("dilations", [[], [0, 1]])
def test_distances_that_are_none_are_refused(pool: Pool, dilations: list[int]) -> None:
    with pytest.raises(SegError, match=r"PAMR.dilations=\[.*\]: give distances from 1 on"):
        PAMR(scores=TruthScores(pool=pool), dilations=dilations)
