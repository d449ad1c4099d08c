"""Co-localisation of a planted object, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seg.data.pets import OxfordPet
from seg.data.prepared import Pool, Prepared
from seg.errors import SegError
from seg.files import file_sha256
from seg.nets.backbones import make_classifier
from seg.store import Store
from seg.supervision.bbox import BoxScores
from seg.supervision.colocalise import Colocalised, default_levels


@pytest.fixture
def stage(planted: Pool, resnet18_file: str) -> Colocalised:
    options: Any = {"levels": ["layer1"], "size": 128, "dims": 16}
    return Colocalised(scores=BoxScores(pool=planted), weights=resnet18_file, **options)


def test_the_object_is_found_from_a_part_and_a_margin_moves_the_boundary(stage: Colocalised, new_store: Store) -> None:
    maps, before = new_store.get(stage), new_store.get(stage.scores)
    target = maps.data.target(maps.rows)

    def iou(scores: np.ndarray) -> float:
        mask = scores >= 0.5
        return float((mask & (target == 1)).sum() / (mask | (target == 1)).sum())

    scores, rough = (x.argmax(np.arange(len(maps)))[0] for x in (maps, before))
    assert iou(scores) > max(0.6, iou(rough) + 0.1)
    assert scores.min() >= 0 and scores.max() <= 1
    manifest = new_store.manifest(stage)
    assert manifest is not None and 0.02 < manifest["notes"]["foreground"] < 0.5
    fine = new_store.get(replace(stage, upsample=4))
    assert maps.values.shape[1:] == (32, 32) and fine.values.shape[1:] == (64, 64)  # the images' own side
    assert iou(fine.argmax(np.arange(len(fine)))[0]) > iou(scores) + 0.01
    plain, moved = (np.asarray(x.values, float) for x in (maps, new_store.get(replace(stage, margin=0.5))))
    known = (plain > 0.1) & (plain < 0.9)
    logits = [np.log(x[known] / (1 - x[known])) for x in (plain, moved)]
    assert np.median(logits[0] - logits[1]) == pytest.approx(stage.gain * 0.5, abs=0.02)


def test_features_of_several_backbones_are_concatenated(stage: Colocalised, tmp_path: Path) -> None:
    second = str(tmp_path / "second.pth")
    torch.save(make_classifier("shufflenet_v2_x0_5", 2, None).state_dict(), second)
    more = ("resnet18", "shufflenet_v2_x0_5", "mobilenet_v2")
    both = replace(stage, levels=None, more_backbones=more, more_weights=(stage.weights, second, None))
    net, images = both.net(), torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        joined = net(images)
        pairs = zip(net.backbones, net.names, strict=True)
        parts = [level for backbone, own in pairs for level in backbone.maps(images, own)]
    assert joined.shape == (2, sum(x.shape[1] for x in parts), *parts[0].shape[2:])
    for place, own in zip(net.slices, parts, strict=True):
        assert torch.allclose(joined[:, place], F.interpolate(own, parts[0].shape[2:], mode="bilinear"), atol=1e-5)
    # The same network twice adds nothing, and there are no features without weights.
    assert [type(x.model).__name__ for x in net.backbones] == ["ResNet", "ShuffleNetV2"]
    assert both.params()["more_weights"] == [both.params()["weights"], f"sha256:{file_sha256(Path(second))}", None]
    with pytest.raises(SegError, match=r"more_weights: 3 for 1 more_backbones"):
        replace(both, more_backbones=("resnet18",))


def test_its_name_and_what_it_refuses(stage: Colocalised, new_store: Store) -> None:
    assert stage.title == "co-loc. Gaussian on HEAD boxes"
    with pytest.raises(SegError, match=r"Colocalised.rounds=0: must lie in \[1, inf\)"):
        replace(stage, rounds=0)
    for changed, message in (({"weights": None}, "weights=null: needs pretrained"), ({"levels": ["fc"]}, r"levels=\[")):
        with pytest.raises(SegError, match=rf"colocalise\.{message}"):
            replace(stage, **changed).check(new_store)  # type: ignore[arg-type]


def test_a_class_without_foreground_keeps_its_prior(
    stage: Colocalised, official: Callable[..., Path], new_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(data=Prepared(source=OxfordPet(root=str(official("more", trainval=20))), size=64))
    stage = replace(stage, scores=BoxScores(pool=pool))
    plain = new_store.get(stage)
    assert "finds nothing" not in caplog.text
    # With such a margin no image has foreground.
    empty = new_store.get(replace(stage, margin=50.0))
    rows = [empty.data.as_read.label_sets[row][0] for row in empty.rows]
    assert sorted(map(rows.count, set(rows))) == [10, 10] and caplog.text.count("finds nothing in 10 of 10") == 2
    grid = plain.values.shape[1:]
    prior = new_store.get(stage.scores).per_class(np.arange(len(empty)), grid).values
    inner = (empty.values > 0) & (empty.values < 1)
    offset = np.median(empty.values[inner] - prior[inner])
    np.testing.assert_allclose(empty.values, (prior + offset).clip(0, 1), atol=2e-3)
    assert (empty.values >= 0.5).any((1, 2)).all()


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("resnet18", ("layer3.1",)),
        ("mobilenet_v2", ("features.13.conv.0", "features.14.conv.0", "features.15.conv.0")),
        ("efficientnet_b0", ("features.5.2.block.0", "features.6.0.block.0", "features.6.1.block.0")),
        ("timm/tf_efficientnet_lite0", ("blocks.4.2.bn1", "blocks.5.0.bn1", "blocks.5.1.bn1")),
    ],
)
def test_features_are_the_expansions_of_inverted_residual_blocks(name: str, levels: tuple[str, ...]) -> None:
    backbone = make_classifier(name, 2, None).eval()
    assert default_levels(backbone) == levels
    with torch.no_grad():
        maps = backbone.maps(torch.zeros(1, 3, 64, 64), levels)
    assert maps[0].shape[2:] == (4, 4)  # of stride 16
