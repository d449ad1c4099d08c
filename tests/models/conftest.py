"""A run's networks as files, made once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seg.data.prepared import Pool, Prepared
from seg.masks import Threshold
from seg.models.save import save_models
from seg.segmenter.architectures import PlainUNet
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.cam import CAM
from seg.supervision.classifier import Classifier


@pytest.fixture(scope="session")
def prediction(pool: Pool) -> Callable[..., Threshold]:
    """Makes the masks of a tiny segmenter that learns from other masks."""

    def make(masks: Threshold, checkpoint: Path | None = None, **changed: Any) -> Threshold:
        options: dict[str, Any] = {"net": PlainUNet(width=2, depth=1), "epochs": 1, "batch_size": 8, "input_size": 32}
        given = None if checkpoint is None else str(checkpoint)
        segmenter = Segmenter.from_config(checkpoint=given, masks=masks, **options | changed)
        return Threshold(scores=Predicted(pool=pool, segmenter=segmenter), threshold=0.5)

    return make


@pytest.fixture(scope="module")
def saved(
    store: Store,
    pool: Pool,
    prepared: Prepared,
    classifier: Classifier,
    prediction: Callable[..., Threshold],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Threshold]]:
    folder = tmp_path_factory.mktemp("run") / "models"
    seeds = Threshold(scores=CAM(pool=pool, classifier=classifier), threshold=0.5)
    products = {"seeds": seeds, "prediction": prediction(seeds)}
    rows = [{"stage": name, "split": "test", "miou": 0.25, "coverage": float("nan")} for name in products]
    for product in products.values():
        store.ensure(product)
    save_models(folder, products, rows, prepared, store)
    return folder, products
