"""A segmenter of classes that follows a linear image classifier."""

from dataclasses import replace
from pathlib import Path

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
    pool = replace(pool, task="classes")
    masks = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
    stage = Segmenter.from_config(
        masks=masks, net=PlainUNet(width=4, depth=2), epochs=2, batch_size=8, lr=1e-2, image_labels=labels
    )
    network = store.get(stage)
    assert isinstance(network, LabelledNetwork)
    images = normalise(data.images[:4])
    with torch.inference_mode():
        own = network.segmenter(images)
        asked = network.classifier(resized(images, 64))
        torch.testing.assert_close(asked, store.get(labels)(resized(images, 64)))  # as it was, whatever was trained
        assert not torch.equal(network(images), own)
        assert torch.equal(network(images).argmax(1) > 0, own.argmax(1) > 0)
    scores = store.get(Predicted(pool=pool, segmenter=stage))
    assert scores.values.shape[1:] == (64, 64)
    # Its file is the same network.
    save_models(
        tmp_path,
        {"prediction": Threshold(scores=Predicted(pool=pool, segmenter=stage), threshold=0.5)},
        [],
        prepared,
        store,
    )
    loaded = load_model(tmp_path / "segmenter.safetensors", "cpu")
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(images), network(images))
    network.train().classifier.eval()  # as it trains: by its own logits
    torch.manual_seed(0)
    assert torch.equal(network(images), network.segmenter(images))
    # Of the foreground alone it would say nothing, so nothing is built for it.
    plain = Segmenter.from_config(
        masks=Threshold(scores=TargetScores(pool=replace(pool, task="foreground")), threshold=0.5),
        net=PlainUNet(width=4, depth=2),
        image_labels=labels,
    )
    assert not any(isinstance(up, ImageLabels) for up in plain.walk())


def test_the_classifier_is_a_function_of_the_labels(store: Store, data: PreparedData, labels: ImageLabels) -> None:
    model = store.get(labels)
    rows = np.flatnonzero(~data.is_test)
    with torch.inference_mode():
        logits = model(resized(normalise(data.images[rows]), 64))
    assert logits.shape == (len(rows), len(data.classes))
    assert ((logits > 0).numpy() == data.is_labelled[rows]).mean() > 0.6


def test_random_features_are_refused(store: Store, prepared: Prepared) -> None:
    with pytest.raises(SegError, match=r"image_labels\.weights=null"):
        ImageLabels(data=prepared, backbone=BACKBONE, weights=None).check(store)
    with pytest.raises(
        SegError, match=r"^image_labels\.weights=none\.pth: no such file.*; image_labels=none does without"
    ):
        ImageLabels(data=prepared, backbone=BACKBONE, weights="none.pth").check(store)
