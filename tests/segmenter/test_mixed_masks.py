"""The ground truth of a few images beside the pseudo masks of the others."""

from typing import Any

import numpy as np
import pytest

from seg.data.prepared import Pool, PreparedData
from seg.masks import Threshold
from seg.segmenter.architectures import PlainUNet
from seg.segmenter.mixed_masks import MixedMasks
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.bbox import BoxScores
from seg.supervision.mask import LabelledSubset


def few(pool: Pool, count: int = 3, share: float = 0.3, **options: Any) -> MixedMasks:
    pseudo = Threshold(scores=BoxScores(pool=pool, resolution=16, **options), threshold=0.5)
    return MixedMasks(target=LabelledSubset(pool=pool, count=count), pseudo=pseudo, share=share)


def test_labelled_images_have_their_target_and_others_pseudo_masks(store: Store, pool: Pool) -> None:
    stage, size = few(pool), (40, 72)
    made, target, pseudo = store.get(stage), store.get(stage.target), store.get(stage.pseudo)
    assert made.rows.tolist() == pseudo.rows.tolist()
    mixed = np.random.default_rng(0).permutation(len(made))  # batches come in any order
    expected = pseudo.at(mixed, size)
    labelled = np.isin(made.rows[mixed], target.rows)
    scores = target.argmax(np.searchsorted(target.rows, made.rows[mixed][labelled]), size)[0]
    expected[labelled] = np.nan_to_num(scores, nan=255)
    assert labelled.sum() == 3
    np.testing.assert_array_equal(made.at(mixed, size), expected)


@pytest.mark.parametrize("share", [0.01, 0.75])
def test_an_epoch_has_the_others_once_and_the_few_often_enough(
    store: Store, data: PreparedData, pool: Pool, share: float
) -> None:
    stage = few(pool, share=share)
    segmenter = Segmenter(masks=stage, net=PlainUNet(width=4, depth=2))
    made = store.get(stage)
    rows = made.rows[segmenter.samples(store)]
    assert not data.is_test[rows].any() and set(rows) == set(np.flatnonzero(~data.is_test))
    seen = np.bincount(rows, minlength=len(data))
    true = made.target.rows
    assert (np.delete(seen, true)[np.delete(~data.is_test, true)] == 1).all()
    assert seen[true].max() - seen[true].min() <= 1
    others = (~data.is_test).sum() - len(true)
    assert seen[true].sum() == max(round(others * share / (1 - share)), len(true))


def test_alone_they_get_as_many_draws_and_no_pseudo_mask_is_made(
    new_store: Store, data: PreparedData, pool: Pool
) -> None:
    stage = few(pool, share=1)
    made = new_store.get(stage)
    assert made.rows.tolist() == made.target.rows.tolist() and made.pseudo is None
    assert len(made.epoch) == (~data.is_test).sum() and np.ptp(np.bincount(made.epoch)) <= 1
    assert not new_store.has(stage.pseudo.scores)
    assert few(pool, share=1, divisor=2.0).key == stage.key != few(pool, share=1, count=2).key
    assert few(pool, divisor=2.0).key != few(pool).key != stage.key


def test_without_any_it_is_the_pseudo_masks_themselves(pool: Pool) -> None:
    one = few(pool)
    assert MixedMasks.from_config(target=LabelledSubset(pool=pool), pseudo=one.pseudo, share=0.3) is one.pseudo
    assert isinstance(MixedMasks.from_config(target=one.target, pseudo=one.pseudo, share=0.3), MixedMasks)
