"""The choices of networks as stages."""

import pytest
import torch

from seg.segmenter.architectures import Architecture, BackboneUNet, PlainUNet, SMPNetwork


@pytest.mark.parametrize("kind", [PlainUNet, BackboneUNet, SMPNetwork])
def test_images_to_one_logit_per_pixel(kind: type[Architecture], resnet18_file: str) -> None:
    network = kind() if kind is PlainUNet else kind(weights=resnet18_file)  # type: ignore[call-arg]
    model = network.make().eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 1, 64, 96)
    if kind is not PlainUNet:  # the encoder starts from the file
        assert torch.equal(model.encoder.conv1.weight, torch.load(resnet18_file)["conv1.weight"])
