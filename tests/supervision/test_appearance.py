"""Appearance: a planted object, whose pixels are learnt from."""

import numpy as np

from seg.data.prepared import Pool
from seg.store import Store
from seg.supervision.appearance import Appearance
from seg.supervision.bbox import BoxScores


def maps_of(store: Store, stage: Appearance) -> np.ndarray:
    maps = store.get(stage)
    found: np.ndarray = maps.argmax(np.arange(len(maps)))[0]
    return found


def iou(scores: np.ndarray, target: np.ndarray) -> float:
    mask = scores >= 0.5
    return float((mask & (target == 1)).sum() / (mask | (target == 1)).sum())


def test_the_rest_of_the_object_is_found_from_a_part(planted: Pool, new_store: Store) -> None:
    prior = BoxScores(pool=planted)
    maps, before = new_store.get(Appearance(scores=prior, prior=2)), new_store.get(prior)
    positions = np.arange(len(maps))
    target = maps.data.target(maps.rows)
    scores, rough = maps.argmax(positions)[0], before.argmax(positions)[0]
    assert iou(scores, target) > max(0.6, iou(rough, target) + 0.3)
    assert scores.min() >= 0 and scores.max() <= 1


def test_a_class_of_few_images_is_told_by_all_of_them(planted: Pool, new_store: Store) -> None:
    """With own classes, what one class looks like is nothing to another; a class of too few has no model of its own."""
    stages = [Appearance(scores=BoxScores(pool=planted), features=32, points=500, least=n) for n in (1, 1000)]
    groups = [stage._groups(new_store.get(stage.scores))[0] for stage in stages]
    assert groups[1] == [[-1]] * len(groups[1]) and len({group for (group,) in groups[0]}) > 1
    own, together = (maps_of(new_store, stage) for stage in stages)
    assert not np.array_equal(own, together)
