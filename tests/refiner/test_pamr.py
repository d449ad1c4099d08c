"""PAMR as a stage."""

import numpy as np
import pytest
import torch

from seg.data.prepared import Pool
from seg.errors import SegError
from seg.masks import Threshold
from seg.methods.pamr import pamr
from seg.nets.augment import normalise
from seg.refiner.by_image import Superpixels
from seg.refiner.pamr import PAMR
from seg.store import Store
from seg.supervision.mask import TargetScores

DILATIONS = (1, 3)


def test_the_stage_is_the_function_and_takes_any_scores(store: Store, pool: Pool) -> None:
    target = TargetScores(pool=pool)  # its border is unknown
    before = Superpixels(scores=target, segments=30)
    stage = PAMR(scores=before, dilations=DILATIONS, iterations=2)
    refined, scores = store.get(stage), store.get(before)
    assert refined.rows.tolist() == scores.rows.tolist() and refined.values.shape == (22, 64, 64)
    start = torch.from_numpy(np.nan_to_num(scores.argmax(np.asarray([7]))[0], nan=0.5))[:, None]
    expected = pamr(normalise(torch.from_numpy(refined.data.images[refined.rows[[7]]])), start, DILATIONS, 2)
    np.testing.assert_allclose(refined.argmax(np.asarray([7]))[0], expected[:, 0], atol=1e-3)
    masks = store.get(Threshold(scores=stage, threshold=0.5)).at(np.arange(2))
    assert set(np.unique(masks)) == {0, 1}


@pytest.mark.parametrize("dilations", [[], [0, 1]])
def test_distances_that_are_none_are_refused(pool: Pool, dilations: list[int]) -> None:
    with pytest.raises(SegError, match=r"PAMR.dilations=\[.*\]: give distances from 1 on"):
        PAMR(scores=TargetScores(pool=pool), dilations=dilations)
