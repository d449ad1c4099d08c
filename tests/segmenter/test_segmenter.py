"""The segmenter's samples, its checkpoints, its predictions."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from seg import predict
from seg.data.decode import decode_image
from seg.data.image_folder import ImageFolder
from seg.data.prepared import Pool, Prepared, PreparedData
from seg.errors import SegError
from seg.masks import Threshold
from seg.models.load import load_model
from seg.models.save import save_models
from seg.nets.augment import normalise
from seg.segmenter.architectures import PlainUNet
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.mask import TargetScores


def make(pool: Pool, **changed: Any) -> Segmenter:
    options: dict[str, Any] = {"net": PlainUNet(width=4, depth=2), "epochs": 2, "batch_size": 8, "lr": 1e-2} | changed
    return Segmenter(masks=Threshold(scores=TargetScores(pool=pool), threshold=0.5), **options)


def test_a_batch(store: Store, data: PreparedData, pool: Pool) -> None:
    stage = make(pool, flip=False, zoom=1.0, jitter=0.0)
    positions = np.asarray([2, 0])
    images, masks = stage.batch(positions, torch.Generator(), store)
    learnt = store.get(stage.masks)
    assert torch.equal(images, normalise(data.images[learnt.rows[positions]]))
    assert masks.tolist() == learnt.at(positions).tolist()
    small = make(pool, input_size=32)
    images, masks = small.batch(positions, torch.Generator().manual_seed(0), store)
    assert images.shape == (2, 3, 32, 32) and masks.shape == (2, 32, 32)
    assert masks.dtype == torch.uint8 and set(masks.unique().tolist()) <= {0, 1, 255}


def test_a_network_too_deep_for_its_images_is_refused_before_the_work(store: Store, pool: Pool) -> None:
    deep = PlainUNet(width=2, depth=6)
    with pytest.raises(SegError, match=r"net\.depth=6: needs images of at least 64 pixels, .* has 63; raise segm"):
        make(pool, net=deep, input_size=63).check(store)
    stage = make(pool, net=deep)  # of the pool's 64 pixels
    stage.check(store)
    assert stage.network(store)(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 64, 64)


def test_training_and_prediction(store: Store, data: PreparedData, pool: Pool) -> None:
    stage = make(pool, input_size=32, schedule="cosine", keep="last")
    predicted = Predicted(pool=pool, segmenter=stage)
    scores = store.get(predicted)
    assert scores.values.shape == (32, 32, 32) and scores.rows.tolist() == list(range(32))
    with torch.inference_mode():
        images = F.interpolate(normalise(data.images[[5]]), (32, 32), mode="bilinear", antialias=True)
        expected = store.get(stage)(images)[0, 0].sigmoid()
    np.testing.assert_allclose(scores.values[5], expected, atol=2e-3)
    history = stage.history(store)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] and 0 < history["pixel_accuracy"].iloc[-1] <= 1


def test_a_network_that_answers_with_nan_is_refused(
    store: Store, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make(pool, epochs=1)
    monkeypatch.setattr(
        "seg.segmenter.predicted.logits", lambda model, images, *_: torch.full((len(images), 1, 2, 2), np.nan)
    )
    with pytest.raises(SegError, match="PlainUNet: predicts NaN, its training has diverged"):
        Predicted(pool=pool, segmenter=stage).build(tmp_path, store)


@pytest.mark.parametrize("task", ["foreground", "classes"])
def test_a_checkpoint_has_the_outputs_and_classes_of_the_data(
    store: Store, prepared: Prepared, data: PreparedData, tmp_path: Path, task: Any
) -> None:
    net, file = PlainUNet(width=2, depth=1), tmp_path / "net.pth"
    stage = make(Pool(data=prepared, task=task), net=net)
    given = Segmenter.from_config(str(file), masks=stage.masks, net=net)
    torch.save(net.make(7).state_dict(), file)
    with pytest.raises(
        SegError, match=r"net\.pth: does not fit the segmenter of this config .*PlainUNet.*: head\.weight"
    ):
        given.check(store)
    torch.save(net.make(3 if task == "classes" else 1).state_dict(), file)
    given.check(store)
    own = ["background", *data.classes]
    file.with_suffix(".json").write_text(json.dumps({"classes": [own[0], *own[:0:-1]]}))
    is_wrong = pytest.raises(SegError, match=r"its classes are .*, but those of the data are \['background', ")
    with is_wrong if task == "classes" else contextlib.nullcontext():
        given.check(store)
    file.with_suffix(".json").write_text(json.dumps({"classes": own}))
    given.check(store)


@pytest.fixture
def oblong(tmp_path: Path) -> Pool:
    """Twelve photos of 64 x 32 pixels whose left half is foreground: red there, blue elsewhere."""
    image, mask = np.zeros((32, 64, 3), np.uint8), np.zeros((32, 64), np.uint8)
    image[:, :32, 0] = image[:, 32:, 2] = 255
    mask[:, :32] = 255
    for folder in ("photos/a", "masks/a"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(12):
        Image.fromarray(image).save(tmp_path / f"data/photos/a/{i}.png")
        Image.fromarray(mask).save(tmp_path / f"data/masks/a/{i}.png")
    root = str(tmp_path / "data")
    source = ImageFolder(root=root, mask_codes="binary", test_share=0.2, split_seed=0)
    return Pool(data=Prepared(source=source, size=64))


def test_crops_are_of_images_at_their_aspect(new_store: Store, oblong: Pool) -> None:
    stage = make(oblong, crop=48, scale=[0.5, 0.5], flip=False, jitter=0.0)
    images, masks = stage.batch(np.asarray([0, 3]), torch.Generator().manual_seed(0), new_store)
    assert images.shape == (2, 3, 48, 48) and masks.dtype == torch.uint8
    for image, mask in zip(images, masks, strict=True):
        known = mask != 255
        assert known.sum() == 32 * 16 and (mask == 1).sum() == 16 * 16  # half of the size, and not squashed
        assert image[:, ~known].abs().max() < 0.02  # the mean colour beyond it
        assert (image[0, mask == 1] > 0).all() and (image[0, mask == 0] < 0).all()
    (left, right) = ((mask != 255).nonzero()[0].tolist() for mask in masks)
    assert left != right
    # Twice as large, a crop is part of the image.
    large = make(oblong, crop=48, scale=[2, 2], flip=False, jitter=0.0)
    assert (large.batch(np.arange(8), torch.Generator().manual_seed(0), new_store)[1] != 255).all()


def test_whole_images_are_predicted_at_their_aspect(new_store: Store, oblong: Pool, tmp_path: Path) -> None:
    seen = []
    net = PlainUNet(width=2, depth=2)
    stage = make(oblong, net=net, crop=32, epochs=16, optimizer="sgd", schedule="poly", lr=0.15, gamma=0.0)
    network = new_store.get(stage)
    network.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    masks = Threshold(scores=Predicted(pool=oblong, segmenter=stage, scales=[1.0, 2.0]), threshold=0.5)
    found = new_store.get(masks).at(np.asarray([0, 5]), (32, 64))
    assert {*seen} == {(1, 3, 32, 64), (1, 3, 64, 128)}
    assert (found == (np.arange(64) < 32)).mean() > 0.95
    # The model in the run's folder does the same.
    plain = Threshold(scores=Predicted(pool=oblong, segmenter=stage), threshold=0.5)
    new_store.ensure(plain)
    save_models(tmp_path / "models", {"prediction": plain}, [], oblong.data, new_store)
    model = load_model(tmp_path, "cpu")
    image = decode_image(tmp_path / "data/photos/a/0.png")[0]
    scores = predict(model, [image, image], scores=True)
    np.testing.assert_allclose(
        scores[1], new_store.get(plain).scores.argmax(np.asarray([0]), (32, 64))[0][0], atol=2e-3
    )


def test_sizes_of_crops_that_make_no_sense(pool: Pool) -> None:
    with pytest.raises(SegError, match=r"scale=\[2\.0, 0\.5\]: must be the smallest and the largest"):
        make(pool, scale=[2.0, 0.5])
    assert "zoom" in make(pool, crop=32).unused_parameters and "scale" in make(pool).unused_parameters
