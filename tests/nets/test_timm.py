"""timm's networks as classifiers, features for co-localisation, AffinityNet and encoders; random weights."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seg.errors import SegError
from seg.methods.affinity import AffinityNet
from seg.nets.augment import MEAN, STD
from seg.nets.backbones import Backbone, make_classifier
from seg.nets.pretrained import known_backbone, weights_of
from seg.nets.unet import EncoderUNet
from seg.supervision.colocalise import Levels, default_levels

timm = pytest.importorskip("timm")

# fmt: off
NAMES = [
    "resnet18", "resnet50", "resnetv2_50", "seresnext26d_32x4d", "resnet50_clip.openai", "densenet121", "vgg11_bn",
    "convnext_atto", "convnext_tiny", "convnextv2_atto", "convnext_tiny.dinov3_lvd1689m", "efficientnet_b0",
    "tf_efficientnet_lite0", "tf_efficientnetv2_b0", "mobilenetv2_100", "mobilenetv3_small_100",
    "mobilenetv4_conv_small", "mobileone_s0", "regnety_002", "regnetx_002", "vit_tiny_patch16_224",
    "vit_small_patch16_224", "vit_base_patch32_224", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224", "vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2.lvd142m",
    "vit_small_patch16_dinov3.lvd1689m", "vit_base_patch32_clip_224.openai", "eva02_tiny_patch14_224",
    "eva02_tiny_patch14_336", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "swinv2_cr_tiny_ns_224",
    "maxvit_tiny_tf_224", "maxvit_rmlp_pico_rw_256", "coatnet_0_rw_224", "hiera_tiny_224.mae",
    "hiera_small_abswin_256",
]
# fmt: on


def make(name: str) -> Backbone:
    torch.manual_seed(0)
    return make_classifier(f"timm/{name}", 3, None)


#: One of each kind; all of NAMES with SEG_ALL_BACKBONES=1, which takes minutes.
FEW = [
    "resnet18",
    "convnext_atto",
    "mobilenetv3_small_100",
    "vit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2.lvd142m",
    "eva02_tiny_patch14_224",
    "swin_tiny_patch4_window7_224",
    "hiera_tiny_224.mae",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES if os.environ.get("SEG_ALL_BACKBONES") else FEW)
def test_a_network_in_every_role(name: str) -> None:
    """A step as a classifier whose CAM has its closed form; features; AffinityNet; an encoder."""
    backbone = make(name)
    images = torch.randn(2, 3, 64, 80)
    trained = copy.deepcopy(backbone).train()
    trained(images).sum().backward()
    assert trained.linear.weight.grad.any()  # type: ignore[union-attr, operator]
    backbone.eval()
    frozen_parameters = {p for module in backbone.first_stages(2) for p in module.parameters()}
    assert 0 < len(frozen_parameters) < len(list(backbone.parameters()))
    frozen, rest = backbone.split(len(backbone.stages))
    with torch.inference_mode():
        maps = backbone.features(images)
        assert maps.ndim == 4 and maps.shape[1] == backbone.channels
        pooled = maps.mean((2, 3))
        torch.testing.assert_close(backbone.linear(pooled), backbone(images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(rest(frozen(images)), maps, rtol=1e-4, atol=1e-5)
        features = Levels([copy.deepcopy(backbone)], [default_levels(backbone)])(images)
        assert features.ndim == 4 and features.isfinite().all()
        net = AffinityNet(copy.deepcopy(backbone), strides=(4, 8, 16), channels=4).eval()
        assert net(images).shape == (2, len(net.offsets), 16, 20)
        assert sum(p.numel() for p in net.parameters()) < sum(p.numel() for p in backbone.parameters()) + 10_000
        unet = EncoderUNet(copy.deepcopy(backbone), width=4, outputs=2).eval()
        assert unet(images).shape == (2, 2, 64, 80)
        smaller = copy.deepcopy(backbone).cut(backbone.levels[16].module)
        assert smaller.features(images).shape[1] == smaller.channels


def normalised(images: Tensor, model: nn.Module) -> Tensor:
    """Images from ImageNet's normalisation to that of a model."""
    config: Any = model.pretrained_cfg
    std, mean, own_mean, own_std = (torch.tensor(x)[:, None, None] for x in (STD, MEAN, config["mean"], config["std"]))
    return (images * std + mean - own_mean) / own_std


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "regnety_002", "convnext_atto"])
def test_pooling_and_head_are_timms_own(name: str) -> None:
    backbone = make(name).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        own = backbone.model.forward_features(normalised(images, backbone.model))
        maps = backbone.features(images)
        if name != "convnext_atto":  # its norm comes after its pooling
            torch.testing.assert_close(maps, own, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(backbone(images), backbone.model.forward_head(own), rtol=1e-5, atol=1e-5)
        else:
            torch.testing.assert_close(maps, backbone.model.head.norm(own), rtol=1e-5, atol=1e-5)
        taken = backbone.model.forward_intermediates(normalised(images, backbone.model), intermediates_only=True)
        strides = [64 // level.shape[2] for level in taken]
        levels = backbone.maps(images, [backbone.levels[s].module for s in strides if s < 32])
        for level, expected in zip(levels, taken[:-1], strict=True):
            torch.testing.assert_close(level, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_small_patch14_reg4_dinov2.lvd142m", (70, 98)),
        ("vit_small_patch16_dinov3.lvd1689m", (64, 96)),
        ("swin_tiny_patch4_window7_224", (64, 96)),
    ],
)
def test_tokens_are_a_map_of_timms_own(name: str, size: tuple[int, int]) -> None:
    backbone = make(name).eval()
    images, model = torch.randn(2, 3, *size), backbone.model
    with torch.inference_mode():
        maps, own = backbone.features(images), model.forward_features(normalised(images, model))
        if own.ndim == 3:  # without the class token and registers
            own = own[:, model.num_prefix_tokens :].unflatten(1, maps.shape[2:])
            last = backbone.maps(images, [backbone.levels[32].module])[0]
            torch.testing.assert_close(last, own.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(maps, own.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
        # The nearest size that its grid fits.
        assert backbone.features(torch.randn(1, 3, size[0] + 3, size[1] - 3)).shape[2:] == maps.shape[2:]


def test_dilation_of_a_network_of_timms() -> None:
    for name in ("tf_efficientnet_lite0", "convnext_atto"):
        backbone = make_classifier(f"timm/{name}", 2, None, output_stride=8).eval()
        assert backbone.stride == 8 and backbone.features(torch.zeros(1, 3, 64, 96)).shape[2:] == (8, 12)
        assert len(backbone.stages) == 4


def test_a_file_by_the_providers_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make("mobilenetv3_small_100").state_dict()
    for file in (tmp_path / "some.pth", tmp_path / "mobilenetv3_small_100.pth"):
        torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, file)
    monkeypatch.setenv("SEG_WEIGHTS", str(tmp_path))
    for weights in ("DEFAULT", "some.pth", str(file)):
        found = make_classifier("timm/mobilenetv3_small_100", 2, weights).state_dict()
        assert torch.equal(found["conv_stem.weight"], state["conv_stem.weight"].half().float())
        stage = type("stage", (), {"backbone": "timm/mobilenetv3_small_100"})
        assert weights_of("backbone")(stage, weights).startswith("sha256:")
    monkeypatch.delenv("SEG_WEIGHTS")
    assert weights_of("backbone")(stage, "DEFAULT") == "lamb_in1k"
    with pytest.raises(SegError, match=r"weights=fb: no such file; timm has lamb_in1k, DEFAULT for timm/mobilenetv3"):
        weights_of("backbone")(stage, "fb")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("timm/resnet81", "timm/resnet18"),
        ("vit_small_patch14_dinov2", "timm/vit_small_patch14_dinov2"),
        ("timm/convnext_tiny.in1", "timm/convnext_tiny.fb_in1k"),
        ("resnet15", "resnet152"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones_of_both(name: str, near: str) -> None:
    with pytest.raises(SegError, match=f"backbone={name}: neither torchvision nor timm") as refused:
        known_backbone(None, name)
    assert near in str(refused.value) and "\n" not in str(refused.value)
