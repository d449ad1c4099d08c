"""The choices of networks as stages."""

from pathlib import Path

import pytest
import torch

from seg.segmenter.architectures import BackboneUNet, PlainUNet, SMPNetwork
from seg.store import Store


@pytest.mark.parametrize(
    "network",
    [
        PlainUNet(width=4, depth=2),
        BackboneUNet(weights=None, width=8),
        SMPNetwork(weights=None),
    ],
    ids=["unet", "resnet18", "smp"],
)
def test_images_to_one_logit_per_pixel(network: PlainUNet, new_store: Store) -> None:
    model = network.make().eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 1, 64, 96)
    assert not new_store.root.exists()


def test_the_encoder_starts_from_the_file(tmp_path: Path, new_store: Store) -> None:
    from seg.nets.backbones import make_classifier

    state = make_classifier("resnet18", 2, None).state_dict()
    torch.save(state, tmp_path / "w.pth")
    model = BackboneUNet(weights=str(tmp_path / "w.pth"), width=4).make()
    assert any(torch.equal(state["conv1.weight"], p) for p in model.parameters())
