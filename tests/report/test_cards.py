"""The pictures of a report: which images, in what order, how large."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from score_maps import one_map_each

from seg.experiment import Step
from seg.masks import MaskSet, Threshold
from seg.report.run_page import make_cards
from seg.supervision.bbox import BoxScores


@pytest.fixture
def steps(pool):
    """Of the masks below, by name."""
    masks = Threshold(scores=BoxScores(pool=pool), threshold=0.5)
    return {"CAM (label) >= 0.5": Step(kind="scores", masks=masks), "seeds": Step(kind="seeds", masks=masks)}


def many(data, count, classes, side=16):
    """``count`` images of noise, the last third for the test."""
    rng = np.random.default_rng(0)
    return dataclasses.replace(
        data,
        classes=tuple(f"class <{i}>" for i in range(classes)),
        images=rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
        _target=rng.integers(0, 3, (count, side, side), dtype=np.uint8),
        ids=[f"image_{i}" for i in range(count)],
        label_sets=[(i % classes,) for i in range(count)],
        is_test=np.arange(count) >= count * 2 // 3,
        has_target=np.ones(count, bool),
        sizes=np.full((count, 2), (300, 400)),
    )


def several(data, classes):
    """As `many`, with two classes in most images and none in the first; the ground truth says which is where."""
    big = many(data, 3 * classes, classes)
    pairs = [tuple(sorted({i % classes, (7 * i + 1) % classes})) for i in range(len(big))]
    target = np.random.default_rng(2).integers(0, classes + 1, big._target.shape, dtype=np.uint8)
    return dataclasses.replace(big, target_is_classes=True, _target=target, label_sets=[(), *pairs[1:]])


def masks_of(data):
    rng = np.random.default_rng(1)
    values = rng.random((len(data), 8, 8)).astype(np.float16)
    scores = one_map_each(data, np.arange(len(data)), values)
    return {"CAM (label) >= 0.5": MaskSet(scores, 0.5, 0.5), "seeds": MaskSet(scores, 0.4, 0.6)}


def test_worst_first_and_the_iou_is_that_of_the_mask(data, steps):
    small = many(data, 12, 3)
    cards = make_cards(steps, masks_of(small), "ignore")
    ious = [card["ious"]["seeds"] for card in cards]
    assert len(ious) == 12 and ious == sorted(ious)
    card = cards[0]
    row = small.ids.index(card["id"])
    mask = masks_of(small)["seeds"].at(np.asarray([row]))[0]
    counted = (small.target(np.asarray([row]))[0] < 2) & (mask != 255)
    pred, target = mask[counted] == 1, small.target(np.asarray([row]))[0][counted] == 1
    assert card["ious"]["seeds"] == pytest.approx((pred & target).sum() / (pred | target).sum())
    assert [*card["pictures"]] == ["photo", "score map", "seeds", "ground truth"]
    encoded = io.BytesIO(base64.b64decode(card["pictures"]["seeds"].partition(",")[2]))
    assert Image.open(encoded).size == (16, 12)  # as the original's 400 x 300


def test_the_iou_of_an_image_is_the_mean_of_its_classes(data, steps):
    small = several(data, 4)
    masks = masks_of(small)
    cards = {card["id"]: card for card in make_cards(steps, masks, "ignore")}
    assert len(cards) == 12
    assert (cards["image_0"]["label"], cards["image_1"]["label"]) == ("no class", "class <0>, class <1>")
    for name, card in cards.items():
        row = small.ids.index(name)
        target, mask = small.target(np.asarray([row]))[0], masks["seeds"].at(np.asarray([row]))[0]
        counted = mask != 255
        ious = [
            ((target == code) & (mask == code))[counted].sum() / ((target == code) | (mask == code))[counted].sum()
            for code in range(1, 5)
        ]
        assert card["ious"]["seeds"] == pytest.approx(np.mean(ious))
