"""AffinityNet, its pair labels and its loss, against values worked out by hand."""

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn

from seg.errors import SegError
from seg.methods.affinity import AffinityNet, FrozenAffinityNet, affinity_loss, pair_labels
from seg.methods.walk import pair_offsets

NEAR = pair_offsets(1.5)  # (0, 1), (1, -1), (1, 0), (1, 1)


def backbone() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None)


def test_labels_of_a_small_grid() -> None:
    seeds = torch.tensor([[[1, 1, 255], [0, 1, 0]]], dtype=torch.uint8)
    foreground, background, mixed = (
        {(NEAR[p], (y, x)) for p, y, x in kind[0].nonzero().tolist()} for kind in pair_labels(seeds, NEAR)
    )
    assert foreground == {((0, 1), (0, 0)), ((1, 1), (0, 0)), ((1, 0), (0, 1))}
    assert background == set()
    assert mixed == {
        ((1, 0), (0, 0)),
        ((1, -1), (0, 1)),
        ((1, 1), (0, 1)),
        ((0, 1), (1, 0)),
        ((0, 1), (1, 1)),
    }
    foreground, background, mixed = pair_labels(torch.tensor([[[1, 2, 2, 0, 0]]]), [(0, 1)])  # two classes
    assert [x[0, 0, 0].nonzero().flatten().tolist() for x in (foreground, background, mixed)] == [[1], [3], [0, 2]]


def test_loss_balances_the_three_kinds() -> None:
    seeds = torch.zeros(1, 6, 6, dtype=torch.uint8)
    seeds[:, :, 4:] = 1
    affinity = torch.full((1, len(NEAR), 6, 6), 0.7)
    expected = (2 * -math.log(0.7) + 2 * -math.log(0.3)) / 4  # whatever the number of pairs of each kind
    assert float(affinity_loss(affinity, seeds, NEAR)) == pytest.approx(expected, abs=1e-3)
    nothing = torch.full_like(seeds, 255)
    assert float(affinity_loss(affinity, nothing, NEAR)) == 0
    target = (~pair_labels(seeds, NEAR)[2]).float()
    assert float(affinity_loss(target, seeds, NEAR)) == pytest.approx(0, abs=1e-4)


def grads(net: AffinityNet, images: Tensor, seeds: Tensor) -> set[str]:
    net.train()
    affinity_loss(net(images), seeds, net.offsets).backward()
    return {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}


def test_frozen_backbone_gets_no_gradient_and_keeps_its_statistics() -> None:
    images, seeds = torch.rand(2, 3, 64, 64), torch.randint(0, 2, (2, 16, 16))
    net = AffinityNet(backbone())
    before = {k: v.clone() for k, v in net.backbone.state_dict().items()}
    assert grads(net, images, seeds) == {"reduce", "mix"}
    assert all(torch.equal(v, before[k]) for k, v in net.backbone.state_dict().items())
    assert grads(AffinityNet(backbone(), train_backbone=True), images, seeds) == {"backbone", "reduce", "mix"}


def test_frozen_affinities_are_the_mean_of_the_levels_cosines() -> None:
    net = FrozenAffinityNet(backbone(), (4, 8), 3.0)
    images = torch.rand(2, 3, 64, 64)
    affinity = net(images)
    assert affinity.shape == (2, len(net.offsets), 16, 16)
    assert affinity.min() >= 0 and affinity.max() <= 1
    assert not any(p.requires_grad for p in net.parameters())
    fine, coarse = net.levels(images)
    coarse = torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")
    p = net.offsets.index((1, -2))
    cosines = []
    for level in (fine, coarse):
        centred = level[1] - level[1].mean((1, 2))[:, None, None]
        a, b = centred[:, 4, 9], centred[:, 5, 7]
        cosines.append(float(a @ b / (a.norm() * b.norm())))
    assert float(affinity[1, p, 4, 9]) == pytest.approx(max(0.0, sum(cosines) / 2), abs=1e-5)


def test_bad_input_is_refused() -> None:
    with pytest.raises(SegError, match=r"stride \[4, 64\], but ResNet has \[1, 2, 4, 8, 16, 32\]"):
        AffinityNet(backbone(), strides=(4, 64))
    with pytest.raises(SegError, match="seeds"):
        affinity_loss(torch.ones(1, len(NEAR), 8, 8), torch.zeros(1, 4, 4), NEAR)
