"""GrabCut, random walker and superpixels against their libraries; what all refiners of single images share."""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.segmentation
from score_maps import one_map_each

from seg.data.prepared import Pool, PreparedData
from seg.errors import SegError
from seg.methods.refine import grabcut, random_walker, superpixel_means
from seg.refiner.by_image import ByImage, GrabCut, RandomWalker, Superpixels
from seg.store import Runtime, Store
from seg.supervision.mask import TargetScores

needs_opencv = pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed")
RAMP = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(64, 0)


@pytest.fixture
def image(data: PreparedData) -> np.ndarray:
    return np.array(data.images[0])


def disk(side: int = 64, radius: float = 16) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    return np.hypot(y, x) < radius


def picture(seed: int = 0) -> np.ndarray:
    """A bright disk on dark noise."""
    noise = np.random.default_rng(seed).integers(0, 60, (64, 64, 3))
    return (noise + 150 * disk()[..., None]).astype(np.uint8)


# -- GrabCut -------------------------------------------------------------------------------------------


@needs_opencv
def test_grabcut_is_opencvs(image: np.ndarray) -> None:
    import cv2

    scores = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    scores[:4] = np.nan
    mask = np.full(scores.shape, cv2.GC_PR_FGD, np.uint8)  # unknown pixels too
    mask[scores < 0.5] = cv2.GC_PR_BGD
    mask[scores < 0.05], mask[scores >= 0.95] = cv2.GC_BGD, cv2.GC_FGD
    cv2.setRNGSeed(0)
    expected = cv2.grabCut(image, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)[0]
    answer = grabcut(image, scores, 0.5, 0.05, 0.95)
    np.testing.assert_array_equal(answer, np.isin(expected, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    assert not answer[scores < 0.05].any() and answer[scores >= 0.95].all()


@needs_opencv
def test_the_refined_score_is_the_mean_of_cut_and_score(pool: Pool) -> None:
    stage = GrabCut(scores=TargetScores(pool=pool), background_below=0.05, foreground_from=0.95)
    rough = np.where(np.roll(disk(radius=12), 5, 1), 0.8, 0.2).astype(np.float32)
    rough[0, 0] = np.nan
    expected = (disk() + np.nan_to_num(rough, nan=0.0)) / 2
    assert ((rough >= 0.5) != disk()).sum() > 100  # the cut moves the outline
    np.testing.assert_allclose(stage.refine(picture(), rough, (1.0, 1.0)), expected, atol=1e-6)


@needs_opencv
def test_grabcut_keeps_a_score_of_zero_as_background() -> None:
    """Outside of a box: a second disk of the same colours is not foreground."""
    image, score = np.concatenate([picture(), picture(1)], 1), np.zeros((64, 128), np.float32)
    score[8:56, 8:56] = np.where(disk(48, 10), 0.6, 0.01)
    answer = grabcut(image, score, background_below=0.0)
    assert answer[24:40, 24:40].all() and not answer[score == 0].any()


@needs_opencv
@pytest.mark.parametrize(("only", "answer"), [(0.7, 1), (0.0, 0), (np.nan, np.nan)])
def test_grabcut_with_one_side_alone(only: float, answer: float) -> None:
    np.testing.assert_array_equal(grabcut(picture(), np.full((64, 64), only, np.float32)), np.full((64, 64), answer))


# -- random walker -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
def test_the_random_walker_is_scikit_images(image: np.ndarray, spacing: tuple[float, float]) -> None:
    scores = RAMP.copy()
    scores[5, 30:34] = np.nan  # between the seeds
    seeds = np.zeros(scores.shape, int)
    seeds[scores < 0.25], seeds[scores >= 0.75] = 1, 2
    library = skimage.segmentation.random_walker  # with another solver
    expected = library(image, seeds, mode="bf", return_full_prob=True, spacing=spacing, channel_axis=-1)[1]
    answer = random_walker(image, scores, spacing=spacing)
    np.testing.assert_allclose(answer, expected, atol=0.02)
    assert (
        (answer[seeds == 1] == 0).all() and (answer[seeds == 2] == 1).all() and 0 <= answer.min() <= answer.max() <= 1
    )


def test_the_random_walker_where_the_library_fails(image: np.ndarray) -> None:
    warnings.simplefilter("error")
    for only in (0.5, 0.9):  # seeds of no kind, of one
        scores = np.full((64, 64), only, np.float32)
        scores[0, 0] = np.nan
        np.testing.assert_array_equal(random_walker(image, scores), scores)
    np.testing.assert_array_equal(random_walker(np.full_like(image, 7), RAMP), RAMP)  # one colour
    seeds_alone = (RAMP > 0.4).astype(np.float32)
    np.testing.assert_array_equal(random_walker(image, seeds_alone), seeds_alone)


# -- superpixels ---------------------------------------------------------------------------------------


def test_superpixel_means_ignore_unknown_pixels() -> None:
    of = np.asarray([[0, 0, 1], [0, 2, 2]])
    scores = np.asarray([[0.2, np.nan, np.nan], [0.6, 0.0, 1.0]], np.float32)
    np.testing.assert_allclose(superpixel_means(scores, of), [[0.4, 0.4, np.nan], [0.4, 0.5, 0.5]], atol=1e-6)


def test_superpixels_are_scikit_images_on_the_squashed_image(store: Store, pool: Pool) -> None:
    target = TargetScores(pool=pool)  # its border is unknown
    refined = store.get(Superpixels(scores=target, segments=40, compactness=5, sigma=0.5))
    row = refined.rows[3]
    height, width = refined.data.sizes[row]
    squash = float(np.sqrt(height / width))
    assert height != width
    options = {"compactness": 5, "sigma": 0.5, "start_label": 0, "spacing": (squash, 1 / squash), "channel_axis": -1}
    of = skimage.segmentation.slic(refined.data.images[row], 40, **options)
    expected = superpixel_means(store.get(target).argmax(np.asarray([3]))[0][0], of)
    np.testing.assert_allclose(refined.argmax(np.asarray([3]))[0][0], expected, atol=1e-3)


# -- all of them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Superpixels, RandomWalker, pytest.param(GrabCut, marks=needs_opencv)])
def test_the_number_of_threads_changes_nothing(
    store: Store, runtime: Runtime, pool: Pool, tmp_path: Path, kind: type[ByImage]
) -> None:
    stage, answers = kind(scores=TargetScores(pool=pool)), []
    for workers in (1, 4):
        (out := tmp_path / str(workers)).mkdir()
        stage.build(out, Store(store.root, replace(runtime, workers=workers)))
        answers.append((out / "scores.npy").read_bytes())
    assert answers[0] == answers[1]


def test_an_image_of_100_x_400_has_pixels_four_times_as_wide_as_high(data: PreparedData, store: Store) -> None:
    sizes = data.sizes.copy()
    sizes[0], sizes[1] = (100, 400), (300, 300)
    maps = np.zeros((2, 8, 8), np.float16)
    scores = one_map_each(replace(data, sizes=sizes), np.asarray([0, 1]), maps)
    seen: list[tuple[float, float]] = []

    class Spy(ByImage):
        def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
            seen.append(spacing)
            return scores

    assert len(list(Spy.__new__(Spy)._refined(scores, store))) == 2
    assert seen == [(0.5, 2.0), (1.0, 1.0)]


def test_bad_options_and_a_missing_package(pool: Pool, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    target = TargetScores(pool=pool)
    with pytest.raises(SegError, match=r"RandomWalker.background_below=0.8: must not lie above foreground_from=0.75"):
        RandomWalker(scores=target, background_below=0.8)
    found: Callable[..., object] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "cv2" else found(name, *rest))
    with pytest.raises(SegError, match=r"refiner=grabcut: needs OpenCV, .* pip install 'weakseg\[grabcut\]'"):
        GrabCut(scores=target).check(store)
