"""Our CAM is the peers' CAM, and one image's is the batch's."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.cases.peers import gradcam_maps, gradcam_of, like_gradcam, our_maps, torchcam_maps, torchcam_of
from seg.methods.cam import normalise_maps
from seg.nets.backbones import make_classifier, split_at_pooling

Case = tuple[nn.Module, tuple[nn.Module, Tensor, Tensor], Tensor, Tensor]


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(0)
    model = make_classifier("resnet18", 5, None).eval()
    features, head = split_at_pooling(model, "resnet18")
    linear = model.get_submodule(head)
    assert isinstance(linear, nn.Linear)
    images = torch.randn(3, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    return model, (features, linear.weight.detach(), linear.bias.detach()), images, torch.tensor([1, 4, 1])


def test_one_by_one_is_the_batch(case: Case) -> None:
    _, parts, images, labels = case
    single = [our_maps(parts, images[i : i + 1], labels[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(single), our_maps(parts, images, labels), rtol=1e-4, atol=1e-4)


def test_ours_is_torchcams(case: Case) -> None:
    pytest.importorskip("torchcam", reason="torchcam is not installed (the extra bench)")
    model, parts, images, labels = case
    with torchcam_of(model) as extractor:
        theirs = torchcam_maps(extractor, model, images, labels)
    torch.testing.assert_close(normalise_maps(our_maps(parts, images, labels), "minmax"), theirs, rtol=0, atol=1e-4)


def test_ours_is_gradcams(case: Case) -> None:
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed (the extra bench)")
    model, parts, images, labels = case
    theirs = gradcam_maps(gradcam_of(model), images, labels)
    assert theirs.shape == (3, 96, 96) and theirs.max() > 0.9  # so the comparison says something
    np.testing.assert_allclose(like_gradcam(our_maps(parts, images, labels), 96), theirs, atol=1e-3)
