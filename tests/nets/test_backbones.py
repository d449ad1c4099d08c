"""Backbones: weights from anywhere, the cut at the pooling, dilation."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models

from seg.errors import SegError
from seg.nets.backbones import fold_batch_norm, make_classifier


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "shufflenet_v2_x1_0"])
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


def test_a_file_of_weights(tmp_path: Path) -> None:
    """With another head or none, with or without counters of batch norm."""
    torch.manual_seed(0)
    state = models.resnet18().state_dict()
    counted = {k: v for k, v in state.items() if not k.startswith("fc.")}
    other = {k: v for k, v in state.items() if "num_batches" not in k} | {"fc.weight": torch.zeros(37, 512)}
    for content in (counted, other | {"fc.bias": torch.zeros(37)}):
        torch.save(content, tmp_path / "w.pth")
        found = make_classifier("resnet18", 5, str(tmp_path / "w.pth")).state_dict()
        assert all(torch.equal(v, state[k]) for k, v in found.items() if not k.startswith("fc."))


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    with pytest.raises(SegError, match="no such file; torchvision has IMAGENET1K_V1"):
        make_classifier("resnet18", 2, str(tmp_path / "none.pth"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # an empty download cache instead of the user's
    monkeypatch.setattr("torch.hub.urlopen", fails)
    wanted = r"weights=DEFAULT: cannot download .*/resnet18-f37072fd\.pth, .* weights=null"
    with pytest.raises(SegError, match=wanted) as error:
        make_classifier("resnet18", 2, "DEFAULT")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 8), ("mobilenet_v2", 16)])
def test_output_stride(name: str, stride: int) -> None:
    model = make_classifier(name, 2, None, output_stride=stride).eval()
    with torch.inference_mode():
        assert model.features(torch.zeros(1, 3, 64, 96)).shape[2:] == (64 // stride, 96 // stride)
    assert set(model.state_dict()) == set(make_classifier(name, 2, None).state_dict())
    with pytest.raises(SegError, match="output_stride=16: DenseNet keeps a stride of 32"):  # it halves by pooling
        make_classifier("densenet121", 2, None, output_stride=16)


@pytest.mark.parametrize(("name", "stride", "channels"), [("resnet18", 16, 256), ("mobilenet_v3_small", 8, 48)])
def test_a_network_without_its_last_stage(name: str, stride: int, channels: int) -> None:
    model = make_classifier(name, 3, None, stages=3, output_stride=stride).eval()
    with torch.inference_mode():
        maps = model.features(x := torch.randn(2, 3, 64, 64))
        assert maps.shape == (2, channels, 64 // stride, 64 // stride)
        torch.testing.assert_close(model.linear(maps.mean((2, 3))), model(x))
    assert len(model.first_stages(3)) < len(make_classifier(name, 3, None).outputs)
    with pytest.raises(SegError, match="stages=3: SqueezeNet has no level of stride 16"):
        make_classifier("squeezenet1_0", 2, None, stages=3)


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
