"""Scores to masks."""

import numpy as np
import pytest
from score_maps import one_map_each

from seg.errors import SegError
from seg.masks import MaskSet, Threshold
from seg.supervision.bbox import BoxScores
from seg.supervision.mask import TargetScores


def test_the_closings_radius_is_in_working_pixels_at_every_size(data):
    """Two bars with a gap of 4 of 64 pixels: closed by a radius of 2, and not by one of 1, at whatever size."""
    across = np.zeros((1, 64, 64), np.float16)
    across[0, :, :30] = across[0, :, 34:] = 1
    down = across.transpose(0, 2, 1).copy()
    for values in (across, down):
        for size in (None, (64, 64), (128, 128), (64, 256), (192, 96)):
            for radius, closed in ((1, 0), (2, 1)):
                mask = masks_of(data, values, clean_up=("closing",), radius=radius).at(np.asarray([0]), size)[0]
                assert mask[len(mask) // 2, mask.shape[1] // 2] == closed, (size, radius)


def masks_of(data, values, **changed):
    scores = one_map_each(data, np.arange(len(values)), values)
    return MaskSet(scores, **{"low": 0.5, "high": 0.5} | changed)


def test_operations_run_in_order(data):
    values = np.zeros((1, 64, 64), np.float16)
    values[0, 10:20, 10:20] = 1
    values[0, 13:17, 13:17] = 0  # a hole
    values[0, 40, 40] = 1  # a crumb
    masks = masks_of(data, values, clean_up=("fill_holes", "largest_component"))
    made = masks.at(np.asarray([0]))[0]
    assert (made[10:20, 10:20] == 1).all() and made.sum() == 100


def test_the_stage(store, pool):
    scores = BoxScores(pool=pool, resolution=16)
    masks = store.get(Threshold(scores=scores, threshold=0.9, band=0.2))
    assert (masks.low, masks.high) == (pytest.approx(0.7), 1.0)  # the band ends with the range
    assert masks.scores is store.get(scores) and (masks.clean_up, masks.radius) == ((), 3)
    confident = store.get(Threshold(scores=scores, background_below=0.2, foreground_from=0.7))
    assert (confident.low, confident.high) == (0.2, 0.7)
    assert Threshold(scores=scores, threshold=1).key == Threshold(scores=scores, threshold=1.0).key
    assert Threshold(scores=scores, threshold=0.3).key != Threshold(scores=scores, threshold=0.4).key


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": 1.5}, r"Threshold\.threshold=1.5: must lie in \[0, 1\]"),
        ({"threshold": 0.5, "clean_up": ["opening"]}, "must be one of fill_holes, largest_component, closing"),
        ({"threshold": 0.5, "clean_up": "closing"}, "must be a list"),
        ({}, "^Threshold: give threshold"),
        ({"background_below": 0.7, "foreground_from": 0.2}, r"^Threshold\.background_below=0\.7: must not lie above"),
    ],
)
def test_refusals(pool, wrong, message):
    with pytest.raises(SegError, match=message):
        Threshold(scores=BoxScores(pool=pool), **wrong)


def test_the_power_of_the_background_is_a_threshold(pool):
    masks = Threshold(scores=TargetScores(pool=pool), alpha=4.0, band=0.1)
    assert masks.bounds == pytest.approx((0.1755, 0.3755), abs=1e-4) and masks.threshold_text == "0.375508"
    with pytest.raises(SegError, match=r"give threshold \(and band\), or alpha"):
        Threshold(scores=TargetScores(pool=pool), threshold=0.5, alpha=4.0)
