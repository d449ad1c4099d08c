"""Co-localisation: a planted object, what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seg.data.prepared import Pool
from seg.errors import SegError
from seg.nets.backbones import Backbone
from seg.store import Store
from seg.supervision.bbox import BoxScores
from seg.supervision.colocalise import Colocalised, Levels


@pytest.mark.parametrize("modules", [["layer9"], ["fc"]])
def test_a_level_that_is_none_is_refused(modules: list[str]) -> None:
    from torchvision.models import resnet18

    with pytest.raises(SegError, match=r"colocalise.levels=\["):
        Levels([Backbone(resnet18(weights=None))], [modules])


def weights(tmp_path: Path) -> str:
    """A file of ResNet-18 weights: random, but those of a seed."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


def test_the_rest_of_the_object_is_found_from_a_part(planted: Pool, new_store: Store, tmp_path: Path) -> None:
    prior = BoxScores(pool=planted)
    options = {"scores": prior, "weights": weights(tmp_path), "levels": ["layer1"], "size": 128, "dims": 16}
    found = Colocalised(**options)  # type: ignore[arg-type]
    maps, before = new_store.get(found), new_store.get(prior)
    data = maps.data
    assert (maps.rows == before.rows).all()

    def iou(scores: np.ndarray, target: np.ndarray) -> float:
        mask = scores >= 0.5
        return float((mask & (target == 1)).sum() / (mask | (target == 1)).sum())

    target = data.target(maps.rows)
    scores, rough = (x.argmax(np.arange(len(maps)))[0] for x in (maps, before))
    assert iou(scores, target) > max(0.6, iou(rough, target) + 0.1)
    assert scores.min() >= 0 and scores.max() <= 1
    manifest = new_store.manifest(found)
    assert manifest is not None and 0.02 < manifest["notes"]["foreground"] < 0.5


def test_features_of_two_backbones_stand_side_by_side(planted: Pool, tmp_path: Path) -> None:
    options = {"scores": BoxScores(pool=planted), "weights": weights(tmp_path)}
    both = Colocalised(**options, second_backbone="shufflenet_v2_x0_5", second_weights="DEFAULT")  # type: ignore[arg-type]
    from torchvision.models import shufflenet_v2_x0_5

    torch.save(shufflenet_v2_x0_5(weights=None).state_dict(), tmp_path / "second.pth")
    both = replace(both, second_weights=str(tmp_path / "second.pth"))
    net, images = both.net(), torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        joined = net(images)
        first, second = (backbone.maps(images, own)[0] for backbone, own in zip(net.backbones, net.names, strict=True))
    assert joined.shape == (2, first.shape[1] + second.shape[1], *first.shape[2:])
    for part, whole in zip(net.slices, (first, second), strict=True):
        assert torch.allclose(joined[:, part], F.interpolate(whole, first.shape[2:], mode="bilinear"), atol=1e-5)
    # The same network twice adds nothing, and there are no features without weights.
    for options in ({"second_backbone": "resnet18"}, {"second_weights": None}):
        assert len(replace(both, **options).net().backbones) == 1  # type: ignore[arg-type]


def test_a_margin_moves_the_boundary_alone(planted: Pool, new_store: Store, tmp_path: Path) -> None:
    stage = Colocalised(
        scores=BoxScores(pool=planted), weights=weights(tmp_path), levels=("layer1",), size=128, dims=16
    )
    plain, moved = (
        np.asarray(new_store.get(replace(stage, margin=margin)).values, np.float64) for margin in (0.0, 0.5)
    )
    known = (plain > 0.1) & (plain < 0.9)
    logits = [np.log(x[known] / (1 - x[known])) for x in (plain, moved)]
    assert np.median(logits[0] - logits[1]) == pytest.approx(stage.gain * 0.5, abs=0.02)


def test_its_name_and_what_it_refuses(planted: Pool, new_store: Store, tmp_path: Path) -> None:
    prior = BoxScores(pool=planted)
    assert Colocalised(scores=prior, weights=weights(tmp_path)).title == "co-loc. Gaussian on HEAD boxes"
    # Without a regression the map would be the components' alone, and the threshold one with the prior in it.
    with pytest.raises(SegError, match=r"Colocalised.rounds=0: must lie in \[1, inf\)"):
        Colocalised(scores=prior, weights=weights(tmp_path), rounds=0)
    with pytest.raises(SegError, match=r"colocalise.weights=null: needs pretrained"):
        Colocalised(scores=prior, weights=None).check(new_store)
    assert isinstance(Colocalised(scores=prior, weights=weights(tmp_path)).net(), nn.Module)
