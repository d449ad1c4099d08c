import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score
from torchmetrics import JaccardIndex

from seg.errors import SegError
from seg.evaluation.metrics import Confusion, Metrics, ScoreHistogram

BORDERS = ("ignore", "foreground", "background")
THRESHOLDS = (0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.999, 1.0)


def u8(*rows):
    return np.array(rows, np.uint8)


def same(one: Metrics, two: Metrics) -> bool:
    """Equal to the last digit, nan equal to nan."""
    return np.array_equal(list(one.as_dict().values()), list(two.as_dict().values()), equal_nan=True)


def metrics_of(pred, truth, border="ignore"):
    confusion = Confusion()
    confusion.add(pred, truth, border)
    return confusion.compute()


def random_case(seed=0, shape=(7, 23, 31)):
    rng = np.random.default_rng(seed)
    truth = rng.choice(u8(0, 1, 2, 255).ravel(), shape, p=[0.4, 0.4, 0.1, 0.1])
    pred = rng.choice(u8(0, 1, 255).ravel(), shape, p=[0.5, 0.4, 0.1])
    return pred, truth


def evaluated(pred, truth, border):
    """What has to be left of a case, found by another road than the module's."""
    truth = truth.astype(int)
    truth[truth == 2] = {"ignore": 255, "foreground": 1, "background": 0}[border]
    keep = (truth != 255) & (pred != 255)
    return pred[keep].astype(int), truth[keep], int((truth != 255).sum())


@pytest.mark.parametrize("border", BORDERS)
def test_agrees_with_scikit_learn(border):
    pred, truth = random_case()
    flat_pred, flat_truth, with_truth = evaluated(pred, truth, border)
    confusion = Confusion()
    confusion.add(pred, truth, border)
    found = confusion.compute()
    assert (confusion.matrix == confusion_matrix(flat_truth, flat_pred, labels=[0, 1])).all()
    expected = jaccard_score(flat_truth, flat_pred, labels=[0, 1], average=None)
    assert [found.iou_background, found.iou_foreground] == pytest.approx(expected, abs=1e-15)
    assert found.miou == pytest.approx(expected.mean(), abs=1e-15)
    assert found.pixel_accuracy == pytest.approx(accuracy_score(flat_truth, flat_pred), abs=1e-15)
    assert found.pixels == flat_pred.size
    assert found.coverage == pytest.approx(flat_pred.size / with_truth, abs=1e-15)
    assert found.images == len(pred)


@pytest.mark.parametrize("border", BORDERS)
def test_agrees_with_torchmetrics(border):
    pred, truth = random_case(1)
    flat_pred, flat_truth, _ = evaluated(pred, truth, border)
    library = JaccardIndex(task="multiclass", num_classes=2, average="macro")
    expected = library(torch.from_numpy(flat_pred), torch.from_numpy(flat_truth)).item()
    assert metrics_of(pred, truth, border).miou == pytest.approx(expected, abs=1e-6)


def test_per_image_mean_is_the_mean_of_scikit_learns_answers():
    pred, truth = random_case(2)
    each = []
    for one_pred, one_truth in zip(pred, truth, strict=True):
        flat_pred, flat_truth, _ = evaluated(one_pred, one_truth, "ignore")
        each.append(jaccard_score(flat_truth, flat_pred, average="macro"))
    found = metrics_of(pred, truth)
    assert found.per_image_miou == pytest.approx(np.mean(each), abs=1e-15)
    assert found.per_image_miou != pytest.approx(found.miou, abs=1e-6)


def test_figures_worked_out_by_hand():
    #           right  missed  wrong  right | border, no truth, no decision
    truth = u8([1, 1, 0, 0, 2, 255, 1])
    pred = u8([1, 0, 1, 0, 1, 1, 255])
    ignore = metrics_of(pred, truth)
    assert ignore.as_dict() == {
        "miou": 1 / 3,
        "iou_background": 1 / 3,
        "iou_foreground": 1 / 3,
        "pixel_accuracy": 0.5,
        "per_image_miou": 1 / 3,
        "images": 1,
        "pixels": 4,
        "coverage": 0.8,
    }
    foreground = metrics_of(pred, truth, "foreground")  # the border pixel was predicted foreground: a hit
    assert (foreground.iou_foreground, foreground.iou_background) == (2 / 4, 1 / 3)
    assert (foreground.pixel_accuracy, foreground.coverage) == (3 / 5, 5 / 6)
    background = metrics_of(pred, truth, "background")  # and here a false alarm
    assert (background.iou_foreground, background.iou_background) == (1 / 4, 1 / 4)
    assert background.pixel_accuracy == 2 / 5


def test_a_class_in_neither_truth_nor_prediction_is_left_out_of_the_mean():
    found = metrics_of(u8([0, 0]), u8([0, 0]))
    assert math.isnan(found.iou_foreground)
    assert (found.miou, found.iou_background, found.per_image_miou) == (1.0, 1.0, 1.0)


def test_a_class_only_predicted_counts_as_zero():
    found = metrics_of(u8([0, 1]), u8([0, 0]))
    assert (found.iou_foreground, found.iou_background, found.miou) == (0.0, 0.5, 0.25)


def test_the_two_means_weigh_differently():
    truth = np.stack([np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)])
    pred = np.stack([np.zeros((2, 2), np.uint8), u8([1, 0], [0, 0])])
    found = metrics_of(pred, truth)
    assert found.per_image_miou == (1.0 + (1 / 4 + 0) / 2) / 2
    assert found.miou == (4 / 7 + 1 / 4) / 2


def test_an_image_with_one_pixel_of_truth_is_an_image():
    found = metrics_of(u8([0, 1]), u8([255, 1]))
    assert (found.images, found.pixels, found.miou) == (1, 1, 1.0)


@pytest.mark.filterwarnings("error")
def test_images_without_truth_or_decision():
    truth = np.stack([u8([0, 1]), u8([255, 255]), u8([0, 1])])
    pred = np.stack([u8([0, 1]), u8([0, 1]), u8([255, 255])])
    found = metrics_of(pred, truth)
    assert found.images == 2  # the second has no truth; the third has, though nothing was predicted
    assert (found.coverage, found.per_image_miou, found.pixels) == (0.5, 1.0, 2)


@pytest.mark.filterwarnings("error")
def test_nothing_added_is_nan_and_zero():
    for found in (Confusion().compute(), ScoreHistogram().metrics(0.5)):
        assert (found.images, found.pixels) == (0, 0)
        assert all(math.isnan(v) for k, v in found.as_dict().items() if k not in ("images", "pixels"))
    assert Confusion().per_image_iou.shape == (0, 2)
    assert Confusion().matrix.dtype == np.int64
    assert not Confusion().matrix.any()
    again = ScoreHistogram.from_arrays(ScoreHistogram().to_arrays())
    assert (again.metrics(0.5).images, again.to_arrays()["counts"].shape) == (0, (0, 3, 1002))
    pixels = ScoreHistogram()
    pixels.add(np.zeros((1, 0, 3), np.float32), np.zeros((1, 0, 3), np.uint8))
    assert (pixels.metrics(0.5).images, pixels.metrics(0.5).pixels) == (0, 0)


def test_batches_added_one_by_one_are_the_whole():
    pred, truth = random_case(3)
    parts = Confusion()
    parts.add(pred[0], truth[0], "foreground")
    parts.add(pred[1:5], truth[1:5], "foreground")
    parts.add(pred[5:], truth[5:], "foreground")
    assert same(parts.compute(), metrics_of(pred, truth, "foreground"))
    assert parts.per_image_iou.shape == (7, 2)


def test_order_of_images_and_pixels_does_not_matter():
    pred, truth = random_case(4)
    turned = metrics_of(pred[::-1, ::-1].transpose(0, 2, 1), truth[::-1, ::-1].transpose(0, 2, 1))
    whole = metrics_of(pred, truth)
    assert turned.per_image_miou == pytest.approx(whole.per_image_miou, abs=1e-15)
    for name in ("miou", "pixel_accuracy", "coverage"):
        assert getattr(turned, name) == getattr(whole, name)


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (np.zeros((2, 2), np.int64), np.zeros((2, 2), np.uint8), "prediction has to be uint8"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), bool), "truth has to be uint8"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), r"\(1, 2, 2\) and truth \(1, 2, 3\)"),
        (np.zeros(4, np.uint8), np.zeros(4, np.uint8), "prediction has to be"),
    ],
)
def test_wrong_arrays_are_refused(pred, truth, message):
    with pytest.raises(ValueError, match=message):
        Confusion().add(pred, truth)


def test_unknown_codes_are_named_and_nothing_is_counted():
    confusion = Confusion()
    good, bad = u8([0, 1]), u8([0, 7])
    with pytest.raises(SegError, match=r"prediction holds the codes \[7\]"):
        confusion.add(np.stack([good, bad]), np.stack([good, good]))
    with pytest.raises(SegError, match=r"truth holds the codes \[7\]"):
        confusion.add(np.stack([good, good]), np.stack([good, bad]))
    assert confusion.compute().images == 0
    with pytest.raises(SegError, match=r"truth holds the codes \[7\]"):
        ScoreHistogram().add(np.zeros((1, 2), np.float32), bad)


def test_border_modes_are_checked_and_not_mixed():
    with pytest.raises(ValueError, match="one of ignore, foreground, background"):
        metrics_of(u8([0]), u8([0]), "pet")
    with pytest.raises(ValueError, match="one of ignore, foreground, background"):
        ScoreHistogram().metrics(0.5, "pet")
    confusion = Confusion()
    confusion.add(u8([0]), u8([0]), "ignore")
    with pytest.raises(ValueError, match="one matrix, one border"):
        confusion.add(u8([0]), u8([0]), "foreground")


def adversarial_scores():
    """Every multiple of 0.001 as float32, and its neighbours one and two steps of float32 off."""
    edges = (np.arange(1001) / 1000).astype(np.float32)
    below, above = np.nextafter(edges, np.float32(-1)), np.nextafter(edges, np.float32(2))
    around = [edges, below, above, np.nextafter(below, np.float32(-1)), np.nextafter(above, np.float32(2))]
    return np.clip(np.concatenate(around), 0, 1)[None]


def direct(scores, truth, threshold, border):
    pred = (scores >= np.float32(threshold)).astype(np.uint8)
    pred[np.isnan(scores)] = 255
    return metrics_of(pred, truth, border)


@pytest.mark.parametrize("border", BORDERS)
def test_histogram_is_thresholding_to_the_last_digit(border):
    rng = np.random.default_rng(5)
    scores = rng.random((4, 40, 50), np.float32)
    scores[rng.random(scores.shape) < 0.05] = np.nan
    scores[0, 0, :4] = 0, 1, 0.5, 0.3
    truth = random_case(6, scores.shape)[1]
    histogram = ScoreHistogram()
    histogram.add(scores[:1], truth[:1])
    assert histogram.metrics(0.5, border).images == 1  # asking in between must not freeze the answer
    histogram.add(scores[1:], truth[1:])
    for threshold in THRESHOLDS:
        assert same(histogram.metrics(threshold, border), direct(scores, truth, threshold, border))


def test_histogram_is_exact_on_every_threshold_and_one_step_off_it():
    scores = adversarial_scores()
    truth = np.random.default_rng(7).choice(u8(0, 1, 2, 255).ravel(), scores.shape)
    histogram = ScoreHistogram()
    histogram.add(scores, truth)
    for k in range(1001):
        assert same(histogram.metrics(k / 1000), direct(scores, truth, k / 1000, "ignore")), k


def test_histogram_survives_saving(tmp_path):
    scores, truth = np.random.default_rng(8).random((3, 9, 9), np.float32), random_case(8, (3, 9, 9))[1]
    histogram = ScoreHistogram()
    histogram.add(scores, truth)
    np.savez(tmp_path / "h.npz", **histogram.to_arrays())
    with np.load(tmp_path / "h.npz") as arrays:
        again = ScoreHistogram.from_arrays(arrays)
    assert same(again.metrics(0.4, "foreground"), histogram.metrics(0.4, "foreground"))
    again.add(scores, truth)
    assert again.metrics(0.4).images == 6
    for broken, found in (
        ({}, "nothing"),
        ({"counts": np.zeros((3, 3, 5), np.int32)}, r"int32 \(3, 3, 5\)"),
        ({"counts": np.zeros((3, 3, 1002))}, r"float64 \(3, 3, 1002\)"),
    ):
        with pytest.raises(SegError, match=f"evaluate again.* not {found}$"):
            ScoreHistogram.from_arrays(broken)


@pytest.mark.parametrize("threshold", [0.0005, 0.12345, -0.1, 1.001, 1.5, math.nan, math.inf])
def test_thresholds_between_the_edges_are_refused(threshold):
    with pytest.raises(ValueError, match=r"no multiple of 0\.001 in"):
        ScoreHistogram().metrics(threshold)


def test_a_threshold_off_by_floating_point_noise_is_the_same_threshold():
    scores = adversarial_scores()
    histogram = ScoreHistogram()
    histogram.add(scores, np.ones(scores.shape, np.uint8))
    assert same(histogram.metrics(0.1 + 0.2), histogram.metrics(0.3))


@pytest.mark.parametrize("bad", [-0.1, 1.5, math.inf, -math.inf])
@pytest.mark.parametrize("other", [0.5, math.nan])
def test_scores_out_of_range_are_refused(bad, other):
    with pytest.raises(SegError, match="lie in"):
        ScoreHistogram().add(np.array([[other, bad]], np.float32), u8([0, 1]))


def test_a_refusal_says_where_the_scores_lie():
    with pytest.raises(SegError, match=r"run from -0\.1 to 0\.5"):
        ScoreHistogram().add(np.array([[0.5, -0.1]], np.float32), u8([0, 1]))


def test_a_refusal_names_what_does_not_fit():
    image, other = np.zeros((2, 2), np.float32), np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match=r"^scores \(1, 2, 2\) and truth \(1, 2, 3\) differ"):
        ScoreHistogram().add(image, other)
    with pytest.raises(ValueError, match=r"^prediction .* and truth .* differ"):
        Confusion().add(image.astype(np.uint8), other)
    with pytest.raises(ValueError, match=r"^scores has to be float32"):
        ScoreHistogram().add(other, other)
    with pytest.raises(ValueError, match=r"^truth has to be uint8"):
        ScoreHistogram().add(image, image)


def test_scores_of_another_precision_are_refused():
    with pytest.raises(ValueError, match="float32"):
        ScoreHistogram().add(np.zeros((2, 2)), np.zeros((2, 2), np.uint8))


def test_doctests():
    import doctest

    import seg.evaluation.metrics

    assert doctest.testmod(seg.evaluation.metrics, extraglobs={"np": np}).failed == 0


def several(seed=0, classes=5, shape=(6, 19, 23)):
    """Truth with a border, scores and the class of each, of which no image has all."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(u8(*[*range(classes + 1), 254, 255]).ravel(), shape)
    which = rng.integers(1, classes, shape).astype(np.uint8)
    scores = rng.choice(np.linspace(0, 1, 41, dtype=np.float32), shape)
    scores[rng.random(shape) < 0.05] = np.nan
    return scores, which, truth


@pytest.mark.parametrize("border", ["ignore", "background"])
def test_several_classes_agree_with_the_libraries(border):
    scores, which, truth = several()
    pred = np.where(scores >= 0.5, which, u8(0))
    pred[np.isnan(scores)] = 255
    confusion = Confusion(5)
    confusion.add(pred, truth, border)
    found = confusion.compute()
    told = np.where(truth == 254, 0 if border == "background" else 255, truth).astype(int)
    keep = (told != 255) & (pred != 255)
    flat_truth, flat_pred = told[keep], pred[keep].astype(int)
    assert found.matrix == confusion_matrix(flat_truth, flat_pred, labels=range(6)).tolist()
    expected = jaccard_score(flat_truth, flat_pred, labels=range(6), average=None)
    assert found.ious == pytest.approx(expected, abs=1e-15)
    assert found.miou == pytest.approx(expected.mean(), abs=1e-15)
    assert found.iou_foreground == pytest.approx(expected[1:].mean(), abs=1e-15)
    assert found.pixel_accuracy == pytest.approx(accuracy_score(flat_truth, flat_pred), abs=1e-15)
    library = JaccardIndex(task="multiclass", num_classes=6, average="macro")
    said = library(torch.from_numpy(flat_pred), torch.from_numpy(flat_truth)).item()
    assert found.miou == pytest.approx(said, abs=1e-6)


@pytest.mark.parametrize("border", ["ignore", "background"])
def test_one_histogram_of_several_classes_answers_every_threshold(border):
    scores, which, truth = several(1)
    histogram = ScoreHistogram(5)
    histogram.add(scores[:2], truth[:2], which[:2])
    histogram.add(scores[2:], truth[2:], which[2:])
    again = ScoreHistogram.from_arrays(histogram.to_arrays())
    for threshold in THRESHOLDS:
        pred = np.where(scores >= np.float32(threshold), which, u8(0))
        pred[np.isnan(scores)] = 255
        direct = Confusion(5)
        direct.add(pred, truth, border)
        expected = direct.compute()
        for found in (histogram.metrics(threshold, border), again.metrics(threshold, border)):
            assert found.matrix == expected.matrix
            assert (found.miou, found.per_image_miou, found.coverage) == (
                expected.miou,
                expected.per_image_miou,
                expected.coverage,
            )


def test_one_class_is_the_binary_case():
    """Told to be of class 1, a score gives the figures that it gives where there is only the foreground."""
    rng = np.random.default_rng(0)
    scores, truth = rng.random((3, 9, 9), np.float32), rng.integers(0, 2, (3, 9, 9)).astype(np.uint8)
    one, two = ScoreHistogram(), ScoreHistogram(2)
    one.add(scores, truth)
    two.add(scores, truth, np.ones_like(truth))
    plain, told = one.metrics(0.4), two.metrics(0.4)
    assert plain.matrix is None and "matrix" not in plain.as_dict()
    assert (plain.miou, plain.iou_foreground, plain.per_image_miou) == (told.miou, told.ious[1], told.per_image_miou)
    assert math.isnan(told.ious[2])  # in neither truth nor prediction


def test_of_several_classes_a_border_is_of_none():
    _, which, truth = several()
    with pytest.raises(ValueError, match="give border pixels the code of one"):
        Confusion(5).add(which, truth, "foreground")
    with pytest.raises(SegError, match=r"truth holds the codes \[254\]"):
        Confusion().add(u8([0]), u8([254]))
    with pytest.raises(SegError, match=r"prediction holds the codes \[6\]: only 0, 1, 2, 3, 4, 5 and 255"):
        Confusion(5).add(u8([6]), u8([0]))
