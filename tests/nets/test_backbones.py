"""Backbones: weights from anywhere, the cut at the pooling, dilation."""

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from seg.errors import SegError
from seg.nets.backbones import fold_batch_norm, make_classifier

#: One of every family that the refusal names, small where there is a choice.
FAMILIES = [
    "resnet18",
    "mobilenet_v2",
    "densenet121",
    "shufflenet_v2_x1_0",
]


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return models.resnet18().eval()


@pytest.fixture
def saved(tmp_path: Path, resnet: nn.Module) -> Callable[..., str]:
    """Save a state dict derived from the ResNet's."""

    def save(name: str = "w.pth", change: Callable[[dict[str, Tensor]], object] = lambda state: state) -> str:
        path = tmp_path / name
        state = change(resnet.state_dict())
        if path.suffix == ".safetensors":
            save_file(state, path)  # type: ignore[arg-type]
        else:
            torch.save(state, path)
        return str(path)

    return save


def loaded(weights: str, name: str = "resnet18") -> dict[str, Tensor]:
    return make_classifier(name, 5, weights).state_dict()


def agrees(state: dict[str, Tensor], resnet: nn.Module, tolerance: float = 0.0) -> bool:
    own = resnet.state_dict()
    return all(
        torch.allclose(v, own[k], rtol=tolerance, atol=tolerance) for k, v in state.items() if not k.startswith("fc.")
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_linear_layer_of_the_pooled_features_gives_the_logits(name: str) -> None:
    torch.manual_seed(1)
    model = make_classifier(name, 7, None).eval()
    features = model.split()[1]
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        logits, maps = model.model(x), features(x)  # those of torchvision's own forward pass
        assert maps.ndim == 4 and logits.shape == (2, 7)
        torch.testing.assert_close(model(x), logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.linear(maps.mean((2, 3))), logits, rtol=1e-4, atol=1e-5)
    # The cut shares the model's weights: it is a view of the trained network, no copy.
    own = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in features.parameters()} <= own


def test_another_form_is_refused() -> None:
    with torch.device("meta"), pytest.raises(SegError, match=r"backbone=vit_b_32: .* is not a sequence of"):
        make_classifier("vit_b_32", 2, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {k: v for k, v in s.items() if not k.startswith("fc.")},
        lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
        lambda s: s | {"fc.weight": torch.zeros(37, 512), "fc.bias": torch.zeros(37)},
    ],
    ids=["no head", "no num_batches", "other head"],
)
def test_wrappers_prefixes_and_heads_of_a_file(
    saved: Callable[..., str], resnet: nn.Module, change: Callable[[dict[str, Tensor]], object]
) -> None:
    assert agrees(loaded(saved("w.pth", change)), resnet)


def one_line(excinfo: "pytest.ExceptionInfo[SegError]") -> str:
    text = str(excinfo.value)
    assert "\n" not in text and len(text) < 600
    return text


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(SegError) as error:
        loaded(str(tmp_path / "none.pth"))
    assert "no such file; torchvision has IMAGENET1K_V1" in one_line(error)


def test_torchvisions_weights_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # an empty download cache instead of the user's
    monkeypatch.setattr("torch.hub.urlopen", fails)
    with pytest.raises(SegError) as error:
        make_classifier("resnet18", 2, "DEFAULT")
    text = one_line(error)
    assert "weights=DEFAULT: cannot download" in text and "weights=null" in text
    assert "resnet18-f37072fd.pth" in text  # the file to look for elsewhere


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 8), ("mobilenet_v2", 16)])
def test_output_stride(name: str, stride: int) -> None:
    model = make_classifier(name, 2, None, output_stride=stride).eval()
    with torch.inference_mode():
        assert model.features(torch.zeros(1, 3, 64, 96)).shape[2:] == (64 // stride, 96 // stride)
    assert set(model.state_dict()) == set(make_classifier(name, 2, None).state_dict())
    with pytest.raises(SegError, match="output_stride=16: DenseNet keeps a stride of 32"):  # it halves by pooling
        make_classifier("densenet121", 2, None, output_stride=16)


def test_a_resnet_without_its_last_stage(saved: Callable[..., str], resnet: nn.Module) -> None:
    model = make_classifier("resnet18", 3, saved(), stages=3).eval()
    assert not any(k.startswith("layer4") for k in model.state_dict())
    assert agrees(model.state_dict(), resnet)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        maps = model.features(x)
        assert maps.shape == (2, 256, 4, 4)
        torch.testing.assert_close(model.linear(maps.mean((2, 3))), model(x))


def test_folding_batch_norm_changes_nothing_but_rounding() -> None:
    torch.manual_seed(0)
    model = make_classifier("resnet18", 3, None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and factors that a training could leave
            module.running_mean.uniform_(-0.2, 0.2), module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 2), nn.init.uniform_(module.bias, -0.2, 0.2)
    features = model.eval().split()[1]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        folded, plain = fold_batch_norm(features), features(images)
        scale = plain.abs().max()
        torch.testing.assert_close(folded(images) / scale, plain / scale, atol=2e-5, rtol=0)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("resnet18", ["layer1.1", "layer2.1", "layer3.1", "layer4.1"]),
        ("mobilenet_v2", ["features.3", "features.6", "features.13", "features.18"]),
    ],
)
def test_a_network_is_cut_after_a_stage(name: str, ends: list[str]) -> None:
    model = make_classifier(name, 3, None).eval()
    image = torch.randn(1, 3, 64, 64)
    state = torch.get_rng_state()
    for first, end in enumerate(ends, 1):
        before, after = model.split(first)
        assert list(before.children())[-1] is model.model.get_submodule(end)
        with torch.inference_mode():
            assert before(image).shape[2] == 64 // 2 ** (first + 1)
            assert torch.equal(after(before(image)), model.features(image))
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn
