import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from seg.errors import SegError
from seg.methods.calibration import reliability
from seg.methods.metrics import Confusion, HistogramEvaluator, Metrics

BORDERS = ("ignore", "foreground", "background")
THRESHOLDS = (0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.999, 1.0)


def u8(*rows):
    return np.array(rows, np.uint8)


def same(one: Metrics, two: Metrics) -> bool:
    """Equal to the last digit, nan equal to nan."""
    figures, others = one.as_dict(), two.as_dict()
    matrices = figures.pop("matrix"), others.pop("matrix")
    equal = np.array_equal(list(figures.values()), list(others.values()), equal_nan=True)
    return equal and matrices[0] == matrices[1]


def metrics_of(pred, target, border="ignore", classes=1):
    confusion = Confusion(classes)
    confusion.add(pred, target, border)
    return confusion.compute()


def random_case(seed=0, shape=(7, 23, 31), classes=1):
    """Ground truth with a border, and scores with the class of each, of which a few are unknown."""
    rng = np.random.default_rng(seed)
    target = rng.choice(u8(*[*range(classes + 1), 254, 255]).ravel(), shape)
    scores = rng.choice(np.linspace(0, 1, 41, dtype=np.float32), shape)
    scores[rng.random(shape) < 0.05] = np.nan
    return scores, rng.integers(1, classes + 1, shape).astype(np.uint8), target


def cut(scores, class_ids, threshold):
    pred = np.where(scores >= np.float32(threshold), class_ids, u8(0))
    pred[np.isnan(scores)] = 255
    return pred


@pytest.mark.parametrize(
    ("classes", "border"), [*((1, border) for border in BORDERS), (5, "ignore"), (5, "background")]
)
def test_agrees_with_the_libraries(classes, border):
    scores, class_ids, target = random_case(classes=classes)
    pred = cut(scores, class_ids, 0.5)
    found = metrics_of(pred, target, border, classes)

    def left(one_pred, one_target):
        told = one_target.astype(int)
        told[told == 254] = {"ignore": 255, "foreground": 1, "background": 0}[border]
        keep = (told != 255) & (one_pred != 255)
        return told[keep], one_pred[keep].astype(int), int((told != 255).sum())

    flat_target, flat_pred, with_target = left(pred, target)
    assert found.matrix == confusion_matrix(flat_target, flat_pred, labels=range(classes + 1)).tolist()
    expected = jaccard_score(flat_target, flat_pred, labels=range(classes + 1), average=None)
    assert found.ious == pytest.approx(expected, abs=1e-15)
    assert found.miou == pytest.approx(expected.mean(), abs=1e-15)
    assert found.iou_background == pytest.approx(expected[0], abs=1e-15)
    assert found.iou_foreground == pytest.approx(expected[1:].mean(), abs=1e-15)
    assert found.pixel_accuracy == pytest.approx(accuracy_score(flat_target, flat_pred), abs=1e-15)
    assert (found.pixels, found.images) == (flat_pred.size, len(pred))
    assert found.coverage == pytest.approx(flat_pred.size / with_target, abs=1e-15)
    each = [jaccard_score(t, p, average="macro") for t, p, _ in map(left, pred, target)]
    assert found.per_image_miou == pytest.approx(np.mean(each), abs=1e-15) != found.miou


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pred", [[0, 0, 0, 0], [0, 1, 1, 0]])
def test_a_target_without_an_object_measures_nothing(pred):
    target = u8([0, 0, 255, 0])
    histogram = HistogramEvaluator()
    histogram.add(u8(pred).astype(np.float32), target)
    for found in (metrics_of(u8(pred), target), metrics_of(u8(pred), target, classes=3), histogram.metrics(0.5)):
        assert all(map(math.isnan, (found.miou, found.iou_foreground, found.per_image_miou)))
        assert found.pixels == 3 and found.iou_background == found.pixel_accuracy == (3 - pred[1]) / 3


@pytest.mark.filterwarnings("error")
def test_nothing_added_is_nan_and_zero():
    for found in (Confusion().compute(), HistogramEvaluator().metrics(0.5)):
        assert (found.images, found.pixels, found.matrix) == (0, 0, [[0, 0], [0, 0]])
        assert all(math.isnan(v) for k, v in found.as_dict().items() if k not in ("images", "pixels", "matrix"))
    assert Confusion().per_image_iou.shape == (0, 2)
    assert HistogramEvaluator.from_arrays(HistogramEvaluator().to_arrays()).metrics(0.5).images == 0


def test_unknown_codes_are_named_and_nothing_is_counted():
    confusion = Confusion()
    good, bad = u8([0, 1]), u8([0, 7])
    with pytest.raises(SegError, match=r"prediction holds the codes \[7\]: only 0, 1 and 255"):
        confusion.add(np.stack([good, bad]), np.stack([good, good]))
    with pytest.raises(SegError, match=r"target holds the codes \[7\]"):
        confusion.add(np.stack([good, good]), np.stack([good, bad]))
    assert confusion.compute().images == 0
    with pytest.raises(SegError, match=r"target holds the codes \[7\]"):
        HistogramEvaluator().add(np.zeros((1, 2), np.float32), bad)


def test_wrong_arrays_and_thresholds_are_refused():
    byte, number = np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match="prediction has to be uint8"):
        Confusion().add(byte.astype(int), byte)
    with pytest.raises(ValueError, match=r"^scores \(1, 2, 2\) and target \(1, 1, 2\) differ"):
        HistogramEvaluator().add(number, byte[:1])
    with pytest.raises(SegError, match=r"scores run from .* they have to lie in"):
        HistogramEvaluator().add(number + 1.5, byte)
    for threshold in (0.0005, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"no multiple of 0\.001 in"):
            HistogramEvaluator().metrics(threshold)
    with pytest.raises(ValueError, match="one of ignore, foreground, background"):
        HistogramEvaluator().metrics(0.5, "pet")
    with pytest.raises(SegError, match="these are no counts of scores: evaluate again"):
        HistogramEvaluator.from_arrays({"counts": np.zeros((0, 5), np.int32)})
    confusion = Confusion()
    confusion.add(byte, byte, "ignore")
    with pytest.raises(ValueError, match="one matrix, one border"):
        confusion.add(byte, byte, "foreground")
    with pytest.raises(SegError, match="with several classes the class of a border is unknown"):
        metrics_of(byte, byte + u8(254), "foreground", classes=5)


@pytest.mark.parametrize(
    ("classes", "border"), [*((1, border) for border in BORDERS), (5, "ignore"), (5, "background")]
)
def test_one_histogram_answers_every_threshold_to_the_last_digit(classes, border):
    scores, class_ids, target = random_case(5, classes=classes)
    histogram = HistogramEvaluator(classes)
    histogram.add(scores[:1], target[:1], class_ids[:1])
    assert histogram.metrics(0.5, border).images == 1  # asking in between must not freeze the answer
    histogram.add(scores[1:], target[1:], class_ids[1:])
    again = HistogramEvaluator.from_arrays(histogram.to_arrays())
    for threshold in THRESHOLDS:
        direct = metrics_of(cut(scores, class_ids, threshold), target, border, classes)
        for found in (histogram.metrics(threshold, border), again.metrics(threshold, border)):
            assert same(found, direct)
    again.add(scores, target, class_ids)
    assert again.metrics(0.4, border).images == 14


def adversarial_scores():
    """Every multiple of 0.001 as float32, and its neighbours one and two steps of float32 off."""
    edges = (np.arange(1001) / 1000).astype(np.float32)
    below, above = np.nextafter(edges, np.float32(-1)), np.nextafter(edges, np.float32(2))
    around = [edges, below, above, np.nextafter(below, np.float32(-1)), np.nextafter(above, np.float32(2))]
    return np.clip(np.concatenate(around), 0, 1)[None]


def test_histogram_is_exact_on_every_threshold_and_one_step_off_it():
    scores = adversarial_scores()
    target = np.random.default_rng(7).choice(u8(0, 1, 254, 255).ravel(), scores.shape)
    histogram = HistogramEvaluator()
    histogram.add(scores, target)
    for k in range(1001):
        assert same(histogram.metrics(k / 1000), metrics_of(cut(scores, u8(1), k / 1000), target)), k
    assert same(histogram.metrics(0.1 + 0.2), histogram.metrics(0.3))


@pytest.mark.parametrize("border", ["ignore", "background"])
def test_a_histogram_knows_how_reliable_scores_are(border):
    scores, class_ids, target = random_case(classes=3)
    histogram = HistogramEvaluator(3)
    histogram.add(scores, target, class_ids)
    known = ~np.isnan(scores) & (target != 255) & ((target != 254) | (border == "background"))
    direct = reliability(scores[known], (target == class_ids)[known].astype(int), np.ones(known.sum(), int))
    found = histogram.reliability(border)
    assert (found.pixels.sum(), found.share[-1]) == (known.sum(), direct.share[-1])
    assert found.error == pytest.approx(direct.error, abs=2e-3)  # its scores are intervals of 0.001
