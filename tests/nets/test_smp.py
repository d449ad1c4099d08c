"""Networks of segmentation_models_pytorch."""

import copy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seg.errors import SegError
from seg.nets.augment import normalise
from seg.nets.smp import Arch, make_network
from seg.segmenter.architectures import SMPNetwork

smp: Any = pytest.importorskip("segmentation_models_pytorch")


def test_all_of_its_architectures() -> None:
    assert {*get_args(Arch)} == {cls.__name__ for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}


@pytest.mark.parametrize("arch", ["Unet", "DeepLabV3Plus", "Segformer"])
def test_logits_are_smps_own_at_any_size(arch: Arch) -> None:
    model = make_network(arch, "resnet18", None, 3).eval()
    own = smp.create_model(arch, "resnet18", encoder_weights=None, classes=3).eval()
    own.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 75, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = own(F.pad(images, (0, 0, 0, 21)))
        torch.testing.assert_close(model(images), expected[:, :, :75], atol=1e-5, rtol=0)
        torch.testing.assert_close(model(images[:, :, :64]), own(images[:, :, :64]), atol=1e-5, rtol=0)


def test_an_encoder_gets_its_own_normalisation_and_size() -> None:
    """Swin takes one size alone, EfficientNet-Lite sees images in [-1, 1]."""
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), dtype=np.uint8)
    model = make_network("FPN", "tu-tf_efficientnet_lite0", None, 1).eval()
    with torch.inference_mode():
        expected = model.model(normalise(images, (0.5,) * 3, (0.5,) * 3))
        torch.testing.assert_close(model(normalise(images)), expected, atol=1e-5, rtol=0)
        fixed = make_network("Unet", "tu-swin_tiny_patch4_window7_224", None, 2).eval()
        assert fixed(normalise(images)).shape == (1, 2, 32, 64)


@pytest.mark.parametrize(("encoder", "name"), [("resnet18", "resnet18"), ("tu-mobilenetv3_small_050", "")])
def test_the_encoder_starts_from_a_file_of_the_providers_names(encoder: str, name: str, tmp_path: Path) -> None:
    import timm
    from torchvision.models import get_model

    state = (get_model(name) if name else timm.create_model(encoder.removeprefix("tu-"))).state_dict()
    torch.save(state, tmp_path / "w.pth")
    made = make_network("Unet", encoder, str(tmp_path / "w.pth"), 1).model.encoder
    for key, value in made.state_dict().items():
        torch.testing.assert_close(value, state[key.removeprefix("model.")], msg=key)
    assert not any("state_dict" in getattr(m, "pretrained_cfg", {}) for m in made.modules())
    other = "tu-mobilenetv3_small_050" if name else "resnet18"
    with pytest.raises(SegError, match=r"segmenter\.net\.weights=.*w\.pth: does not fit .*: "):
        make_network("Unet", other, str(tmp_path / "w.pth"), 1)


def test_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEG_WEIGHTS", str(tmp_path))
    assert SMPNetwork(encoder="resnet50").params()["weights"] == "IMAGENET1K_V2"  # torchvision's, as of a backbone
    assert SMPNetwork(encoder="mit_b0").params()["weights"] == "imagenet"
    (tmp_path / "mit_b0.imagenet.pth").write_bytes(b"weights")
    assert SMPNetwork(encoder="mit_b0").params()["weights"].startswith("sha256:")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "Unett"}, r"^SMPNetwork\.arch='Unett': must be one of Unet, UnetPlusPlus"),
        ({"encoder": "convnext_tiny"}, r"^segmenter\.net\.encoder=convnext_tiny: .*did you mean tu-convnext_tiny or"),
        ({"encoder": "dpn68"}, "did you mean tu-dpn68"),  # smp's own has another normalisation
        ({"weights": "IMGNET"}, r"^segmenter\.net\.weights=IMGNET: no such file; smp has imagenet, .*IMAGENET1K_V1"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones_when_its_key_is_asked_for(options: Any, message: str) -> None:
    with pytest.raises(SegError, match=message):
        SMPNetwork(**options).params()


def test_a_copy_is_independent_and_keeps_smps_names() -> None:
    """As a moving average of the weights is made."""
    model = make_network("FPN", "resnet18", None, 1)
    copied = copy.deepcopy(model).eval()
    assert "encoder.conv1.weight" in model.state_dict()
    with torch.no_grad():
        copied.encoder.conv1.weight.zero_()
    assert model.encoder.conv1.weight.abs().sum() > 0
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert not torch.equal(copied(images), model.eval()(images))


def test_a_decoder_and_an_encoder_that_do_not_go_together() -> None:
    with pytest.raises(SegError, match=r"arch=DeepLabV3Plus does not go with encoder=tu-swin.*output_stride"):
        make_network("DeepLabV3Plus", "tu-swin_tiny_patch4_window7_224", None, 1)
