"""Estimated quality as stages, and the choice that goes by it."""

import json

import numpy as np
import pytest

from seg.data.prepared import Pool
from seg.errors import SegError
from seg.evaluation.auto import Best, witness_for
from seg.evaluation.quality import Estimated, Witness
from seg.masks import Threshold
from seg.store import param
from seg.supervision.scores import ScoreStage


class Shifted(ScoreStage):
    """0.6 where the ground truth, moved by some pixels, has an object, and 0.2 elsewhere."""

    pool: Pool
    by: int = param(default=0)

    def build(self, out, store):
        pool = store.get(self.pool)
        target = np.roll(pool.data.target(pool.rows) == 1, self.by, (1, 2))
        return self.save(out, pool.data, pool.rows, np.where(target, 0.6, 0.2))

    @property
    def title(self):
        return f"moved by {self.by}"


def masks(pool, by):
    return Threshold(scores=Shifted(pool=pool, by=by), threshold=0.3)


def test_the_better_masks_have_the_better_estimate(store, pool):
    witness = Witness(pool=pool, split="trainval", grid=16)
    found = [store.get(Estimated(masks=masks(pool, by), witness=witness)) for by in (0, 4, 16)]
    qualities = [quality.quality for quality, _ in found]
    assert qualities == sorted(qualities, reverse=True) and qualities[0] > qualities[2] + 0.1
    data = store.get(pool).data
    quality, rows = found[0]
    assert len(rows) == len(quality.per_image) == (~data.is_test).sum() and not data.is_test[rows].any()


@pytest.mark.parametrize(("first", "second"), [(0, 16), (16, 0)])
def test_the_best_is_kept_and_its_threshold_becomes_one_half(store, pool, first, second):
    best = Best(first=masks(pool, first), second=masks(pool, second))
    made, expected = store.get(Threshold(scores=best, threshold=0.5)), store.get(masks(pool, 0))
    at = np.arange(len(expected.rows))
    np.testing.assert_array_equal(made.at(at), expected.at(at))
    written = json.loads((store.folder(best) / "choice.json").read_text())
    assert written["chosen"] == "moved by 0" and set(written["estimated_quality"]) == {"moved by 0", "moved by 16"}


def test_the_first_is_kept_where_nothing_can_be_told(new_store, prepared):
    pool = Pool(data=prepared, limit=8)
    best = Best(first=masks(pool, 16), second=masks(pool, 0))
    new_store.ensure(best)
    written = json.loads((new_store.folder(best) / "choice.json").read_text())
    assert written == {"chosen": "moved by 16", "estimated_quality": {"moved by 16": None, "moved by 0": None}}


def test_the_features_are_those_of_the_run(pool, classifier):
    assert witness_for([classifier], pool, "test").backbone is None  # random weights are no witness


def test_a_backbone_that_cannot_judge_is_refused_before_anything_is_built(new_store, pool):
    for wrong, message in (
        ({"backbone": "vit_b_16"}, "is not a sequence of feature maps"),
        ({"backbone": "resnet18", "weights": "no.pth"}, "no.pth"),
    ):
        with pytest.raises(SegError, match=message):
            Witness(pool=pool, split="test", **wrong).check(new_store)
