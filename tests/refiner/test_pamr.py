"""PAMR as a stage."""

import numpy as np
import pytest
import torch

from seg.data.prepared import Pool
from seg.errors import SegError
from seg.methods.pamr import pamr
from seg.nets.augment import normalise
from seg.refiner.pamr import PAMR
from seg.store import Store
from seg.supervision.mask import TargetScores


def test_the_stage_is_the_function(store: Store, pool: Pool) -> None:
    target = TargetScores(pool=pool)  # its border is unknown
    refined, scores = store.get(PAMR(scores=target, dilations=(1, 3), iterations=2)), store.get(target)
    start = torch.from_numpy(np.nan_to_num(scores.argmax(np.asarray([7]))[0], nan=0.5))[:, None]
    expected = pamr(normalise(refined.data.images[refined.rows[[7]]]), start, (1, 3), 2)
    np.testing.assert_allclose(refined.argmax(np.asarray([7]))[0], expected[:, 0], atol=1e-3)
    with pytest.raises(SegError, match=r"PAMR.dilations=\[0, 1\]: give distances from 1 on"):
        PAMR(scores=target, dilations=[0, 1])
