"""The choices of networks as stages."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from seg.errors import SegError
from seg.segmenter.architectures import BackboneUNet, PlainUNet, SMPNetwork, TorchvisionNetwork
from seg.store import Store


@pytest.mark.parametrize(
    "network",
    [
        PlainUNet(width=4, depth=2),
        BackboneUNet(weights=None, width=8),
        SMPNetwork(weights=None),
        TorchvisionNetwork(name="lraspp_mobilenet_v3_large"),
    ],
    ids=["unet", "resnet18", "smp", "lraspp"],
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


def test_refusals_before_any_work(new_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SegError, match=r"weights=none\.pth: no such file"):
        BackboneUNet(weights="none.pth").make()
    with pytest.raises(SegError, match=r"segmenter.net.name=resnet18: must be one of .*fcn_resnet50"):
        TorchvisionNetwork(name="resnet18").make()
    with pytest.raises(SegError, match="weights_backbone=NONE: cannot be had for deeplabv3"):
        TorchvisionNetwork(weights_backbone="NONE").make()

    def fails(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", fails)
    with pytest.raises(SegError, match=r"weights_backbone=DEFAULT.*no route to host.*weights_backbone=null"):
        TorchvisionNetwork(weights_backbone="DEFAULT").make()
