"""Class activation maps against their definition."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seg.methods.cam import foreground_maps, multi_scale_cam, normalise_maps


def test_normalisation() -> None:
    maps = torch.tensor([[[-2.0, 0], [1, 2]], [[3, 3], [3, 3]], [[-3, -2], [-1, -1]]])
    minmax, relu = normalise_maps(maps, "minmax"), normalise_maps(maps, "relu")
    assert minmax[0].flatten().tolist() == [0, 0.5, 0.75, 1]
    assert relu[0].flatten().tolist() == [0, 0, 0.5, 1]
    assert minmax[1].eq(0).all() and relu[1].eq(1).all()  # constant; and positive everywhere
    assert minmax[2].flatten().tolist() == [0, 0.5, 1, 1] and relu[2].eq(0).all()


@pytest.fixture
def case() -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 32, stride=16, padding=8), nn.ReLU()).requires_grad_(False)
    return network, torch.randn(3, 8), torch.randn(4, 3, 64, 64), torch.tensor([0, 2, 1, 1])


def test_flip_makes_the_maps_equivariant(case: tuple) -> None:
    network, weight, images, labels = case
    maps, mirrored = (multi_scale_cam(network, weight, x, labels, flip=True) for x in (images, images.flip(3)))
    torch.testing.assert_close(mirrored, maps.flip(2), atol=1e-4, rtol=1e-4)
    maps, mirrored = (multi_scale_cam(network, weight, x, labels) for x in (images, images.flip(3)))
    assert (mirrored - maps.flip(2)).abs().max() > 1e-3  # so the test above says something


def test_scales_are_averaged_on_the_finest_grid(case: tuple) -> None:
    single = {s: multi_scale_cam(*case, scales=[s]) for s in (0.5, 1, 1.5)}
    assert [single[s].shape[1:] for s in (0.5, 1, 1.5)] == [(2, 2), (4, 4), (6, 6)]
    up = [F.interpolate(single[s][:, None], (6, 6), mode="bilinear")[:, 0] for s in (0.5, 1, 1.5)]
    several = multi_scale_cam(*case, scales=[0.5, 1.5, 1])
    torch.testing.assert_close(several, normalise_maps(torch.stack(up).sum(0)), atol=1e-5, rtol=1e-4)
    assert several.amin() == 0 and several.amax() == 1


def test_several_classes_of_an_image_and_none(case: tuple) -> None:
    network, weight, images, labels = case
    one = multi_scale_cam(network, weight, images, labels, scales=(1, 0.5))
    again = multi_scale_cam(network, weight, images, labels, torch.arange(4), scales=(1, 0.5))
    two = multi_scale_cam(network, weight, images, torch.tensor([0, 2, 1]), torch.tensor([1, 1, 3]), scales=(1, 0.5))
    assert torch.equal(one, again) and torch.equal(two[1:], one[[1, 3]])
    none = torch.zeros(0, dtype=torch.int64)
    empty = multi_scale_cam(network, weight, images, none, none, scales=(1, 0.5), flip=True)
    assert empty.shape == foreground_maps(empty, none).shape == (0, 4, 4)
