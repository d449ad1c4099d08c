"""Scores to masks, and their cleaning."""

import numpy as np
import pytest
import skimage.morphology

from seg.errors import SegError
from seg.methods.seeds import alpha_threshold, clean_mask, disk, threshold_scores

NAN = np.float32(np.nan)


def picture(*rows: str) -> np.ndarray:
    return np.asarray([[{".": 0, "#": 1, "?": 255}[c] for c in row] for row in rows], np.uint8)


def test_threshold_and_band() -> None:
    scores = np.asarray([0, 0.3, 0.4, 0.5, 0.6, 1, NAN], np.float32)
    assert threshold_scores(scores, 0.5, 0.5).tolist() == [0, 0, 0, 1, 1, 1, 255]
    assert threshold_scores(scores, 0.4, 0.6).tolist() == [0, 0, 255, 255, 1, 1, 255]
    assert threshold_scores(scores, 0.0, 0.0).tolist() == [1, 1, 1, 1, 1, 1, 255]
    assert threshold_scores(scores, 1.0, 1.0).tolist() == [0, 0, 0, 0, 0, 1, 255]


def test_largest_component() -> None:
    mask = picture("##..#", "##..#", "..#..", "?...#")  # corners do not connect
    clean_mask(mask, "largest_component")
    assert mask.tolist() == picture("##...", "##...", ".....", "?....").tolist()
    empty = picture("...", "?..")
    clean_mask(empty, "largest_component")
    assert empty.tolist() == picture("...", "?..").tolist()


def test_closing() -> None:
    mask = picture("##.##", "##.##", "##.##", "##.##", "##?##")
    clean_mask(mask, "closing", (1, 1))
    assert mask.tolist() == picture("#####", "#####", "#####", "#####", "##?##").tolist()
    alone = picture("#....", ".....", ".....", ".....", "....#")  # nothing is eroded at the rim
    before = alone.tolist()
    clean_mask(alone, "closing", (1, 1))
    assert alone.tolist() == before
    with pytest.raises(SegError, match=r"clean_up=opening: must be one of fill_holes, largest_component"):
        clean_mask(alone, "opening")


@pytest.mark.parametrize("radius", [1, 7])
def test_the_disk_is_skimages_and_an_ellipse_where_the_axes_differ(radius: int) -> None:
    np.testing.assert_array_equal(disk(radius, radius), skimage.morphology.disk(radius))
    ellipse = disk(radius, 3 * radius)
    assert ellipse.shape == (2 * radius + 1, 6 * radius + 1)
    np.testing.assert_array_equal(ellipse[radius], True)  # both half axes are reached
    np.testing.assert_array_equal(ellipse[:, 3 * radius], True)
    assert not ellipse[0, 0] and ellipse.sum() == pytest.approx(3 * np.pi * radius**2, rel=0.35)


def test_the_power_of_the_background_is_a_threshold() -> None:
    """Foreground is where its score is at least (1 - score) ** alpha."""
    scores = np.linspace(0, 1, 1001, dtype=np.float32)
    for alpha in (0.5, 1.0, 4.0, 32.0):
        root = alpha_threshold(alpha)
        np.testing.assert_array_equal(threshold_scores(scores, root, root), scores >= (1 - scores) ** alpha)
