"""Appearance: a planted object, whose pixels are learnt from."""

import numpy as np

from seg.data.prepared import Pool
from seg.store import Store
from seg.supervision.appearance import Appearance
from seg.supervision.bbox import BoxScores


def test_the_rest_of_the_object_is_found_from_a_part(planted: Pool, new_store: Store) -> None:
    prior = BoxScores(pool=planted)
    maps, before = new_store.get(Appearance(scores=prior, prior=2)), new_store.get(prior)
    target = maps.data.target(maps.rows) == 1
    scores, rough = (one.argmax(np.arange(len(maps)))[0] for one in (maps, before))
    found, start = (((one >= 0.5) & target).sum() / ((one >= 0.5) | target).sum() for one in (scores, rough))
    assert found > max(0.6, start + 0.3) and scores.min() >= 0 and scores.max() <= 1


def test_a_class_of_few_images_uses_the_model_of_all(planted: Pool, new_store: Store) -> None:
    stages = [Appearance(scores=BoxScores(pool=planted), features=32, points=500, least=n) for n in (1, 1000)]
    groups = [stage._groups(new_store.get(stage.scores))[0] for stage in stages]
    assert groups[1] == [[-1]] * len(groups[1]) and len({group for (group,) in groups[0]}) > 1
    own, together = (np.asarray(new_store.get(stage).values) for stage in stages)
    assert not np.array_equal(own, together)
