"""Labelled pixels: what they say of the rest of their image, and how they are drawn from ground truth."""

import numpy as np
import pytest

from seg.methods.pixels import condition_scores, nearest_scores, paint_scores, pixel_grid, simulated_points
from seg.methods.pixels import simulated_scribbles as scribbles

RNG = np.random.default_rng


def disk(side: int = 64, radius: float = 16) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    return (np.hypot(y, x) < radius).astype(np.uint8)


@pytest.mark.parametrize("side", [7, 333])
def test_a_pixel_is_found_again_at_its_own_size(side: int) -> None:
    pixels = np.stack([np.arange(side)] * 2, 1)
    grid = pixel_grid((pixels + 0.5) / side, np.ones(side, np.uint8), (side, side))
    np.testing.assert_array_equal(grid == 1, np.eye(side, dtype=bool))


def test_one_half_is_as_near_to_one_class_as_to_the_next() -> None:
    grid = np.full((9, 9), 255, np.uint8)
    grid[4, 0], grid[4, 8], grid[0, 4] = 1, 2, 0
    one, two = nearest_scores(grid, [1, 2], (1, 1), 3.0)
    assert one[4, 0] > 0.9 and two[4, 0] < 0.1 and one[0, 4] < 0.1
    np.testing.assert_allclose(one[4, 4], 0.5, atol=1e-6)  # as far from all three
    np.testing.assert_allclose(one, two[:, ::-1], atol=1e-6)
    squashed = nearest_scores(grid, [1], (3, 1), 3.0)[0]  # the background is three times as far
    assert squashed[4, 4] == pytest.approx(0.5, abs=1e-6) and squashed[2, 3] > one[2, 3]


def test_the_correction_is_the_mean_of_a_gaussian_process() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    features, scores = RNG(0).normal(size=(6, 5, 5)), RNG(1).random((2, 5, 5)).astype(np.float32)
    grid = np.full((5, 5), 255, np.uint8)
    grid[0, 0], grid[2, 3], grid[4, 4] = 1, 0, 2
    cells = features.reshape(6, -1).T
    cells = (cells - cells.mean(0)) / cells.std(0)
    cells /= np.linalg.norm(cells, axis=1, keepdims=True)  # |a - b|^2 / 2 is 1 - cos(a, b)
    at = np.flatnonzero(grid.ravel() != 255)
    known = scores.reshape(2, -1)
    labels = (grid.ravel()[at] == [[1], [2]]) - known[:, at]
    process = GaussianProcessRegressor(RBF(np.sqrt(0.7)), alpha=0.2, optimizer=None).fit(cells[at], labels.T)
    expected = (known + process.predict(cells).T).clip(0, 1).reshape(scores.shape)
    found = condition_scores(scores, features.astype(np.float32), grid, [1, 2], reach=0.7, noise=0.2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_a_label_nothing_changes() -> None:
    scores, nothing = RNG(0).random((2, 4, 4)).astype(np.float32), np.full((4, 4), 255, np.uint8)
    np.testing.assert_array_equal(condition_scores(scores, np.ones((3, 4, 4), np.float32), nothing, [1, 2]), scores)
    np.testing.assert_array_equal(paint_scores(scores, [1, 2], nothing), scores)


def test_points_are_well_inside_and_drawn_by_the_generator() -> None:
    target = disk() * 2
    target[target != np.roll(target, 1, 1)] = 254
    drawn = [simulated_points(target, RNG(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    (y, x, background), (cy, cx, code) = drawn[0]
    assert (background, code) == (0, 2) and target[y, x] == 0
    assert np.hypot(cy - 31.5, cx - 31.5) <= 0.35 * 16  # at least 0.7 of the radius from the edge
    assert simulated_points(np.full((4, 4), 255, np.uint8), RNG(0)) == []


def test_a_scribble_is_one_thin_line_inside() -> None:
    from skimage.measure import label

    target = np.zeros((60, 90), np.uint8)
    target[20:40, 10:80], target[22, 82] = 1, 1  # and a speck
    drawn = scribbles(target)
    assert ((drawn == 255) | (drawn == target)).all() and drawn[22, 82] == 255
    ys, xs = np.nonzero(drawn == 1)
    assert label(drawn == 1).max() == 1 and np.ptp(xs) > 30 and ys.min() >= 23 and ys.max() < 37
    assert len(ys) < 0.1 * (target == 1).sum()
