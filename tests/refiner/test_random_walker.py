"""The random walker: scikit-image's answer, and what that library refuses or divides by zero."""

import warnings

import numpy as np
import pytest
from skimage.segmentation import random_walker

from seg.data.prepared import Pool, PreparedData
from seg.refiner.by_image import RandomWalker
from seg.supervision.mask import TargetScores


@pytest.fixture
def stage(pool: Pool) -> RandomWalker:
    return RandomWalker(scores=TargetScores(pool=pool))


@pytest.fixture
def image(data: PreparedData) -> np.ndarray:
    return np.asarray(data.images[0])


@pytest.fixture(autouse=True)
def _no_warning_passes() -> None:
    warnings.simplefilter("error")


def scores(side: int = 64) -> np.ndarray:
    return np.linspace(0, 1, side, dtype=np.float32)[None].repeat(side, 0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
def test_it_is_the_librarys_answer_and_seeds_keep_their_side(
    stage: RandomWalker, image: np.ndarray, spacing: tuple[float, float]
) -> None:
    given = scores()
    given[5, 30:34] = np.nan  # between the seeds: nothing changes
    seeds = np.zeros(given.shape, int)
    seeds[given < 0.25], seeds[given >= 0.75] = 1, 2
    # Other labels and another solver.
    expected = random_walker(image, seeds, mode="bf", return_full_prob=True, spacing=spacing, channel_axis=-1)[1]
    answer = stage.refine(image, given, spacing)
    np.testing.assert_allclose(answer, expected, atol=0.02)
    assert (answer[seeds == 1] == 0).all() and (answer[seeds == 2] == 1).all()
    assert answer.min() >= 0 and answer.max() <= 1


@pytest.mark.parametrize("only", [0.5, 0.9])
def test_scores_stay_without_seeds_of_both_kinds(stage: RandomWalker, image: np.ndarray, only: float) -> None:
    given = np.full((64, 64), only, np.float32)
    given[0, 0] = np.nan
    np.testing.assert_array_equal(stage.refine(image, given, (1.0, 1.0)), given)
    plain = np.full((64, 64, 3), 7, np.uint8)  # of one colour
    np.testing.assert_array_equal(stage.refine(plain, scores(), (1.0, 1.0)), scores())
    sure = (scores() > 0.4).astype(np.float32)  # seeds alone
    np.testing.assert_array_equal(stage.refine(image, sure, (1.0, 1.0)), sure)
