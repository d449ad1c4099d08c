"""What the classifier is trained on, and on what not."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from seg.data.image_folder import ImageFolder
from seg.data.prepared import Prepared, PreparedData
from seg.data.toys import ToyPets
from seg.errors import SegError
from seg.nets.augment import normalise
from seg.nets.backbones import Backbone
from seg.store import Store
from seg.supervision.classifier import Classifier
from seg.train import Pretrained


def test_nothing_of_test_and_nothing_held_out_is_trained_on(
    store: Store, data: PreparedData, prepared: Prepared
) -> None:
    stage = Classifier(data=prepared, hold_out=0.3)
    trained, held = stage._rows(store)
    assert trained.tolist() == stage.samples(store).tolist()
    assert len(held) > 0 and not set(trained) & set(held)
    assert sorted([*trained, *held]) == np.flatnonzero(~data.is_test).tolist()
    for label in range(len(data.classes)):  # drawn by class
        own = (data.labels == label) & ~data.is_test
        assert (data.labels[held] == label).sum() == int(0.3 * own.sum())
    assert Classifier(data=prepared, hold_out=0.3, seed=1)._rows(store)[1].tolist() != held.tolist()


def test_held_out_accuracy(store: Store, data: PreparedData, prepared: Prepared) -> None:
    class Always(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.0, 1.0]]).expand(len(images), 2)

    stage = Classifier(data=prepared, hold_out=0.5)
    held = stage._rows(store)[1]
    expected = float((data.labels[held] == 1).mean())
    assert stage.held_out(Always(), store) == {"held_out_accuracy": pytest.approx(expected)}


@pytest.mark.parametrize("several", [False, True], ids=["alone", "SyncBatchNorm"])
def test_batch_norm_is_estimated_anew(store: Store, data: PreparedData, prepared: Prepared, several: bool) -> None:
    stage = Classifier(data=prepared, stages=3, output_stride=16, recalibrate=10, hold_out=0)
    torch.manual_seed(0)
    model = stage.network(store).eval()
    if several:  # as of a training on several GPUs
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    norm = model.bn1
    assert isinstance(norm, torch.nn.SyncBatchNorm) == several
    seen = []
    hook = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    stage.after_epoch(model, store)
    hook.remove()
    (first,) = seen
    assert len(first) == 10
    torch.testing.assert_close(norm.running_mean, first.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.running_var, first.var((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert norm.momentum == 0.1


def test_half_precision_is_held_out_and_recalibrated_in(new_store: Store) -> None:
    few = Prepared(source=ToyPets(images=20, breeds=2, size=48), size=32)
    options: dict[str, Any] = {"precision": "bf16-true", "recalibrate": 4, "batch_size": 8, "epochs": 1}
    stage = Classifier(data=few, stages=3, output_stride=16, hold_out=0.3, **options)
    assert new_store.get(stage)(torch.zeros(1, 3, 32, 32)).dtype == torch.float32  # used as any other
    assert stage.history(new_store)["held_out_accuracy"].between(0, 1).all()


def test_one_class_alone_is_refused(new_store: Store, photos: Callable[..., Path]) -> None:
    alone = Prepared(source=ImageFolder(root=str(photos("alone", classes=("cat",)))), size=32)
    with pytest.raises(SegError, match=r"one class only, 'cat'.*supervision=bbox and clip work"):
        Classifier(data=alone).check(new_store)
    Classifier(data=Prepared(source=ImageFolder(root=str(photos())), size=32)).check(new_store)


FROZEN: dict[str, Any] = {"stages": 3, "output_stride": 8, "batch_size": 8, "recalibrate": 16, "epochs": 2}


def weights_at(stage: Classifier, epoch: int, store: Store) -> dict[str, torch.Tensor]:
    return dict(load_file(store.folder(stage) / f"epoch_{epoch:03d}.safetensors"))


def test_what_is_frozen_keeps_weights_and_statistics(store: Store, prepared: Prepared) -> None:
    stage = Classifier(data=prepared, frozen_stages=2, **FROZEN)
    torch.manual_seed(stage.seed)
    before = stage.network(store).state_dict()
    store.ensure(stage)
    for epoch in (1, 2):
        for name, value in weights_at(stage, epoch, store).items():
            still = name.startswith(("conv1", "bn1", "layer1", "layer2"))
            assert torch.equal(value, before[name]) == still, name
    assert stage.history(store)["loss"].is_monotonic_decreasing


@pytest.mark.parametrize(("weights", "expected"), [(None, [0, 0, 1]), ("DEFAULT", [2, 0, 1])])
def test_the_recipe_freezes_given_weights_and_never_random_ones(
    prepared: Prepared, weights: str | None, expected: list[int]
) -> None:
    make = partial(Classifier.from_config, data=prepared, weights=weights)
    assert [make(frozen_stages=said).design.frozen_stages for said in (None, 0, 1)] == expected
    given = make("file.pth", frozen_stages=None)
    assert isinstance(given, Pretrained) and given.design.frozen_stages == expected[0]


def test_more_frozen_stages_than_there_are(new_store: Store, prepared: Prepared) -> None:
    with pytest.raises(SegError, match="frozen_stages=4: resnet18 has 3 stages before its pooling; use 0 to 3"):
        Classifier(data=prepared, stages=3, frozen_stages=4).check(new_store)


def test_frozen_as_a_whole_the_linear_layer_learns_from_features_that_are_computed_once(
    store: Store, prepared: Prepared, resnet18_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"data": prepared, "weights": resnet18_file, "frozen_stages": "all", "batch_size": 8}
    options["lr"] = 0.01
    seen: list[int] = []
    features = Backbone.features
    monkeypatch.setattr(Backbone, "features", lambda self, x: (seen.append(len(x)), features(self, x))[1])
    own = Store(store.root, dataclasses.replace(store.runtime))
    stage = Classifier(epochs=3, **options)
    own.ensure(stage)
    trainval = int((~own.get(prepared).is_test).sum())
    assert sum(seen) == trainval
    own.ensure(Classifier(epochs=5, **options))  # goes on, in the same process
    assert sum(seen) == trainval
    history = Classifier(epochs=5, **options).history(own)
    assert len(history) == 5 and history["loss"].iloc[-1] < history["loss"].iloc[0] and "held_out_accuracy" in history
    before, after = torch.load(resnet18_file), weights_at(stage, 3, own)
    assert {n for n in before if not n.startswith("fc.") and not torch.equal(before[n], after[n])} == set()
    # The features are those of the network that is saved, and CAM finds all of it frozen.
    model, rows = own.get(stage), stage.samples(own)[:4]
    pooled, _ = stage.batch(rows, torch.Generator(), own)
    with torch.inference_mode():
        images = normalise(own.get(prepared).images[rows])
        torch.testing.assert_close(model(pooled), model(images), atol=1e-5, rtol=1e-5)
    assert not list(stage.split(model)[1].children())
    assert {"zoom", "recalibrate"} <= stage.unused_parameters.keys()
    with pytest.raises(SegError, match=r"frozen_stages=all: needs pretrained features; give weights"):
        Classifier(**options | {"weights": None}).check(store)


@pytest.mark.parametrize(("kind", "entropy"), [("softmax", np.log(2)), ("logistic", np.log(2) * 2 / 3)])
def test_a_classifier_that_knows_little_more_than_the_class_frequencies_is_named(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, kind: Any, entropy: float
) -> None:
    stage = Classifier(data=prepared, kind=kind, epoch=4, lr=3e-4)
    labels = np.array([0, 0, 1, 1, 2])  # of three classes, the last one held out
    data = SimpleNamespace(labels=labels, is_labelled=labels[:, None] == np.arange(3))
    monkeypatch.setattr(Classifier, "samples", lambda *_: np.arange(4))

    def doubt(losses: list[float]) -> str:
        monkeypatch.setattr(Classifier, "history", lambda *_: pd.DataFrame({"loss": losses}))
        return stage.doubt(SimpleNamespace(get=lambda _: data))  # type: ignore[arg-type]

    assert doubt([]) == doubt([0.76 * entropy, 0.74 * entropy]) == ""
    assert f"by the class frequencies alone {entropy:.2g}" in doubt([0.1, 0.76 * entropy])
    assert "give more epochs than 4, or another classifier.lr than 0.0003" in doubt([2.0])
