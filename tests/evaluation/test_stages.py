"""Evaluation as stages."""

import numpy as np
import pytest

from seg.data.pets import OxfordPet
from seg.data.prepared import Pool, Prepared
from seg.evaluation.stages import Boundary, Evaluated, Histogram, rows_with_target
from seg.masks import Threshold
from seg.methods.boundary import boundary_areas
from seg.methods.metrics import Confusion, mean_iou
from seg.supervision.mask import LabelledSubset, TargetScores
from seg.supervision.scores import ScoreStage


class RandomScores(ScoreStage):
    """Random scores for the whole pool."""

    pool: Pool

    def build(self, out, store):
        pool = store.get(self.pool)
        values = np.random.default_rng(0).random((len(pool.rows), 7, 7))
        return self.save(out, pool.data, pool.rows, values)


@pytest.fixture
def scores(pool):
    return RandomScores(pool=pool)


@pytest.mark.parametrize(("border", "threshold"), [("ignore", 0.3), ("foreground", 1.0), ("background", 0.0)])
def test_the_histograms_way_is_the_direct_way(store, scores, border, threshold):
    masks = Threshold(scores=scores, threshold=threshold)
    metrics = store.get(Evaluated(masks=masks, split="trainval", border=border))
    direct = Confusion()
    made = store.get(masks)
    chosen = np.flatnonzero(~made.data.is_test[made.rows])
    direct.add(made.at(chosen), made.data.target(made.rows[chosen]), border)
    assert metrics.as_dict() == direct.compute().as_dict()
    assert metrics.images == len(chosen) > 0


def test_thresholds_share_one_histogram_and_others_go_the_direct_way(store, scores, monkeypatch):
    store.get(Evaluated(masks=Threshold(scores=scores, threshold=0.2), split="test"))

    def build(*_):
        raise AssertionError("built again")

    monkeypatch.setattr(Histogram, "build", build)
    coarse = store.get(Evaluated(masks=Threshold(scores=scores, threshold=0.4), split="test"))
    # A threshold between two steps of the histogram cannot come from it.
    fine = store.get(Evaluated(masks=Threshold(scores=scores, threshold=0.40004), split="test"))
    assert fine.miou == pytest.approx(coarse.miou, abs=1e-3)


@pytest.mark.parametrize(
    ("masks", "measured"),
    [
        ({"threshold": 0.40004}, {}),  # between two of the histogram's steps
        ({"threshold": 0.4, "band": 0.1}, {}),
        ({"background_below": 0.2, "foreground_from": 0.4}, {}),
        ({"threshold": 0.4, "clean_up": ["fill_holes"]}, {}),
        ({"threshold": 0.4}, {"resolution": "original"}),
    ],
    ids=["off the grid", "band", "two bounds", "clean_up", "original size"],
)
def test_what_no_histogram_tells_is_counted_from_the_masks(store, scores, masks, measured, monkeypatch):
    monkeypatch.setattr(Histogram, "load", lambda *_: pytest.fail("a histogram was read"))
    stage = Evaluated(masks=Threshold(scores=scores, **masks), split="test", **measured)
    assert stage.histogram is None and stage.upstream() == {"masks": stage.masks}
    assert store.get(stage).images > 0


def test_original_resolution(store, data, scores):
    masks = Threshold(scores=scores, threshold=0.5)
    metrics = store.get(Evaluated(masks=masks, split="test", resolution="original"))
    direct = Confusion()
    made = store.get(masks)
    pixels = 0
    for position in np.flatnonzero(data.is_test):
        target = made.data.original_target(int(position))
        assert target.shape == tuple(data.sizes[position])
        direct.add(made.at(np.asarray([position]), target.shape)[0], target)
        pixels += int((target < 254).sum())
    assert metrics.as_dict() == direct.compute().as_dict()
    assert metrics.pixels == pixels


def test_the_target_against_itself_is_perfect(store, pool):
    masks = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
    metrics = store.get(Evaluated(masks=masks, split="trainval"))
    assert metrics.miou == metrics.pixel_accuracy == 1
    # Nothing of test is in it, and that is no error.
    assert store.get(Evaluated(masks=masks, split="test")).images == 0


def test_images_without_target_are_left_out(new_store, official):
    root = official(without_target=("beagle_1", "Abyssinian_4"))
    pool = Pool(data=Prepared(source=OxfordPet(root=str(root)), size=32))
    scores = new_store.get(RandomScores(pool=pool))
    data = scores.data
    names = [[data.ids[r] for r in rows_with_target(scores, s)] for s in ("trainval", "test")]
    assert sorted(names[0]) == ["Abyssinian_1", "Abyssinian_2", "Abyssinian_3", "beagle_2", "beagle_3"]
    assert names[1] == ["beagle_4"]
    masks = Threshold(scores=RandomScores(pool=pool), threshold=0.5)
    for resolution in ("working", "original"):
        found = new_store.get(Evaluated(masks=masks, split="test", resolution=resolution))
        assert found.images == 1


@pytest.mark.parametrize("threshold", [0.4, 0.12345])  # by the histogram, and the direct way
def test_what_was_learnt_from_is_left_out(store, data, scores, pool, threshold):
    masks, target = Threshold(scores=scores, threshold=threshold), LabelledSubset(pool=pool, count=4)
    whole = Evaluated(masks=masks, split="trainval")
    apart = Evaluated(masks=masks, split="trainval", exclude=target)
    made, direct = store.get(masks), Confusion()
    chosen = np.flatnonzero(~data.is_test[made.rows] & ~np.isin(made.rows, store.get(target).rows))
    direct.add(made.at(chosen), made.data.target(made.rows[chosen]))
    assert store.get(apart).as_dict() == direct.compute().as_dict()
    assert store.get(apart).images == store.get(whole).images - 4
    assert "exclude" not in whole.params() | whole.upstream()  # an old key is as it was


@pytest.mark.parametrize("clean_up", [(), ("fill_holes",)])  # by the histogram, and by the masks
def test_the_images_matrices_and_the_boundary_iou(store, scores, clean_up):
    masks = Threshold(scores=scores, threshold=0.6, clean_up=clean_up)
    evaluated, made = Evaluated(masks=masks, split="test"), store.get(masks)
    ids, matrices = evaluated.per_image(store)
    assert matrices.sum(0).tolist() == store.get(evaluated).matrix
    chosen = rows_with_target(made, "test")
    assert ids == [made.data.ids[row] for row in made.rows[chosen]] and len(matrices) == len(ids)
    pairs = list(zip(made.at(chosen), made.data.target(made.rows[chosen]), strict=True))
    direct = Confusion()
    direct.add(*pairs[3])
    assert (matrices[3] == direct.matrix).all()
    areas = sum(boundary_areas(pred, target) for pred, target in pairs)
    assert store.get(Boundary(masks=masks, split="test")) == mean_iou(np.asarray(areas))
