"""The Gaussian on boxes, ranks within boxes, the box of a body."""

import numpy as np
import pytest

from seg.errors import SegError
from seg.methods.boxes import body_box, box_slices, gaussian_score, rank_in_boxes


def test_gaussian_is_the_formula() -> None:
    height, width, h, w = 60, 100, 12, 25
    xmin, ymin, xmax, ymax = 20, 10, 60, 40
    score = gaussian_score([(xmin, ymin, xmax, ymax)], (height, width), (h, w))
    sigma = (40 + 30) / 3.5
    for i in range(h):
        for j in range(w):
            x, y = (j + 0.5) * 4, (i + 0.5) * 5
            expected = np.exp(-((x - 40) ** 2 + (y - 25) ** 2) / (2 * sigma**2))
            assert score[i, j] == pytest.approx(expected, abs=1e-6)
    assert score.dtype == np.float32
    assert score.shape == (h, w)


def test_clip_keeps_a_box_smaller_than_a_cell() -> None:
    score = gaussian_score([(33, 41, 35, 43)], (100, 100), (10, 10), clip=True)
    assert np.argwhere(score > 0).tolist() == [[4, 3]]


def test_a_boxs_cells_on_any_grid() -> None:
    box = (0.31, 0.5, 0.33, 1.0)
    assert box_slices([box], (4, 10)) == [(slice(2, 4), slice(3, 4))]
    assert box_slices([box], (100, 100)) == [(slice(50, 100), slice(31, 33))]
    assert box_slices([(0.999, -0.2, 1.3, 0)], (7, 5)) == [(slice(0, 1), slice(4, 5))]  # never empty
    assert box_slices([], (3, 3)) == []


@pytest.mark.parametrize("fill", [0.3, 0.6, 1.0])
def test_every_box_has_foreground_however_low_its_scores(fill: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 0.01, (40, 60)).astype(np.float32)
    scores[:, 30:] += 0.5  # the other box
    boxes = [(0, 0.25, 0.4, 0.75), (0.6, 0, 1, 1)]
    ranked = rank_in_boxes(scores, boxes, fill)
    inside = np.zeros((40, 60), bool)
    for own in box_slices(boxes, scores.shape):
        inside[own] = True
        # Half of the result is the rank, so that this share has a rank of at least 0.5.
        share = float((2 * ranked[own] - scores[own] >= 0.5 - 1e-6).mean())
        assert share == pytest.approx(fill, abs=0.01)
        assert (np.argsort(ranked[own].ravel())[:20] == np.argsort(scores[own].ravel())[:20]).all()
    assert not ranked[~inside].any() and ranked.min() >= 0 and ranked.max() <= 1


def test_body_box() -> None:
    trimap = np.zeros((20, 30), np.uint8)
    trimap[5:10, 8:12] = 1
    assert body_box(trimap) == (8, 5, 12, 10)
    trimap[3, 20] = 2  # the tip of a tail is border only
    assert body_box(trimap) == (8, 3, 21, 10)
    trimap[15:] = 255
    assert body_box(trimap) == (8, 3, 21, 10)
    assert body_box(np.where(trimap == 255, trimap, 0)) is None
    assert body_box(np.ones((4, 6), np.uint8)) == (0, 0, 6, 4)


def test_no_boxes_and_bad_ones() -> None:
    assert not gaussian_score([], (10, 10), (3, 4)).any()
    for boxes in ([(5, 5, 5, 9)], [(1, 2, 3)], [(5, 5, float("nan"), 9)]):
        with pytest.raises(SegError):
            gaussian_score(boxes, (10, 10), (5, 5))
    with pytest.raises(SegError, match="must be positive"):
        gaussian_score([(1, 1, 2, 2)], (10, 10), (5, 5), scale=-1.0)
