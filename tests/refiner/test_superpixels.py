"""Superpixel voting: scikit-image's superpixels, each with its own mean."""

import numpy as np
from skimage.segmentation import slic

from seg.data.prepared import Pool
from seg.methods.refine import superpixel_means
from seg.refiner.by_image import Superpixels
from seg.store import Store
from seg.supervision.mask import TargetScores


def test_the_map_is_constant_on_the_librarys_superpixels(store: Store, pool: Pool) -> None:
    target = TargetScores(pool=pool)
    stage = Superpixels(scores=target, segments=40, compactness=5, sigma=0.5)
    refined, before = store.get(stage), store.get(target)
    rng = np.random.default_rng(0)
    scores = rng.random((64, 64)).astype(np.float32)
    image = refined.data.images[refined.rows[3]]
    of = slic(image, 40, 5, sigma=0.5, start_label=0, channel_axis=-1)
    answer = stage.refine(image, scores, (1.0, 1.0))
    assert 20 < of.max() < 60
    for number in range(of.max() + 1):
        assert np.ptp(answer[of == number]) == 0
        np.testing.assert_allclose(answer[of == number][0], scores[of == number].mean(), atol=1e-5)
    # As a stage, over the ground truth, whose border is unknown.
    known, (height, width) = before.argmax(np.asarray([3]))[0][0], refined.data.sizes[refined.rows[3]]
    assert height != width
    squash = float(np.sqrt(height / width))
    expected = stage.refine(image, known, (squash, 1 / squash))
    np.testing.assert_allclose(refined.argmax(np.asarray([3]))[0][0], expected, atol=1e-3)


def test_unknown_pixels_do_not_vote() -> None:
    of = np.asarray([[0, 0, 1], [0, 2, 2]])
    scores = np.asarray([[0.2, np.nan, np.nan], [0.6, 0.0, 1.0]], np.float32)
    expected = np.asarray([[0.4, 0.4, np.nan], [0.4, 0.5, 0.5]])
    np.testing.assert_allclose(superpixel_means(scores, of), expected, atol=1e-6)
