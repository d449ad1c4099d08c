"""A run's networks as files, made once."""

from typing import Any

import pytest

from seg.masks import Threshold
from seg.models.save import save_models
from seg.segmenter.architectures import PlainUNet
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.supervision.cam import CAM


@pytest.fixture(scope="session")
def prediction(pool):
    """Makes the masks of a tiny segmenter that learns from other masks."""

    def make(masks, checkpoint=None, **changed):
        options: dict[str, Any] = {"net": PlainUNet(width=2, depth=1), "epochs": 1, "batch_size": 8, "input_size": 32}
        given = None if checkpoint is None else str(checkpoint)
        segmenter = Segmenter.from_config(checkpoint=given, masks=masks, **options | changed)
        return Threshold(scores=Predicted(pool=pool, segmenter=segmenter), threshold=0.5)

    return make


@pytest.fixture(scope="module")
def saved(store, pool, prepared, classifier, prediction, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "models"
    seeds = Threshold(scores=CAM(pool=pool, classifier=classifier), threshold=0.5)
    products = {"seeds": seeds, "prediction": prediction(seeds)}
    rows = [{"stage": name, "split": "test", "miou": 0.25, "coverage": float("nan")} for name in products]
    for product in products.values():
        store.ensure(product)
    save_models(folder, products, rows, prepared, store)
    return folder, products
