"""Prompts of a score map, and the choice among candidates."""

import numpy as np

from seg.methods.prompts import best_masks, score_prompts


def test_small_components_are_left_out_but_for_the_largest() -> None:
    scores = np.zeros((20, 20), np.float32)
    scores[2:8, 3:9], scores[12, 12:14] = 0.8, 0.9
    scores[15, 15] = np.nan
    boxes, points, components = score_prompts(scores, least=0.05)
    assert boxes.tolist() == [[3, 2, 8, 7]] and components[12, 12] == 0 and (components == 1).sum() == 36
    assert len(score_prompts(scores, least=0.005)[0]) == 2
    scores[2:8, 3:9] = 0
    assert score_prompts(scores, least=0.05)[0].tolist() == [[12, 12, 13, 12]]
    assert points.shape == (1, 3, 2)


def test_nothing_above_the_threshold_gives_no_prompt_and_an_empty_mask() -> None:
    for scores in (np.zeros((8, 8), np.float32), np.full((8, 8), np.nan, np.float32)):
        boxes, points, components = score_prompts(scores)
        assert boxes.shape == (0, 4) and points.shape == (0, 3, 2) and not components.any()
        assert not best_masks(np.zeros((0, 3, 8, 8), np.float32), scores, components).any()


def test_points_are_peaks_apart_and_inside() -> None:
    scores = np.full((30, 60), 0.6, np.float32)
    scores[5, 5], scores[6, 6], scores[20, 50] = 1, 0.95, 0.9
    _, points, _ = score_prompts(scores, points=2)
    assert points.tolist() == [[[5, 5], [50, 20]]]  # (6, 6) is of the same peak
    flat = np.zeros((31, 31), np.float32)
    flat[5:26, 5:26] = 1
    assert score_prompts(flat, points=1)[1].tolist() == [[[15, 15]]]  # the deepest, not a corner


def test_each_component_takes_its_own_candidate() -> None:
    scores = np.zeros((4, 8), np.float32)
    scores[:, :2], scores[:, 6:] = 0.9, 0.7
    left, right, everything = scores == np.float32(0.9), scores == np.float32(0.7), np.ones((4, 8), bool)
    candidates = np.float32([[everything, left, right], [right, everything, left]])
    components = score_prompts(scores)[2]
    np.testing.assert_array_equal(best_masks(candidates, scores, components), left | right)
