"""The segmenter's samples, its checkpoints, its predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seg.data.prepared import Pool, Prepared, PreparedData
from seg.errors import SegError
from seg.masks import Threshold
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
    with pytest.raises(SegError, match=r"net\.depth=6: takes images from 64 pixels on, .* see 63; raise segm"):
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
    with pytest.raises(SegError, match="PlainUNet: answers with NaN; its training has diverged"):
        Predicted(pool=pool, segmenter=stage).build(tmp_path, store)


@pytest.mark.parametrize("task", ["foreground", "classes"])
def test_a_checkpoint_has_the_outputs_and_classes_of_the_data(
    store: Store, prepared: Prepared, data: PreparedData, tmp_path: Path, task: Any
) -> None:
    net, file = PlainUNet(width=2, depth=1), tmp_path / "net.pth"
    stage = make(Pool(data=prepared, task=task), net=net)
    given = Segmenter.from_config(str(file), masks=stage.masks, net=net)
    torch.save(net.make(7).state_dict(), file)
    wrong = (
        r"checkpoints\.segmenter=.*net\.pth: does not fit the segmenter of this config .*PlainUNet.*: head\.weight is"
    )
    with pytest.raises(SegError, match=wrong):
        given.check(store)
    torch.save(net.make(3 if task == "classes" else 1).state_dict(), file)
    given.check(store)
    own = ["background", *data.classes]
    for classes in ([own[0], *own[:0:-1]], "cat"):
        file.with_suffix(".json").write_text(json.dumps({"task": task, "classes": classes}))
        if task == "classes":
            with pytest.raises(SegError, match=r"its classes are .*, but those of the data are \['background', "):
                given.check(store)
        else:
            given.check(store)
    file.with_suffix(".json").write_text(json.dumps({"classes": own}))
    given.check(store)
