"""What a config describes: the chain of steps, their names, and what is known of them before any work."""

from collections.abc import Callable

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from seg.config import schema
from seg.config.paths import CONF
from seg.errors import SegError
from seg.experiment import Experiment, Step
from seg.masks import Threshold
from seg.methods.quality import Quality
from seg.supervision.bbox import BoxScores

schema.register()

Make = Callable[..., Experiment]
TINY = ["data.prepared.source.images=32", "data.prepared.source.breeds=2", "data.size=64", "figures=false"]


@pytest.fixture
def make(tmp_path):
    """The experiment that some overrides describe."""

    def experiment(*overrides):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return Experiment.from_config(compose("config", [*TINY, f"store={tmp_path}", *overrides]))

    return experiment


def another(kind, masks, **more):
    """A step that is added to the chain."""
    values = {"_target_": "seg.experiment.Step", "kind": kind, "masks": f"${{{masks}}}", **more}
    return "+chain.another={" + ",".join(f"{k}: '{v}'" for k, v in values.items()) + "}"


def test_a_step_is_called_by_its_kind_or_its_title(pool):
    masks = Threshold(scores=BoxScores(pool=pool), threshold=0.25)
    names = {kind: Step(kind=kind, masks=masks).name for kind in ("scores", "seeds", "refined", "prediction")}
    title = masks.scores.title
    assert names == {
        "scores": f"{title} >= 0.25",
        "seeds": "seeds",
        "refined": "refined masks",
        "prediction": title,
    }
    named = Step(kind="scores", masks=masks, title="boxes")
    assert (named.name, named.plain_name) == ("boxes", "boxes")
    assert Step(kind="scores", masks=masks).plain_name == title  # in which runs of other thresholds agree
    with pytest.raises(SegError, match=r"Step\.kind='mask': must be one of scores, seeds, refined, prediction"):
        Step(kind="mask", masks=masks)


def test_the_chain_is_in_the_datas_order_and_null_leaves_a_step_out(make):
    all_groups = ["refiner=affinity", "segmenter=unet"]
    whole = make(*all_groups)
    assert list(whole.steps) == ["CAM (label) >= 0.6", "seeds", "refined masks", "PlainUNet prediction"]
    assert [step.kind for step in whole.steps.values()] == ["scores", "seeds", "refined", "prediction"]
    assert list(make(*all_groups, "chain.seeds=null").steps) == [name for name in whole.steps if name != "seeds"]
    assert list(make().steps) == ["CAM (label) >= 0.6", "seeds"]


def test_a_few_true_masks_are_in_the_segmenters_masks_and_out_of_trainvals_figures(make):
    chain = ["refiner=affinity", "segmenter=unet"]
    plain, some, alone = (
        make(*chain, *more) for more in ([], ["labelled.count=5"], ["labelled.count=5", "labelled.share=1"])
    )
    full = make("pipeline=full", "labelled.count=5")
    assert plain.target is None

    def learnt(experiment):
        return experiment.steps["PlainUNet prediction"].masks.scores.segmenter.masks

    assert learnt(some).pseudo is some.steps["refined masks"].masks
    assert some.target is learnt(some).target and (some.target.count, some.target.seed) == (5, 0)
    # The ground truth of five and nothing else is the same, whichever pseudo masks are not learnt.
    assert learnt(alone).key == learnt(full).key != learnt(some).key
    for name, step in some.steps.items():
        for split in ("trainval", "test"):
            evaluated = some.evaluated(step, split)
            same = evaluated.id == plain.evaluated(plain.steps[name], split).id
            assert evaluated.exclude is (some.target if split == "trainval" else None)
            assert same == (split == "test" and "prediction" not in name)
    typed = ["labelled.count=5"]
    assert [*make(*typed).unused(typed, [])] == typed and some.unused(typed, []) == {}


def test_figures_are_what_the_table_depends_on(make):
    first = make().figures()
    assert len(first) == 4 and all(name.startswith("Evaluated/") for name in first)
    assert first[:2] == first[2:]  # without a band the seeds are the scores from the threshold on
    assert len(set(make("seeds.band=0.1").figures())) == 4
    assert make("runtime.batch_size=7", "evaluation.panel=0", "tracker=csv").figures() == first
    for change in ("evaluation.border=background", "epoch=3", "threshold=0.3", "seed=5", "data.size=96"):
        assert not set(make(change).figures()) & set(first), change


def test_what_a_run_refers_to_is_known_before_anything_is_built(make, tmp_path):
    experiment = make("refiner=affinity", "segmenter=unet")
    stored = experiment.stored()
    assert stored == sorted(set(stored)) and not list(tmp_path.iterdir())
    kinds = {name.partition("/")[0] for name in stored}
    assert kinds == {
        *("ToyPets", "Prepared", "Classifier", "CAM", "Affinity", "Walk", "Segmenter", "Predicted"),
        *("Boundary", "Evaluated", "Histogram", "Estimated", "Witness"),
    }
    assert set(experiment.figures()) <= set(stored)
    (training,) = (name for name in stored if name.startswith("Segmenter/"))
    assert training.endswith("@15")


def test_a_chain_that_is_wrong_is_refused(make):
    with pytest.raises(SegError, match="chain: two steps are called 'seeds'; give one of them another title"):
        make("refiner=affinity", another("seeds", "refiner"))
    assert list(make(another("seeds", "seeds", title="as well")).steps)[1:] == ["seeds", "as well"]
    with pytest.raises(SegError, match=r"chain: .* is no step; give _target_: seg\.experiment\.Step"):
        make("+chain.another=3")


def test_steps_that_are_not_to_be_trusted_are_named(make):
    def quality(value, inside, outside):
        return {"trainval": Quality(value, value, 2.0, np.nan, inside, outside, np.zeros(0))}

    experiment = make()
    experiment.qualities = {
        "CAM": quality(0.6, 0.8, 0.5),
        "seeds": quality(np.nan, np.nan, np.nan),
        "refined masks": quality(0.5, 0.62, 0.68),
        "prediction": quality(0.7, np.nan, np.nan),
    }
    worse, missed = experiment.worse()
    assert worse.startswith("refined masks may be worse than CAM: estimated quality 0.50 after 0.60")
    assert (
        missed.startswith("refined masks may mark something else") and "(mAP 0.68) than from the masks (0.62)" in missed
    )
