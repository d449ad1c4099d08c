"""The U-Nets."""

import pytest
import torch

from seg.nets.backbones import make_classifier
from seg.nets.unet import EncoderUNet, UNet


@pytest.mark.parametrize("size", [(33, 97), (16, 31)])
def test_any_size_gives_logits_of_that_size(size: tuple[int, int]) -> None:
    net = UNet(width=4, depth=4).eval()
    with torch.inference_mode():
        assert net(torch.randn(2, 3, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize(("name", "size"), [("resnet18", (65, 97)), ("timm/vit_tiny_patch16_224", (60, 97))])
def test_an_encoder_of_either_provider(name: str, size: tuple[int, int]) -> None:
    net = EncoderUNet(make_classifier(name, 2, None), width=8).eval()
    with torch.inference_mode():
        assert net(torch.randn(2, 3, *size)).shape == (2, 1, *size)
