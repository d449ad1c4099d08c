"""Which network a state dict fits, from its names and shapes."""

import pytest
import torch

from seg.nets.affinity_net import AffinityNet
from seg.nets.backbones import make_classifier
from seg.nets.recognise import recognise
from seg.segmenter.architectures import BackboneUNet, PlainUNet, TorchvisionNetwork


@pytest.mark.parametrize(
    ("name", "stages", "config"),
    [
        ("resnet18", 4, ("backbone=resnet18", "classifier.stages=4")),
        ("resnet18", 3, ("backbone=resnet18", "classifier.stages=3")),
        ("mobilenet_v2", 4, ("backbone=mobilenet_v2",)),
    ],
)
def test_classifiers(name: str, stages: int, config: tuple[str, ...]) -> None:
    found = recognise(make_classifier(name, 7, None, stages).state_dict())
    assert found is not None
    assert (found.role, found.classes, found.config) == ("classifier", 7, config)


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize(
    ("net", "config"),
    [
        (PlainUNet(width=5, depth=3), ("segmenter=unet", "segmenter.net.width=5", "segmenter.net.depth=3")),
        (
            BackboneUNet(encoder="mobilenet_v2", weights=None, width=4),
            ("segmenter=unet_resnet18", "segmenter.net.encoder=mobilenet_v2", "segmenter.net.width=4"),
        ),
        (
            TorchvisionNetwork(name="lraspp_mobilenet_v3_large"),
            ("segmenter=deeplabv3", "segmenter.net.name=lraspp_mobilenet_v3_large"),
        ),
    ],
    ids=lambda part: type(part).__name__,
)
def test_segmenters_can_be_made_again(net: PlainUNet, config: tuple[str, ...], outputs: int) -> None:
    from seg.segmenter import architectures as networks

    state = net.make(outputs).state_dict()
    found = recognise(state)
    assert found is not None
    expected = (None, config) if outputs == 1 else (outputs, ("task=classes", *config))
    assert (found.role, found.classes, found.config) == ("segmenter", *expected)
    params = dict(found.network)
    made = getattr(networks, params.pop("class"))(**params)
    assert made.make(outputs).load_state_dict(state)


@pytest.mark.parametrize("strides", [(4, 8), (8, 16), (1,)])
def test_affinity_nets(strides: tuple[int, ...]) -> None:
    state = AffinityNet(make_classifier("resnet18", 2, None), strides=strides, channels=6).state_dict()
    found = recognise(state)
    place = "refiner.scores.affinity"
    assert found is not None and found.role == "affinity"
    assert {f"{place}.channels=6", f"{place}.strides=[{','.join(map(str, strides))}]"} <= set(found.config)
    assert ("backbone=resnet18" in found.config) == (strides != (1,))  # the image alone has no backbone


def test_anything_else_is_not() -> None:
    assert recognise({"layer.weight": torch.zeros(2, 2)}) is None
