"""Class activation maps against their definition."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from seg.data.prepared import Pool, PreparedData
from seg.nets.augment import normalise
from seg.store import Runtime, Store
from seg.supervision.cam import CAM
from seg.supervision.classifier import Classifier
from seg.supervision.feature_cache import FeatureCache
from seg.train import Pretrained


@pytest.mark.parametrize("target", ["label", "predicted"])
def test_every_image_gets_the_map_of_its_class(
    store: Store, data: PreparedData, pool: Pool, classifier: Classifier, target: Any
) -> None:
    cam, model, images = (
        CAM(pool=pool, classifier=classifier, target=target),
        store.get(classifier),
        normalise(np.array(data.images)),
    )
    scores = store.get(cam)
    assert scores.values.shape == (32, 4, 4) and scores.values.dtype == np.float16
    assert scores.rows.tolist() == list(range(32)) and (store.folder(cam) / "ids.txt").read_text().split() == data.ids
    with torch.inference_mode():
        classes = torch.from_numpy(data.labels) if target == "label" else model(images).argmax(1)
        features = model.features(images)
        maps = torch.einsum("bchw,bc->bhw", features, model.linear.weight[classes])
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    np.testing.assert_allclose(scores.values, (maps - low) / (high - low), atol=2e-3)


@pytest.mark.parametrize(
    "changed",
    [{"scales": [1, 0.5], "flip": True, "target": "predicted"}, {"precision": "bf16-true"}],
    ids=["several passes", "half precision"],
)
def test_epochs_share_what_is_frozen_and_have_the_maps_of_each_alone(
    store: Store, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    store.ensure(frozen(pool, 4))  # whose held-out images share features, too
    computed, call = [], FeatureCache.__call__

    def counted(self: FeatureCache, compute: Any, images: torch.Tensor) -> torch.Tensor:
        return call(self, lambda x: (computed.append(len(x)), compute(x))[1], images)

    monkeypatch.setattr(FeatureCache, "__call__", counted)

    def runtime() -> Runtime:
        return Runtime(accelerator="cpu", progress=False, batch_size=24)

    def maps(cam: CAM, runtime: Runtime) -> np.ndarray:
        out = tmp_path / "CAM" / f"{len(list(tmp_path.glob('CAM/*')))}"
        out.mkdir(parents=True)
        cam.build(out, Store(store.root, runtime))
        return np.load(out / "scores.npy")

    cams = [CAM(pool=pool, classifier=frozen(pool, epoch), **changed) for epoch in (1, 2, 3, 4)]
    alone = [maps(cam, runtime()) for cam in cams]
    passes = len(computed)
    shared = runtime()
    together = [maps(cam, shared) for cam in cams]
    assert len(computed) - passes == passes // 2  # the first two of four
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))
    assert not np.array_equal(alone[0], alone[1])
    assert all(path.name.isdigit() for path in tmp_path.glob("CAM/*"))  # no file is left

    # A pretrained network.
    given = Pretrained(
        design=cams[0].classifier.design, file=str(store.folder(cams[0].classifier) / "epoch_001.safetensors")
    )
    assert np.array_equal(maps(CAM(pool=pool, classifier=given, **changed), shared), alone[0])
    whole = Pretrained(design=dataclasses.replace(given.design, frozen_stages=0), file=given.file)
    assert whole.key == given.key
    np.testing.assert_allclose(maps(CAM(pool=pool, classifier=whole, **changed), shared), alone[0], atol=2e-3)


def frozen(pool: Pool, epoch: int) -> Classifier:
    shape: dict[str, Any] = {"batch_size": 8, "stages": 3, "output_stride": 16}
    return Classifier(data=pool.data, epochs=4, epoch=epoch, frozen_stages=2, lr=1e-3, **shape)


def test_features_are_not_kept_where_there_is_no_room(
    store: Store, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = FeatureCache(tmp_path, True)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    passes = []
    for _ in range(3):
        shared.networks += 1
        shared.begin(np.arange(4))
        shared(lambda x: (passes.append(1), 2 * x)[1], torch.ones(4, 3, 8, 8))
    assert len(passes) == 3 and not shared.is_used
