"""The U-Nets."""

import pytest
import torch
from torch.nn import functional as F

from seg.errors import SegError
from seg.nets.backbones import make_classifier
from seg.nets.unet import EncoderUNet, UNet
from seg.segmenter.segmenter import focal_loss


@pytest.mark.parametrize("size", [(64, 64), (33, 97), (16, 31)])
def test_any_size_gives_logits_of_that_size(size: tuple[int, int]) -> None:
    net = UNet(width=4, depth=4).eval()
    with torch.inference_mode():
        assert net(torch.randn(2, 3, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize(("name", "size"), [("resnet18", (64, 64)), ("mobilenet_v2", (65, 97))])
def test_an_encoder_from_torchvision(name: str, size: tuple[int, int]) -> None:
    net = EncoderUNet(make_classifier(name, 2, None), width=8).eval()
    with torch.inference_mode():
        assert net(torch.randn(2, 3, *size)).shape == (2, 1, *size)


def test_a_backbone_without_the_levels_is_refused() -> None:
    with pytest.raises(SegError, match=r"ResNet has levels of stride"):
        EncoderUNet(make_classifier("resnet18", 2, None, stages=3))


def test_it_overfits_four_pictures() -> None:
    torch.manual_seed(0)
    net = EncoderUNet(make_classifier("resnet18", 2, None), width=8)
    # A disk in front of noise, at four places, told from it by its colour.
    ys, xs = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    centres = [(20, 20), (40, 24), (22, 44), (44, 44)]
    masks = torch.stack([((ys - y) ** 2 + (xs - x) ** 2 < 150) for y, x in centres]).to(torch.uint8)
    images = 0.3 * torch.randn(4, 3, 64, 64) + masks[:, None] * torch.tensor([1.0, -1, 0.5])[:, None, None]
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(12):
        optimizer.zero_grad()
        loss = focal_loss(net(images)[:, 0], masks)
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        found = net(images)[:, 0] > 0
    union = (found | (masks == 1)).sum()
    assert (found & (masks == 1)).sum() / union > 0.9
    assert F.max_pool2d(found.float(), 64).bool().all()
