"""GrabCut: OpenCV's answer, whatever the thread; what it cannot begin with."""

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest

from seg.data.prepared import Pool, PreparedData
from seg.errors import SegError
from seg.methods.refine import grabcut
from seg.refiner.by_image import GrabCut
from seg.store import Store
from seg.supervision.mask import TargetScores

WITHOUT = importlib.util.find_spec("cv2") is None
needs_opencv = pytest.mark.skipif(WITHOUT, reason="OpenCV is not installed (the extra grabcut)")
SQUARE = (1.0, 1.0)


@pytest.fixture
def stage(pool: Pool) -> GrabCut:
    return GrabCut(scores=TargetScores(pool=pool), background_below=0.05, foreground_from=0.95)


def disk(side: int = 64, radius: float = 16) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    return np.hypot(y, x) < radius


def picture(seed: int = 0) -> np.ndarray:
    """A bright disk on dark noise."""
    noise = np.random.default_rng(seed).integers(0, 60, (64, 64, 3))
    return (noise + 150 * disk()[..., None]).astype(np.uint8)


@needs_opencv
def test_it_is_the_librarys_answer(data: PreparedData) -> None:
    import cv2

    rng = np.random.default_rng(0)
    image, scores = np.ascontiguousarray(data.images[0]), rng.random((64, 64)).astype(np.float32)
    scores[:4] = np.nan
    mask = np.full(scores.shape, cv2.GC_PR_FGD, np.uint8)  # the unknown too
    mask[scores < 0.5] = cv2.GC_PR_BGD
    mask[scores < 0.05], mask[scores >= 0.95] = cv2.GC_BGD, cv2.GC_FGD
    cv2.setRNGSeed(0)
    expected = cv2.grabCut(image, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)[0]
    answer = grabcut(image, scores, 0.5, 0.05, 0.95)
    np.testing.assert_array_equal(answer, np.isin(expected, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    assert not answer[scores < 0.05].any() and answer[scores >= 0.95].all()


@needs_opencv
def test_the_score_says_what_the_cut_says_and_where_it_moved_a_pixel(stage: GrabCut) -> None:
    rough = np.where(np.roll(disk(radius=12), 5, 1), 0.8, 0.2).astype(np.float32)
    rough[0, 0] = np.nan
    refined = stage.refine(picture(), rough, SQUARE)
    np.testing.assert_array_equal(refined >= 0.5, disk())
    moved = disk() != (rough >= 0.5)
    assert moved.sum() > 100 and np.ptp(refined[moved & disk()]) == 0
    np.testing.assert_allclose(refined[moved & disk()], 0.6, atol=1e-6)
    np.testing.assert_allclose(refined[~moved & disk()], 0.9, atol=1e-6)
    np.testing.assert_allclose(refined[~moved & ~disk() & ~np.isnan(rough)], 0.1, atol=1e-6)
    assert refined[0, 0] == 0


@needs_opencv
def test_outside_of_a_box_is_surely_background(stage: GrabCut, pool: Pool) -> None:
    """The paper's rectangle: a second disk of the same colours outside of it stays out."""
    image = np.concatenate([picture(), picture(1)], 1)[:, :96]
    image = np.concatenate([image, image[:32]], 0)[:96]
    score = np.zeros((96, 96), np.float32)
    score[8:56, 8:56] = np.where(disk(48, 10), 0.6, 0.01)
    inside = GrabCut(scores=TargetScores(pool=pool), background_below=0.0)
    answer = inside.refine(image, score, SQUARE)
    assert (answer[24:40, 24:40] >= 0.5).all() and not answer[score == 0].any()


@needs_opencv
@pytest.mark.parametrize(("only", "answer"), [(0.7, 1), (0.0, 0), (np.nan, np.nan)])
def test_one_side_alone_is_the_answer(only: float, answer: float) -> None:
    refined = grabcut(picture(), np.full((64, 64), only, np.float32))
    np.testing.assert_array_equal(refined, np.full((64, 64), answer))


def test_without_opencv_nothing_is_begun(stage: GrabCut, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    found: Callable[..., object] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "cv2" else found(name, *rest))
    with pytest.raises(SegError, match=r"refiner=grabcut: needs OpenCV, .* pip install 'weakseg\[grabcut\]'"):
        stage.check(store)
