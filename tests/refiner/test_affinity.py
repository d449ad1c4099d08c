"""AffinityNet and the walk as stages."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seg.data.prepared import Pool, PreparedData
from seg.errors import SegError
from seg.masks import Threshold
from seg.methods.walk import random_walk
from seg.nets.augment import normalise
from seg.refiner.affinity import Affinity, FrozenAffinity, to_grid
from seg.refiner.walk import Walk
from seg.store import Store
from seg.supervision.cam import CAM
from seg.supervision.classifier import Classifier
from seg.supervision.mask import TargetScores


@pytest.fixture(scope="module")
def full(prepared: Any) -> Classifier:
    """A classifier with all of its stages: AffinityNet starts from it."""
    return Classifier(data=prepared, epochs=1, batch_size=8)


@pytest.fixture
def cam(pool: Pool, full: Classifier) -> CAM:
    return CAM(pool=pool, classifier=full)


def make(cam: CAM, **changed: Any) -> Affinity:
    options = {"classifier": cam.classifier, "epochs": 1, "batch_size": 8, "channels": 8, "lr": 1e-3} | changed
    return Affinity(seeds=Threshold(scores=cam, threshold=0.5, band=0.1), **options)


def test_the_classifier_is_upstream_only_without_weights(pool: Pool, cam: CAM, resnet18_file: str) -> None:
    boxes = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
    one = Affinity(seeds=boxes, classifier=cam.classifier)
    assert one.upstream().keys() == {"seeds", "classifier"}
    two = Affinity(seeds=boxes, classifier=cam.classifier, weights=resnet18_file)
    assert two.upstream().keys() == {"seeds"}
    assert not any(isinstance(stage, Classifier) for stage in two.walk())
    assert two.key == Affinity(seeds=boxes, weights=resnet18_file).key != one.key


def test_refusals(cam: CAM, new_store: Store) -> None:
    for without in (make(cam, classifier=None), FrozenAffinity()):
        with pytest.raises(SegError, match=r"AffinityNet needs weights= .* or a classifier"):
            without.check(new_store)
    with pytest.raises(SegError, match=r"backbone=mobilenet_v2 has no weights and cannot start from .* resnet18"):
        make(cam, backbone="mobilenet_v2").check(new_store)
    with pytest.raises(SegError, match=r"levels=\[5\]: must be levels of a backbone"):
        make(cam, strides=[5]).check(new_store)
    assert not new_store.root.exists()


def test_the_backbone_starts_where_it_is_told(store: Store, cam: CAM, resnet18_file: str) -> None:
    trained = store.get(cam.classifier).state_dict()
    net = make(cam).network(store).state_dict()
    assert any(torch.equal(v, trained["layer3.1.conv2.weight"]) for v in net.values())
    net = make(cam, weights=resnet18_file).network(store).state_dict()
    given = torch.load(resnet18_file, weights_only=True)["layer3.1.conv2.weight"]
    assert any(torch.equal(v, given) for v in net.values())


def test_labels_go_to_the_grid_unblended() -> None:
    masks = torch.zeros(1, 10, 8, dtype=torch.uint8)
    masks[0, 4:8, :4], masks[0, 8:, :] = 1, 255
    assert to_grid(masks).tolist() == [[[0, 0], [1, 0], [255, 255]]]


@pytest.mark.parametrize("trained", [True, False])
def test_the_walk_is_that_of_the_networks_affinities(store: Store, data: PreparedData, cam: CAM, trained: bool) -> None:
    affinity = make(cam) if trained else FrozenAffinity(classifier=cam.classifier, strides=(4, 8))
    walk = Walk(scores=cam, affinity=affinity, beta=4.0, log_steps=3, rescale=False)
    assert any(isinstance(stage, Affinity) for stage in walk.walk()) == trained
    scores, net, before = store.get(walk), store.get(affinity), store.get(cam)
    assert scores.values.shape == (32, 16, 16) and scores.rows.tolist() == before.rows.tolist() and not net.training
    with torch.inference_mode():
        start = torch.from_numpy(before.argmax(np.asarray([9]), (16, 16))[0])[:, None]
        pairs = net(normalise(data.images[[9]]))
        expected = random_walk(pairs, start, offsets=net.offsets, beta=4.0, steps=8)[0, 0]
    np.testing.assert_allclose(scores.values[9], expected, atol=2e-3)
    rescaled = store.get(replace(walk, rescale=True)).values[9].astype(np.float32)
    np.testing.assert_allclose(rescaled, (expected - expected.min()) / (expected.max() - expected.min()), atol=2e-3)
