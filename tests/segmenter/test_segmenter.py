"""The segmenter's loss, its samples, its predictions."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from seg.data.prepared import Pool, PreparedData
from seg.errors import SegError
from seg.masks import Threshold
from seg.nets.augment import normalise
from seg.segmenter.architectures import PlainUNet
from seg.segmenter.losses import focal_loss
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.mask import TruthScores


def some(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 9, 7, generator=generator)
    masks = torch.randint(0, 3, (2, 9, 7), generator=generator).to(torch.uint8)
    return logits, torch.where(masks == 2, 255, masks).to(torch.uint8)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_torchvisions_on_the_known_pixels(gamma: float) -> None:
    logits, masks = some()
    known = masks != 255
    expected = sigmoid_focal_loss(logits[known], (masks == 1).float()[known], alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(focal_loss(logits, masks, gamma), expected)


def test_without_focus_it_is_the_cross_entropy() -> None:
    logits, masks = some()
    known = masks != 255
    expected = F.binary_cross_entropy_with_logits(logits[known], (masks == 1).float()[known])
    torch.testing.assert_close(focal_loss(logits, masks, 0.0), expected)


def test_ignored_pixels_have_no_gradient() -> None:
    logits, masks = some()
    logits.requires_grad_()
    focal_loss(logits, masks).backward()
    assert logits.grad is not None
    assert (logits.grad[masks == 255] == 0).all() and (logits.grad[masks != 255] != 0).all()
    # Their values do not matter either.
    moved = torch.where(masks == 255, 100.0, logits.detach())
    assert focal_loss(moved, masks) == focal_loss(logits.detach(), masks)


def test_nothing_known_is_no_loss() -> None:
    logits = torch.ones(1, 2, 2, requires_grad=True)
    loss = focal_loss(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8))
    loss.backward()
    assert loss == 0 and logits.grad is not None and logits.grad.eq(0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sure_answers_have_finite_gradients(gamma: float) -> None:
    logits = torch.tensor([[[90.0, -90.0], [90.0, -90.0]]], requires_grad=True)
    masks = torch.tensor([[[1, 0], [0, 1]]], dtype=torch.uint8)
    focal_loss(logits, masks, gamma).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def make(pool: Pool, **changed: Any) -> Segmenter:
    options = {"net": PlainUNet(width=4, depth=2), "epochs": 2, "batch_size": 8, "lr": 1e-2} | changed
    return Segmenter(masks=Threshold(scores=TruthScores(pool=pool), threshold=0.5), **options)


def test_only_trainval_is_trained_on(store: Store, data: PreparedData, pool: Pool) -> None:
    from seg.supervision.cam import CAM
    from seg.supervision.classifier import Classifier

    classifier = Classifier(data=pool.data, epochs=2, batch_size=8, stages=3, output_stride=16)
    everywhere = Threshold(scores=CAM(pool=pool, classifier=classifier), threshold=0.5)
    stage = Segmenter(masks=everywhere, net=PlainUNet())
    masks = store.get(everywhere)
    assert data.is_test[masks.rows].any()  # the masks cover test, what is learnt does not
    assert masks.rows[stage.samples(store)].tolist() == np.flatnonzero(~data.is_test).tolist()


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


@pytest.mark.parametrize(
    ("depth", "input_size", "small"), [(6, 32, True), (6, 63, True), (5, 32, False), (6, None, False)]
)
def test_a_network_too_deep_for_its_images_is_refused_before_the_work(
    store: Store, pool: Pool, depth: int, input_size: int | None, small: bool
) -> None:
    stage = make(pool, net=PlainUNet(width=2, depth=depth), input_size=input_size)
    side = input_size or 64  # of the pool's images
    if small:
        with pytest.raises(SegError, match=rf"net\.depth=6: takes images from 64 pixels on, .* see {side}; raise segm"):
            stage.check(store)
    else:
        stage.check(store)
        assert stage.network(store)(torch.zeros(2, 3, side, side)).shape == (2, 1, side, side)


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


def test_the_network_enters_the_key(pool: Pool) -> None:
    keys = {
        make(pool, **changed).key
        for changed in ({}, {"net": PlainUNet(width=5, depth=2)}, {"gamma": 1.0}, {"input_size": 32})
    }
    assert len(keys) == 4
