"""Masks that tell classes apart, through the chain: pictures with two kinds of squares on noise."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torchvision.models import resnet18

from seg.data.dataset import Dataset, Record, Region, Task
from seg.data.prepared import Pool, Prepared
from seg.data.sources import Source
from seg.errors import SegError
from seg.evaluation.stages import Evaluated
from seg.masks import Threshold
from seg.methods.cam import multi_scale_cam
from seg.methods.walk import random_walk
from seg.nets.augment import normalise
from seg.refiner.affinity import FrozenAffinity
from seg.refiner.by_image import GrabCut, RandomWalker, Superpixels
from seg.refiner.pamr import PAMR
from seg.refiner.walk import Walk
from seg.segmenter.architectures import PlainUNet
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.supervision.appearance import Appearance
from seg.supervision.bbox import BoxScores
from seg.supervision.cam import CAM
from seg.supervision.classifier import Classifier
from seg.supervision.colocalise import Colocalised
from seg.supervision.mask import TargetScores

SIDE = 64
PLACES = ((6, 8), (34, 30))  # of a square's corner, by class


class Squares(Source):
    """Red squares, blue squares, both, or none; classes ``red`` and ``blue``, with boxes and ground-truth masks."""

    stored = False
    folder: str

    def load(self, path, store):
        from PIL import Image

        records, rng = [], np.random.default_rng(0)
        for number in range(16):
            labels = ((0,), (1,), (0, 1), ())[number % 4]
            pixels = rng.integers(90, 140, (SIDE, SIDE, 3)).astype(np.uint8)
            boxes = [(x, y, x + 20, y + 20) for label in labels for x, y in [PLACES[label]]]
            for label, (x, y, right, bottom) in zip(labels, boxes, strict=True):
                pixels[y:bottom, x:right] = (230, 20, 20) if label == 0 else (20, 20, 230)
            file = Path(self.folder) / f"{number}.png"
            Image.fromarray(pixels).save(file)
            regions = tuple(
                Region(1 + label, polygons=((x, y, a, y, a, b, x, b),))
                for label, (x, y, a, b) in zip(labels, boxes, strict=True)
            )
            split = "test" if number >= 12 else "trainval"
            floats = tuple(tuple(map(float, box)) for box in boxes)
            records.append(Record(str(number), file, labels, split, None, floats, box_labels=labels, regions=regions))
        return Dataset(("red", "blue"), tuple(records))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return Prepared(source=Squares(folder=str(tmp_path_factory.mktemp("squares"))), size=SIDE)


@pytest.fixture(scope="module")
def squares(images):
    return Pool(data=images, task="classes")


@pytest.fixture(scope="module")
def classifier(images):
    return Classifier(data=images, epochs=1, batch_size=4, hold_out=0.25, stages=3, output_stride=16)


def boxes(pool):
    scores = BoxScores(pool=pool, divisor=2.0, clip=True, resolution=SIDE, test_images=True)
    return Threshold(scores=scores, threshold=0.3)


def test_boxes_are_of_their_classes(store, squares):
    masks = store.get(boxes(squares))
    assert [masks.data.ids[row] for row in masks.rows] == [str(n) for n in range(16) if n % 4 != 3]
    made = masks.at(np.arange(3))
    assert [np.unique(one).tolist() for one in made] == [[0, 1], [0, 2], [0, 1, 2]]
    target = masks.data.target(masks.rows[:3])
    assert (made[target == 0] == 0).all() and ((made == target) | (made == 0)).all()
    metrics = store.get(Evaluated(masks=boxes(squares), split="trainval"))
    wanted = [((target == c) & (made == c)).sum() / ((target == c) | (made == c)).sum() for c in range(3)]
    assert metrics.images == 9 and metrics.ious == pytest.approx(wanted)


def test_the_foreground_is_any_class(store, images, squares):
    plain = store.get(boxes(Pool(data=images)))
    told = store.get(boxes(squares))
    np.testing.assert_array_equal(plain.at(np.arange(9)), told.at(np.arange(9)) > 0)
    assert Pool(data=images).key != squares.key
    assert Pool(data=images, task="foreground").key == Pool(data=images).key


def test_several_labels_are_learnt_as_such(store, images, classifier):
    data = store.get(images)
    assert classifier.is_logistic(data) and not Classifier(data=images, kind="softmax").is_logistic(data)
    pictures, labels = classifier.batch(np.asarray([0, 2, 3]), torch.Generator(), store)
    assert labels.tolist() == [[1, 0], [1, 1], [0, 0]]
    logits = torch.tensor([[2.0, -1], [1, 1], [1, -1]])

    class Fixed(torch.nn.Module):
        def forward(self, x):
            return logits

    loss, metrics = classifier.loss(Fixed(), (pictures, labels))
    expected = torch.nn.MultiLabelSoftMarginLoss()(logits, labels)
    torch.testing.assert_close(loss, expected)
    assert float(metrics["all_labels_right"]) == pytest.approx(2 / 3)  # the last finds what is not there
    with pytest.raises(SegError, match=r"classifier\.kind=softmax: some images have no label"):
        Classifier(data=images, kind="softmax").batch(np.asarray([0, 3]), torch.Generator(), store)


def test_the_held_out_figure_of_several_labels_is_map(store, images):
    stage, data = Classifier(data=images, hold_out=0.5), store.get(images)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    rows = stage._rows(store)[1]
    with torch.inference_mode():
        scores = model(normalise(torch.from_numpy(data.images[rows]))).numpy()
    expected = average_precision_score(data.is_labelled[rows], scores, average="macro")
    assert 0 < expected < 1 and stage.held_out(model, store) == {"held_out_map": pytest.approx(expected)}


def test_a_cam_for_each_label(store, images, squares, classifier):
    """From one pass, and the maps are those that each class gets alone."""
    scores = store.get(CAM(pool=squares, classifier=classifier, flip=True, scales=(1.0, 1.5)))
    assert scores.ids[:4] == [[1], [2], [1, 2], []]
    maps = scores.per_class(np.asarray([2]), (6, 6))
    model = store.get(classifier)
    features, weight = model.features, model.linear.weight
    stage = CAM(pool=squares, classifier=classifier, flip=True, scales=(1.0, 1.5))
    picture = normalise(store.get(images).images[[2]])
    with torch.inference_mode():
        alone = [
            multi_scale_cam(features, weight, picture, torch.tensor([label]), scales=(1.0, 1.5), flip=True)[0]
            for label in (0, 1)
        ]
    torch.testing.assert_close(torch.from_numpy(maps.values), torch.stack(alone), atol=2e-3, rtol=0)
    # Of the foreground it is the larger of both, and nothing where there is none.
    plain = store.get(CAM(pool=Pool(data=images), classifier=classifier, flip=True, scales=(1.0, 1.5)))
    np.testing.assert_allclose(plain.argmax(np.asarray([2]), (6, 6))[0][0], maps.values.max(0), atol=2e-3)
    assert (plain.argmax(np.asarray([3]))[0] == 0).all()
    assert (store.get(Threshold(scores=stage, threshold=0.5)).at(np.asarray([3])) == 0).all()


def test_each_class_has_its_own_appearance(store, squares):
    """Where both boxes are of both classes, the colours of the images with one alone tell which square is whose."""
    maps = store.get(Appearance(scores=boxes(squares).scores, least=1, features=64, smooth=0))
    assert maps.ids[:3] == [[1], [2], [1, 2]]
    is_test, (_, learnt) = maps.data.is_test[maps.rows], Appearance(scores=boxes(squares).scores)._groups(maps)
    assert is_test.any() and (learnt == ~is_test).all()
    red, blue = maps.per_class(np.asarray([2])).values
    (x, y), (a, b) = ((x + 10, y + 10) for x, y in PLACES)
    assert min(red[y, x], blue[b, a]) > 0.5 > max(red[b, a], blue[y, x])


def test_every_class_walks_by_the_same_affinities(store, squares, classifier):
    """As it would walk alone; where an image has fewer maps than its neighbour in the batch nothing is added."""
    scores = replace(boxes(squares).scores, clip=False)  # no pixel keeps its label
    frozen = FrozenAffinity(classifier=classifier, strides=(8,))
    walked = store.get(Walk(scores=scores, affinity=frozen, beta=4.0, log_steps=3, rescale=False))
    assert walked.ids[:3] == [[1], [2], [1, 2]]
    net, before = store.get(frozen), store.get(scores)
    for position in range(3):
        with torch.inference_mode():
            affinity = net(normalise(before.data.images[before.rows[[position]]]))
        maps = torch.from_numpy(before.per_class(np.asarray([position]), (16, 16)).values)
        one = [random_walk(affinity, m[None, None], offsets=net.offsets, beta=4.0, steps=8)[0, 0] for m in maps]
        found = torch.from_numpy(walked.per_class(np.asarray([position]), (16, 16)).values)
        torch.testing.assert_close(found, torch.stack(one), atol=2e-3, rtol=0)


def test_the_segmenter_tells_them_apart(store, squares):
    target = Threshold(scores=TargetScores(pool=squares), threshold=0.5)
    segmenter = Segmenter(
        masks=target,
        net=PlainUNet(width=8, depth=2),
        gamma=0.0,
        epochs=40,
        batch_size=4,
        lr=1e-2,
        jitter=0.0,
        zoom=1.0,
        flip=False,
    )
    assert store.get(segmenter)(torch.zeros(2, 3, 64, 64)).shape == (2, 3, 64, 64)
    predicted = Threshold(scores=Predicted(pool=squares, segmenter=segmenter), threshold=0.5)
    assert store.get(Evaluated(masks=predicted, split="test")).miou > 0.9
    masks = store.get(predicted)
    with torch.inference_mode():
        logits = store.get(segmenter)(normalise(masks.data.images[:4]))
    np.testing.assert_array_equal(masks.at(np.arange(4)), logits.argmax(1).numpy())


def test_a_border_of_classes_is_no_classs(store, squares):
    with pytest.raises(SegError, match=r"evaluation\.border=foreground: goes with one class alone"):
        Evaluated(masks=boxes(squares), split="test", border="foreground").check(store)


def choices(pool):
    """What supervisions, co-localisations and refiners make of the images of a pool."""
    weights = Path(pool.data.source.folder) / "weights.pth"
    if weights.parent.exists() and not weights.exists():
        torch.save(resnet18(weights=None).state_dict(), weights)
    classifier = Classifier(data=pool.data, epochs=1, batch_size=4, hold_out=0.25, stages=3, output_stride=16)
    cam = CAM(pool=pool, classifier=classifier)
    return {
        "cam": cam,
        "boxes": BoxScores(pool=pool, resolution=SIDE),
        "body boxes": BoxScores(pool=pool, resolution=SIDE, box_source="trimap"),
        "pca": Colocalised(
            scores=cam, backbone="resnet18", weights=str(weights), levels=("layer1",), size=SIDE, dims=16, rounds=2
        ),
        "appearance": Appearance(scores=cam, least=1, features=32),
        "walk": Walk(scores=cam, affinity=FrozenAffinity(classifier=classifier, strides=(8,)), log_steps=3),
        "pamr": PAMR(scores=cam, dilations=(1, 2), iterations=2),
        "superpixels": Superpixels(scores=cam),
        "random walker": RandomWalker(scores=cam),
        "grabcut": GrabCut(scores=cam),
    }


@pytest.mark.parametrize("task", get_args(Task))
@pytest.mark.parametrize("name", [*choices(Pool(data=Prepared(source=Squares(folder="/nowhere"))))])
def test_an_image_without_a_label_is_background_alone(store, images, task, name):
    if name == "grabcut":
        pytest.importorskip("cv2")
    masks = store.get(Threshold(scores=choices(Pool(data=images, task=task))[name], threshold=0.3))
    made = masks.at(np.arange(len(masks)))
    for row, mask in zip(masks.rows, made, strict=True):
        codes = {label + 1 for label in masks.data.label_sets[row]}
        assert set(np.unique(mask).tolist()) <= {0, *codes}
        assert codes or not mask.any()
    assert made.any()
