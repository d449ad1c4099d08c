"""The training loop, on a network that learns a line."""

import logging
import math
import multiprocessing
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from line import Line, damaged_files, make, same, weights
from safetensors.torch import load_file
from torch import nn

from seg.errors import SegError
from seg.store import Products, Runtime, Store
from seg.train import Training
from seg.train.loop import epoch_batches, moving_average


@pytest.fixture(autouse=True)
def _nothing_trained() -> None:
    Line.trained.clear()


def test_a_later_epoch_trains_only_what_is_missing(new_store: Store, tmp_path: Path) -> None:
    new_store.ensure(make(epochs=1))
    assert sorted(Line.trained) == list(range(100, 110))
    (line,) = new_store.plan([make(epochs=3)])
    assert (line.status, line.why) == ("extend", "has 1 epochs, 3 wanted")
    Line.trained.clear()
    extended = weights(new_store, make(epochs=3))
    assert sorted(Line.trained) == sorted(2 * list(range(100, 110)))
    Line.trained.clear()
    assert new_store.plan([make(epoch=1)])[0].status == "built"
    second = weights(new_store, make(epochs=3, epoch=2))
    assert Line.trained == []
    other = Store(tmp_path / "other", new_store.runtime)
    assert same(second, weights(other, make(epochs=2))) and same(extended, weights(other, make(epochs=3)))
    assert not same(second, extended)


def test_stochastic_gradient_descent_goes_on_with_its_momentum(new_store: Store, tmp_path: Path) -> None:
    one, two = (make(optimizer="sgd", epochs=n, lr=0.01) for n in (1, 2))
    new_store.ensure(one)
    (state,) = new_store.folder(one).glob("state_*.pt")
    assert "momentum_buffer" in torch.load(state, weights_only=True)["optimizer"]["state"][0]
    assert same(weights(new_store, two), weights(Store(tmp_path / "other", new_store.runtime), two))
    assert two.key != make(lr=0.01).key


def test_keep_last_keeps_the_last_epoch_and_the_one_before(new_store: Store) -> None:
    stage, everything = make(keep="last", epochs=4, lr=0.1), make(epochs=4, lr=0.1)
    assert not new_store.get(stage).training and stage.key != everything.key
    history = stage.history(new_store)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    found = sorted(p.name for p in new_store.folder(stage).glob("*.safetensors"))
    assert found == ["epoch_003.safetensors", "epoch_004.safetensors"]
    assert not damaged_files(new_store.folder(stage))
    assert same(weights(new_store, stage), weights(new_store, everything))


def test_epoch_batches_are_shuffled_anew_and_whole() -> None:
    rows = np.arange(50, 63)
    one, two = (list(epoch_batches(rows, 4, 0, e)) for e in (1, 2))
    assert [len(b) for b in one] == [4, 4, 4]  # the thirteenth would be alone: batch norm can't use it
    assert len(set(np.concatenate(one))) == 12 and set(np.concatenate(one)) <= set(rows)
    assert np.concatenate(one).tolist() != np.concatenate(two).tolist()
    assert [b.tolist() for b in epoch_batches(rows[:1], 4, 0, 1)] == [[50]]
    for images, sizes in ((19, [8, 8]), (20, [8, 8, 4])):  # each of two processes has two images
        assert [len(b) for b in epoch_batches(np.arange(images), 8, 0, 1, processes=2)] == sizes


def test_a_loss_that_is_not_finite_is_an_error_and_no_epoch(new_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make()
    new_store.ensure(make(epochs=1))
    monkeypatch.setattr(Line, "loss", lambda *_: (torch.tensor(math.nan, requires_grad=True), {}))
    with pytest.raises(SegError, match=r"Line: the loss of epoch 2 is nan; lower lr \(now 0.01\)"):
        new_store.ensure(stage)
    assert not (new_store.folder(stage) / "epoch_002.safetensors").exists()
    assert new_store.has(make(epochs=1)) and not new_store.has(stage)
    with pytest.raises(SegError, match="no trainval image to train on"):
        new_store.ensure(make(images=0))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "names", "repeated"),
    [
        (flip, ["state_002.pt"], 2),
        (Path.unlink, ["epoch_002.safetensors"], 2),
        (halve, ["state_001.pt", "state_002.pt"], 3),
    ],
)
def test_a_training_goes_on_from_its_newest_good_epoch(
    new_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any, names: list[str], repeated: int
) -> None:
    stage = make()
    new_store.ensure(make(epochs=2))
    for name in names:
        damage(new_store.folder(stage) / name)
    Line.trained.clear()
    with caplog.at_level(logging.WARNING):
        again = weights(Store(new_store.root, new_store.runtime), stage)
    assert sorted(Line.trained) == sorted(repeated * list(range(100, 110)))
    assert f"Line: epoch 2 is damaged or has no state; going back to epoch {3 - repeated}" in caplog.text
    assert same(again, weights(Store(tmp_path / "other", new_store.runtime), stage))
    assert stage.history(new_store)["epoch"].tolist() == [1, 2, 3]
    assert not damaged_files(new_store.folder(stage))


class Scaled(Runtime):
    """16-mixed on a CPU: the first steps' gradients overflow until the scale has come down."""

    def fabric(self, precision: str) -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=2)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))  # type: ignore[arg-type]
        fabric.launch()
        return fabric


def test_a_resumed_half_precision_training_keeps_the_scale_of_its_gradients(tmp_path: Path) -> None:
    runtime = Scaled(accelerator="cpu", progress=False)
    stage = make(precision="16-mixed", epochs=6)
    whole, parted = (Store(tmp_path / name, runtime) for name in "12")
    expected = weights(whole, stage)
    for epochs in (2, 6):
        found = weights(parted, make(precision="16-mixed", epochs=epochs))
    states = [torch.load(s.folder(stage) / "state_006.pt", weights_only=True) for s in (whole, parted)]
    assert states[0]["precision"] == states[1]["precision"]
    assert states[0]["precision"]["scale"] < 2.0**24  # or this test says nothing
    assert same(found, expected)


def test_the_moving_average_begins_as_a_mean_and_has_the_statistics_too() -> None:
    model = torch.nn.BatchNorm1d(2)
    average = moving_average(model, 0.6)
    states = []
    for _ in range(4):
        model.weight.data.normal_()
        model(torch.randn(8, 2))
        average.update_parameters(model)
        states.append({k: v.clone() for k, v in model.state_dict().items()})
    for name, found in average.module.state_dict().items():
        expected = states[0][name].float()
        for n, state in enumerate(states[1:], 2):
            decay = min(0.6, 1 - 1 / n)
            expected = decay * expected + (1 - decay) * state[name]
        if found.is_floating_point():
            torch.testing.assert_close(found, expected)
    assert not average.module.training


def test_a_resumed_training_has_the_average_that_it_had(new_store: Store, tmp_path: Path) -> None:
    precision = "bf16-true"
    whole, options = Store(tmp_path / "whole", new_store.runtime), {"ema": 0.9, "precision": precision}
    expected = weights(whole, make(epochs=4, **options))
    for epochs in (1, 3, 4):
        found = weights(new_store, make(epochs=epochs, **options))
    assert same(found, expected)
    ours, theirs = (torch.load(s.folder(make(epochs=4, **options)) / "state_004.pt") for s in (whole, new_store))
    assert same(ours["model"], theirs["model"]) and not same(ours["model"], expected)
    assert same(ours["model"], weights(new_store, make(epochs=4, precision=precision)))  # what is learnt stays


class Plain(Training):
    """Without dropout, batch norm and augmentation: what a batch gives does not depend on who takes which part."""

    def network(self, store: Products) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def frozen(self, model: nn.Module) -> Sequence[nn.Module]:
        return [model[0]]  # type: ignore[index]

    def samples(self, store: Products) -> np.ndarray:
        return np.arange(13)

    def batch(self, rows: np.ndarray, generator: torch.Generator, store: Products) -> tuple[torch.Tensor, ...]:
        x = torch.from_numpy(rows[:, None] % np.asarray([3, 5, 7])).float()
        return x, x.sum(1)

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return ((model(batch[0])[:, 0] - batch[1]) ** 2).mean(), {}


def together(epochs: int) -> Plain:
    return Plain(epochs=epochs, batch_size=13, lr=1e-2, ema=0.8)


def train_together(folder: Path, rank: int, port: int) -> None:
    """One of two processes."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({k: str(v) for k, v in place.items()} | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    store = Store(folder, Runtime(accelerator="cpu", devices=2))
    for epochs in (1, 3):  # the second goes on from the first
        store.ensure(together(epochs))


def test_two_processes_have_the_gradient_of_one(new_store: Store, tmp_path: Path) -> None:
    # 13 images in one batch: one process takes 7, the other 6.
    folder, spawn = tmp_path / "two", multiprocessing.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # As torchrun would start them; autograd that has run here does not survive a fork.
    started = [spawn.Process(target=train_together, args=(folder, rank, port)) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0]
    stage, two = together(3), Store(folder, new_store.runtime)
    new_store.ensure(stage)
    folders = [store.folder(stage) for store in (new_store, two)]
    averages = [load_file(folder / stage.file_name) for folder in folders]
    models = [torch.load(folder / "state_003.pt", weights_only=True)["model"] for folder in folders]
    for ours, theirs in (averages, models):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    torch.manual_seed(stage.seed)
    start = stage.network(new_store).state_dict()
    assert [name for name in start if torch.equal(models[1][name], start[name])] == ["0.weight", "0.bias"]  # frozen
    pd.testing.assert_series_equal(stage.history(two)["loss"], stage.history(new_store)["loss"], rtol=1e-5)
