"""The truth as supervision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seg.data.image_folder import ImageFolder
from seg.data.prepared import Pool, Prepared, PreparedData
from seg.data.sources import OxfordPet
from seg.errors import SegError
from seg.masks import Threshold
from seg.store import Store
from seg.supervision.mask import TruthScores


@pytest.mark.parametrize(("border", "score"), [("ignore", np.nan), ("foreground", 1), ("background", 0)])
def test_the_truth_is_the_score(store: Store, data: PreparedData, pool: Pool, border: str, score: float) -> None:
    scores = store.get(TruthScores(pool=pool, border=border))  # type: ignore[arg-type]
    truth = data.truth[scores.rows[:3]]
    expected = np.select([truth == 0, truth == 1, truth == 2], [0.0, 1.0, score], np.nan)
    np.testing.assert_array_equal(scores.at(np.arange(3)), expected)
    assert (truth == 2).any()


def test_test_images_are_left_out(store: Store, data: PreparedData, pool: Pool) -> None:
    scores = store.get(TruthScores(pool=pool))
    assert scores.rows.tolist() == np.flatnonzero(data.has_truth & ~data.is_test).tolist()


def test_the_masks_are_the_truth_at_every_threshold(store: Store, data: PreparedData, pool: Pool) -> None:
    for threshold in (0.1, 0.5, 1.0):
        masks = store.get(Threshold(scores=TruthScores(pool=pool), threshold=threshold))
        truth = np.asarray(data.truth[masks.rows[:4]])
        np.testing.assert_array_equal(masks.at(np.arange(4)), np.where(truth == 2, 255, truth))


def test_labels_are_not_blended_at_another_size(store: Store, pool: Pool) -> None:
    scores = store.get(TruthScores(pool=pool))
    for size in ((96, 160), (17, 23), (64, 64)):
        made = scores.at(np.arange(3), size)
        assert made.shape == (3, *size) and set(np.unique(made[~np.isnan(made)])) == {0, 1}
    twice = scores.at(np.arange(3), (128, 128))
    np.testing.assert_array_equal(twice[:, ::2, ::2], scores.at(np.arange(3)))
    np.testing.assert_array_equal(twice[:, 1::2, 1::2], scores.at(np.arange(3)))


def test_images_without_truth_are_left_out_and_none_is_an_error(
    new_store: Store, official: Callable[..., Path]
) -> None:
    some = Pool(data=Prepared(source=OxfordPet(root=str(official("some", without_truth=("beagle_1",)))), size=32))
    scores = new_store.get(TruthScores(pool=some))
    assert len(scores) == 5 and scores.data.row_of["beagle_1"] not in scores.rows
    names = tuple(f"{b}_{n}" for b in ("beagle", "Abyssinian") for n in (1, 2, 3))
    none = Pool(data=Prepared(source=OxfordPet(root=str(official("none", without_truth=names))), size=32))
    with pytest.raises(SegError, match="no trainval image has a truth"):
        new_store.get(TruthScores(pool=none))


def test_data_without_a_truth_are_refused_before_they_are_decoded(
    new_store: Store, photos: Callable[..., Path]
) -> None:
    pool = Pool(data=Prepared(source=ImageFolder(root=str(photos())), size=32))
    with pytest.raises(SegError, match="no trainval image has a truth; use supervision=cam or bbox"):
        TruthScores(pool=pool).check(new_store)
    with pytest.raises(SegError, match=r"no image of the data has a truth.*data\.images=all"):
        Pool(data=pool.data, images="truth").check(new_store)
    assert not new_store.has(pool.data)
