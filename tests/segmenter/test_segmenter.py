"""The segmenter's samples, its switches, its predictions."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from seg.data.prepared import Pool, Prepared, PreparedData
from seg.errors import SegError
from seg.masks import Threshold
from seg.nets.augment import normalise
from seg.refiner.affinity import Affinity
from seg.segmenter.architectures import Architecture, PlainUNet, TorchvisionNetwork
from seg.segmenter.losses import focal_loss, look, soft_targets
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.mask import TruthScores


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


SWITCHES: dict[str, dict[str, Any]] = {
    "band": {"band": 0.2},
    "soft": {"soft": 0.5},
    "averaged": {"averaged": True},
    "correct": {"correct_from": 2, "sure": 0.6},
    "consistency": {"consistency": 1.0},
}


def test_what_is_off_is_in_no_key_and_what_is_on_is_in_one(pool: Pool) -> None:
    plain = make(pool)
    names = {"band", "soft", "averaged", "correct_from", "sure", "decay", "consistency"}
    assert not names & plain.params().keys()
    assert make(pool, sure=0.8, decay=0.5).key == plain.key  # nothing uses them
    keys = {make(pool, **changed).key for changed in SWITCHES.values()}
    assert len(keys | {plain.key}) == 6
    averaged, corrected = SWITCHES["averaged"], SWITCHES["correct"]
    assert make(pool, **averaged, decay=0.5).key != make(pool, **averaged).key == make(pool, **averaged, sure=0.8).key
    assert make(pool, **corrected | {"sure": 0.8}).key != make(pool, **corrected).key
    assert make(pool, **corrected, decay=0.5).key != make(pool, **corrected).key


def test_a_correction_that_never_begins_is_refused(pool: Pool) -> None:
    with pytest.raises(SegError, match=r"segmenter\.correct_from=3: the training ends at epochs=2; begin earlier"):
        make(pool, correct_from=3)
    assert make(pool, correct_from=3, epoch=3).wanted == 3
    for wrong in ({"soft": 1.1}, {"sure": 0.5}, {"decay": 1.0}, {"consistency": -1}, {"correct_from": 1}):
        with pytest.raises(SegError, match=f"Segmenter.{next(iter(wrong))}="):
            make(pool, **wrong)


def test_band_and_soft_targets_of_a_batch(store: Store, pool: Pool, classifier: Any) -> None:
    from seg.supervision.cam import CAM

    masks = Threshold(scores=CAM(pool=pool, classifier=classifier), threshold=0.5, band=0.1)
    rows, still = np.arange(4), {"flip": False, "zoom": 1.0, "jitter": 0.0}

    def learnt(**changed: Any) -> np.ndarray:
        stage = dataclasses.replace(make(pool, **still, **changed), masks=masks)
        return stage.batch(rows, torch.Generator(), store)[1].numpy()

    scores, hard = store.get(masks.scores).argmax(rows)[0], learnt()
    wide = dataclasses.replace(masks, band=0.3)
    np.testing.assert_array_equal(learnt(band=0.2), store.get(wide).at(rows))
    assert (hard == 255).sum() < (learnt(band=0.2) == 255).sum()
    soft = learnt(soft=0.5)
    np.testing.assert_allclose(soft, soft_targets(scores, hard, 0.4, 0.6, 0.5), atol=1e-6)
    assert (np.isnan(soft) == (hard == 255)).all() and ((soft >= 0.5) == (hard == 1)).all()
    # The same pictures and places, with everything that moves them.
    moved = make(pool, soft=0.5).batch(rows, torch.Generator().manual_seed(0), store)
    for ours, theirs in zip(moved, make(pool).batch(rows, torch.Generator().manual_seed(0), store), strict=True):
        assert torch.equal(ours.nan_to_num(255), theirs.to(ours.dtype))  # of truth, a score of 0 or 1


class Pointwise(Architecture):
    """What it says of a pixel depends on that pixel alone, so it says the same in every mirrored view."""

    def make(self) -> nn.Module:
        return nn.Conv2d(3, 1, 1)


def test_consistency_is_the_difference_between_the_two_views(store: Store, pool: Pool) -> None:
    rows, draw = np.arange(3), lambda: torch.Generator().manual_seed(1)
    mirrored = make(pool, net=Pointwise(), consistency=2.0, zoom=1.0)
    batch, model = mirrored.batch(rows, draw(), store), Pointwise().make()
    loss, metrics = mirrored.loss(model, batch)
    torch.testing.assert_close(metrics["inconsistency"], torch.tensor(0.0), atol=1e-9, rtol=0)
    torch.testing.assert_close(loss, make(pool, zoom=1.0).loss(model, batch[:2])[0])

    stage = make(pool, consistency=2.0)
    images, target, theta = stage.batch(rows, draw(), store)
    torch.manual_seed(0)
    model = PlainUNet(width=2, depth=1).make().eval()
    loss, metrics = stage.loss(model, (images, target, theta))
    first, second = (model(x)[:, :1].sigmoid() for x in (images, look(images, theta)))
    apart = ((second - look(first, theta)) ** 2).mean()
    torch.testing.assert_close(metrics["inconsistency"], apart)
    torch.testing.assert_close(loss, focal_loss(model(images)[:, 0], target) + 2 * apart)
    # The first view is no party: its gradient is that of the focal loss.
    expected = ((second - look(first, theta).detach()) ** 2).mean() * 2 + focal_loss(model(images)[:, 0], target)
    weights = list(model.parameters())
    for ours, theirs in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(ours, theirs)
    # With a teacher it is its answer that counts.
    taught = stage.taught(lambda x: torch.full_like(x[:, :1], -50.0), (images, target, theta), 1)  # type: ignore[arg-type]
    torch.testing.assert_close(stage.loss(model, taught)[1]["inconsistency"], (second**2).mean())


def test_the_teacher_corrects_from_its_epoch_on_where_it_is_sure(pool: Pool) -> None:
    stage, images = make(pool, correct_from=2, sure=0.8), torch.zeros(1, 3, 1, 4)
    answer = torch.tensor([0.75, 0.55, 0.3, 0.9]).logit()[None, None, None]  # means 0.95, 0.6, 0.1, 1.0
    target = torch.tensor([[[0, 0, 1, 255]]], dtype=torch.uint8)
    before, after = (stage.taught(lambda _: answer, (images, target), epoch)[1] for epoch in (1, 2))  # type: ignore[arg-type,return-value]
    assert torch.equal(before, target) and after.tolist() == [[[1, 0, 0, 1]]] and after.dtype == torch.uint8


@pytest.mark.parametrize("name", ["everything", "averaged", "correct"])
def test_a_resumed_training_with_switches_is_an_uninterrupted_one(
    store: Store, pool: Pool, tmp_path: Path, name: str
) -> None:
    every: dict[str, Any] = {"decay": 0.8, "input_size": 32}
    every |= SWITCHES[name] if name in SWITCHES else {k: v for one in SWITCHES.values() for k, v in one.items()}

    def weights(place: Path, *epochs: int) -> dict[str, torch.Tensor]:
        own = Store(place, store.runtime)
        for last in epochs:
            stage = make(pool, epochs=last, **every)
            own.ensure(stage)
        return load_file(own.folder(stage) / stage.file_name)

    whole = weights(tmp_path / "whole", 3)
    parted = weights(tmp_path / "parted", 2, 3)
    assert all(torch.equal(value, parted[key]) for key, value in whole.items())


def test_a_segmenter_like_another_differs_in_what_is_said(pool: Pool) -> None:
    first = make(pool, soft=0.5, epochs=3)
    masks = Threshold(scores=Predicted(pool=pool, segmenter=first), threshold=0.5)
    second = Segmenter.from_config(like=first, masks=masks, epochs=4)
    assert isinstance(second, Segmenter) and second.masks is masks and second.epochs == 4 and second.soft == 0.5
    with pytest.raises(SegError, match="like: is a Affinity, not a segmenter"):
        Segmenter.from_config(like=Affinity(seeds=masks), masks=masks)


@pytest.mark.parametrize(
    ("task", "outputs", "says"),
    [
        ("foreground", 7, "of 6 classes, but the masks of this run are of the foreground alone; take task=cl"),
        (
            "classes",
            1,
            "of the foreground alone, but the masks of this run are of 2 classes; take task=foreground",
        ),
        (
            "classes",
            7,
            "of 6 classes, but the masks of this run are of 2 classes; give one of 2 classes, or leave",
        ),
    ],
)
@pytest.mark.parametrize("name", ["unet", "torchvision"])
def test_given_weights_tell_apart_what_the_masks_do(
    store: Store, prepared: Prepared, tmp_path: Path, name: str, task: Any, outputs: int, says: str
) -> None:
    net = PlainUNet(width=2, depth=1) if name == "unet" else TorchvisionNetwork(name="lraspp_mobilenet_v3_large")
    file = tmp_path / "net.pth"
    stage = make(Pool(data=prepared, task=task), net=net)
    given = Segmenter.from_config(str(file), masks=stage.masks, net=net)
    torch.save(net.make(outputs).state_dict(), file)
    with pytest.raises(SegError, match=rf"checkpoints\.segmenter=.*net\.pth: a segmenter {says}"):
        given.check(store)
    torch.save(net.make(3 if task == "classes" else 1).state_dict(), file)
    given.check(store)


def test_given_weights_are_of_the_datas_classes_in_their_order(
    store: Store, prepared: Prepared, data: PreparedData, tmp_path: Path
) -> None:
    net, file = PlainUNet(width=2, depth=1), tmp_path / "net.pth"
    torch.save(net.make(3).state_dict(), file)
    stage = make(Pool(data=prepared, task="classes"), net=net)
    given = Segmenter.from_config(str(file), masks=stage.masks, net=net)
    own = ["background", *data.classes]
    for classes in ([own[0], *own[:0:-1]], [*own[:2], "cow"], own[:2], own[1:], "cat", {"a": 1}):
        file.with_suffix(".json").write_text(json.dumps({"task": "classes", "classes": classes}))
        with pytest.raises(SegError, match=r"checkpoints\.segmenter=.*: of other classes than the data") as refused:
            given.check(store)
        assert "\n" not in str(refused.value)
    file.with_suffix(".json").write_text(json.dumps({"classes": [*own[:2], "cow"]}))
    with pytest.raises(SegError, match=f"code 2 is 'cow' there and '{own[2]}' in the data"):
        given.check(store)
    file.with_suffix(".json").write_text(json.dumps({"classes": own}))
    given.check(store)
