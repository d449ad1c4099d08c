"""A segmenter of classes that follows a linear image classifier."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seg.data.prepared import Pool, Prepared, PreparedData
from seg.errors import SegError
from seg.masks import Threshold
from seg.models.load import load_model
from seg.models.save import save_models
from seg.nets.augment import normalise
from seg.nets.backbones import make_classifier
from seg.segmenter.architectures import PlainUNet
from seg.segmenter.labelled import LabelledNetwork
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.image_labels import ImageLabels, resized
from seg.supervision.mask import TargetScores

BACKBONE = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def labels(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> ImageLabels:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "shufflenet.pth"
    torch.save(make_classifier(BACKBONE, 2, None).state_dict(), file)
    return ImageLabels(data=prepared, backbone=BACKBONE, weights=str(file), size=64)


def test_a_segmenter_follows_the_image_classifier(
    store: Store, prepared: Prepared, data: PreparedData, pool: Pool, labels: ImageLabels, tmp_path: Path
) -> None:
    several = replace(pool, task="classes")
    options: Any = {
        "net": PlainUNet(width=4, depth=2),
        "epochs": 2,
        "batch_size": 8,
        "lr": 1e-2,
        "image_labels": labels,
    }
    target = Threshold(scores=TargetScores(pool=several), threshold=0.5)
    stage = Segmenter.from_config(masks=target, **options)
    network, images = store.get(stage), normalise(np.array(data.images[:4]))
    assert isinstance(network, LabelledNetwork)
    with torch.inference_mode():
        own, found = network.segmenter(images), network(images)
        predicted = network.classifier(resized(images, 64))
        torch.testing.assert_close(predicted, store.get(labels)(resized(images, 64)))  # it is not trained
    assert not torch.equal(found, own) and torch.equal(found.argmax(1) > 0, own.argmax(1) > 0)
    # Its file is the same network.
    masks = Threshold(scores=Predicted(pool=several, segmenter=stage), threshold=0.5)
    store.ensure(masks)
    save_models(tmp_path, {"prediction": masks}, [], prepared, store)
    loaded = load_model(tmp_path / "segmenter.safetensors", "cpu")
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(images), found)
    network.train().classifier.eval()
    assert torch.equal(network(images), network.segmenter(images))
    # It is not used for the foreground alone.
    plain = Segmenter.from_config(masks=Threshold(scores=TargetScores(pool=pool), threshold=0.5), **options)
    assert not any(isinstance(up, ImageLabels) for up in plain.walk())


def test_the_classifier_is_a_function_of_the_labels(store: Store, data: PreparedData, labels: ImageLabels) -> None:
    rows = np.flatnonzero(~data.is_test)
    with torch.inference_mode():
        logits = store.get(labels)(resized(normalise(data.images[rows]), 64))
    assert logits.shape == (len(rows), len(data.classes))
    assert ((logits > 0).numpy() == data.is_labelled[rows]).mean() > 0.6


def test_weights_are_needed(store: Store, labels: ImageLabels) -> None:
    for weights, message in (
        (None, "null: needs"),
        ("none.pth", r"none\.pth: no such.*; image_labels=none does without"),
    ):
        with pytest.raises(SegError, match=rf"^image_labels\.weights={message}"):
            replace(labels, weights=weights).check(store)
