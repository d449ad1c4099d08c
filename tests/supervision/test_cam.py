"""Class activation maps against their definition."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from seg.data.prepared import Pool, PreparedData
from seg.methods.cam import multi_scale_cam
from seg.nets.augment import normalise
from seg.store import Runtime, Store
from seg.supervision.cam import CAM
from seg.supervision.classifier import Classifier
from seg.supervision.feature_cache import FeatureCache
from seg.train import Pretrained


def make(pool: Pool, classifier: Classifier, **changed: Any) -> CAM:
    return CAM(pool=pool, classifier=classifier, **changed)


def maps_of(cam: CAM, store: Store, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    model = store.get(cam.classifier)
    with torch.inference_mode():
        return multi_scale_cam(model.features, model.linear.weight, images, labels, scales=cam.scales, flip=cam.flip)


def test_every_image_of_the_pool_gets_a_map(
    store: Store, data: PreparedData, pool: Pool, classifier: Classifier
) -> None:
    cam = make(pool, classifier)
    scores = store.get(cam)
    assert scores.values.shape == (32, 4, 4) and scores.values.dtype == np.float16
    assert scores.rows.tolist() == list(range(32))
    values = np.asarray(scores.values, np.float32).reshape(32, -1)
    assert (values.min(1) == 0).all() and (values.max(1) == 1).all()
    folder = store.folder(cam)
    assert (folder / "ids.txt").read_text().split() == data.ids
    # By hand, for the image's own label.
    model = store.get(classifier)
    with torch.inference_mode():
        fmap = model.features(normalise(data.images[[3]]))[0]
        by_hand = torch.einsum("chw,c->hw", fmap, model.linear.weight[data.labels[3]])
    by_hand = (by_hand - by_hand.min()) / (by_hand.max() - by_hand.min())
    np.testing.assert_allclose(values[3].reshape(4, 4), by_hand.numpy(), atol=2e-3)


def test_the_predicted_class_is_the_classifiers(
    store: Store, data: PreparedData, pool: Pool, classifier: Classifier
) -> None:
    images = normalise(data.images[np.arange(32)])
    with torch.inference_mode():
        logits = store.get(classifier)(images)
    answers = logits.argmax(1)
    found = torch.from_numpy(store.get(make(pool, classifier, target="predicted")).values).float()
    torch.testing.assert_close(found, maps_of(make(pool, classifier), store, images, answers), atol=1e-3, rtol=0)
    other = maps_of(make(pool, classifier), store, images, 1 - answers)
    assert not torch.allclose(found, other, atol=1e-3)


@pytest.mark.parametrize(
    "changed",
    [{"scales": [1, 0.5], "flip": True, "target": "predicted"}, {"precision": "bf16-true"}],
    ids=["several passes", "half precision"],
)
def test_epochs_share_what_is_frozen_and_have_the_maps_of_each_alone(
    store: Store, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    store.ensure(frozen(pool, 4))  # whose held-out images share features, too
    computed = []
    write = FeatureCache.__call__
    monkeypatch.setattr(
        FeatureCache,
        "__call__",
        lambda self, compute, images: write(self, lambda x: (computed.append(len(x)), compute(x))[1], images),
    )

    def runtime() -> Runtime:
        return Runtime(accelerator="cpu", progress=False, batch_size=24)

    def maps(cam: CAM, runtime: Runtime) -> np.ndarray:
        out = tmp_path / "CAM" / f"{len(list(tmp_path.glob('CAM/*')))}"
        out.mkdir(parents=True)
        cam.build(out, Store(store.root, runtime))
        return np.load(out / "scores.npy")

    cams = [make(pool, frozen(pool, epoch), **changed) for epoch in (1, 2, 3, 4)]
    alone = [maps(cam, runtime()) for cam in cams]
    passes = len(computed)
    shared = runtime()
    together = [maps(cam, shared) for cam in cams]
    assert len(computed) - passes == passes // 2  # the first two of four
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))
    assert not np.array_equal(alone[0], alone[1])
    assert all(path.name.isdigit() for path in tmp_path.glob("CAM/*"))  # no file is left

    # A network that was given: its frozen part is nothing but what it is.
    given = Pretrained(
        design=cams[0].classifier.design, file=str(store.folder(cams[0].classifier) / "epoch_001.safetensors")
    )
    assert np.array_equal(maps(make(pool, given, **changed), shared), alone[0])
    whole = Pretrained(design=dataclasses.replace(given.design, frozen_stages=0), file=given.file)
    assert whole.key == given.key
    np.testing.assert_allclose(maps(make(pool, whole, **changed), shared), alone[0], atol=2e-3)


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
