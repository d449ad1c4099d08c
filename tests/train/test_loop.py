"""The training loop, on a network that learns a line."""

import logging
import math
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
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
from seg.train.loop import epoch_batches, moving_average, schedule_factor


@pytest.fixture(autouse=True)
def _nothing_trained() -> None:
    Line.trained.clear()


def test_an_epoch_of_a_long_training_is_that_of_a_short_one(new_store: Store, tmp_path: Path) -> None:
    long, short = make(epochs=3), make(epochs=2)
    assert long.key == short.key and long.id != short.id
    new_store.ensure(long)
    second = weights(new_store, make(epochs=3, epoch=2))
    assert same(second, weights(Store(tmp_path / "other", new_store.runtime), short))
    assert not same(second, weights(new_store, long))


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
    new_store.ensure(make(epoch=1))
    assert Line.trained == []
    assert same(extended, weights(Store(tmp_path / "other", new_store.runtime), make(epochs=3)))


def test_the_network_learns_and_loads_in_eval_mode(new_store: Store) -> None:
    stage = make(epochs=12, batch_size=5, lr=0.1, keep="last")

    model = new_store.get(stage)
    assert not model.training
    history = stage.history(new_store)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] / 2


def test_keep_last_keeps_the_last_epoch_and_the_one_before(new_store: Store) -> None:
    stage = make(keep="last")
    kept = weights(new_store, stage)
    found = sorted(p.name for p in new_store.folder(stage).glob("*.safetensors"))
    assert found == ["epoch_002.safetensors", "epoch_003.safetensors"]
    assert not damaged_files(new_store.folder(stage))
    assert stage.key != make().key
    assert same(kept, weights(new_store, make()))


def test_schedule_factors() -> None:
    assert [schedule_factor("constant", s, 10) for s in (0, 10)] == [1, 1]
    assert schedule_factor("poly", 5, 10) == pytest.approx(0.5**0.9)
    assert schedule_factor("poly", 10, 10) == 0
    assert [schedule_factor("cosine", s, 10) for s in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def test_epoch_batches_are_shuffled_anew_and_whole() -> None:
    rows = np.arange(50, 63)
    one, two = (list(epoch_batches(rows, 4, 0, e)) for e in (1, 2))
    assert [len(b) for b in one] == [4, 4, 4]  # the thirteenth would be alone: batch norm can't use it
    assert len(set(np.concatenate(one))) == 12 and set(np.concatenate(one)) <= set(rows)
    assert np.concatenate(one).tolist() != np.concatenate(two).tolist()
    assert np.concatenate(one).tolist() == np.concatenate(list(epoch_batches(rows, 4, 0, 1))).tolist()
    assert np.concatenate(one).tolist() != np.concatenate(list(epoch_batches(rows, 4, 1, 1))).tolist()
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


def test_without_images_there_is_nothing_to_train_on(new_store: Store) -> None:
    with pytest.raises(SegError, match="no trainval image to train on"):
        new_store.ensure(make(images=0))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "flipped": flip,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize(
    ("how", "names", "repeated", "said"),
    [
        ("flipped", ["state_002.pt"], 2, "epoch 2 cannot be gone on from; going back to epoch 1"),
        ("half", ["epoch_002.safetensors"], 2, "epoch 2 cannot be gone on from; going back to epoch 1"),
        ("gone", ["state_001.pt"], 1, None),
        ("empty", ["state_001.pt", "state_002.pt"], 3, "has no sound state to go on from; training anew"),
        ("half", ["history.csv"], 1, None),
    ],
)
def test_a_training_goes_on_from_its_newest_good_epoch(
    new_store: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    how: str,
    names: list[str],
    repeated: int,
    said: str | None,
) -> None:
    stage = make()
    new_store.ensure(make(epochs=2))
    for name in names:
        DAMAGE[how](new_store.folder(stage) / name)
    Line.trained.clear()
    with caplog.at_level(logging.WARNING):
        again = weights(Store(new_store.root, new_store.runtime), stage)
    assert sorted(Line.trained) == sorted(repeated * list(range(100, 110)))
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == (said is not None) and all("Line" in text and str(said) in text for text in warned)
    assert same(again, weights(Store(tmp_path / "other", new_store.runtime), stage))
    assert stage.history(new_store)["epoch"].tolist() == [1, 2, 3]
    assert not damaged_files(new_store.folder(stage))


@pytest.mark.parametrize(("how", "epoch", "repeated"), [("flipped", 3, 1), ("half", 2, 2), ("gone", 1, 1)])
def test_damaged_weights_are_trained_anew(
    new_store: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    how: str,
    epoch: int,
    repeated: int,
) -> None:
    new_store.ensure(make())
    DAMAGE[how](new_store.folder(make()) / f"epoch_{epoch:03d}.safetensors")
    Line.trained.clear()
    stage = make(epoch=epoch)
    found = Store(new_store.root, new_store.runtime).get(stage).state_dict()
    assert len([m for m in caplog.messages if f"{stage.id}: epoch_{epoch:03d}.safetensors " in m]) == 1
    assert sorted(Line.trained) == sorted(repeated * list(range(100, 110)))
    assert same(found, weights(Store(tmp_path / "other", new_store.runtime), make(epochs=epoch)))
    assert not damaged_files(new_store.folder(stage))


def test_a_flipped_figure_of_the_history_is_no_figure(new_store: Store) -> None:
    stage = make(epochs=1)
    new_store.ensure(stage)
    expected = stage.history(new_store)
    folder = new_store.folder(stage)
    (folder / "history.csv").write_text((folder / "history.csv").read_text().replace("1.0", "0.0"))
    pd.testing.assert_frame_equal(stage.history(new_store), expected)
    assert new_store.has(stage)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"held_out": 1.0', '"held_out": 0.0'))
    assert stage.history(new_store).empty and not new_store.has(stage)


class Scaled(Runtime):
    """16-mixed on a CPU: the first steps' gradients overflow until the scale has come down."""

    def fabric(self, precision: str) -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=2)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))  # type: ignore[arg-type]
        fabric.launch()
        return fabric


def test_a_resumed_half_precision_training_keeps_the_scale_of_its_gradients(tmp_path: Path) -> None:
    runtime = Scaled(accelerator="cpu", progress=False)
    stage, whole, parted = (
        make(precision="16-mixed", epochs=6),
        Store(tmp_path / "1", runtime),
        Store(tmp_path / "2", runtime),
    )
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


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_a_resumed_training_has_the_average_that_it_had(new_store: Store, tmp_path: Path, precision: Any) -> None:
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


def train_together(folder: Path, rank: int, port: int) -> None:
    """One of two processes."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({k: str(v) for k, v in place.items()} | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    store = Store(folder, Runtime(accelerator="cpu", devices=2))
    for epochs in (1, 3):  # the second goes on from the first
        for ema in (None, 0.8):
            store.ensure(Plain(epochs=epochs, batch_size=13, lr=1e-2, ema=ema))


def test_two_processes_have_the_gradient_of_one(
    new_store: Store, tmp_path: Path, manifest: Callable[[Path], dict[str, Any]]
) -> None:
    # 13 images in one batch: one process takes 7, the other 6.
    folder, started = tmp_path / "two", []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for rank in range(2):  # as torchrun would start them, but forked: it imports PyTorch three times
        process = multiprocessing.get_context("fork").Process(target=train_together, args=(folder, rank, port))
        process.start()
        started.append(process)
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0]
    two = Store(folder, new_store.runtime)
    for epochs in (1, 3):
        for ema in (0.8, None):
            stage = Plain(epochs=epochs, batch_size=13, lr=1e-2, ema=ema)
            new_store.ensure(stage)
            assert stage.is_complete(two.folder(stage))
            ours, theirs = (load_file(s.folder(stage) / stage.file_name) for s in (new_store, two))
            for name, value in ours.items():
                torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=1e-6)
            torch.manual_seed(stage.seed)
            start = stage.network(new_store).state_dict()
            for state in (ours, theirs):  # the first layer is frozen
                assert [name for name in start if torch.equal(state[name], start[name])] == ["0.weight", "0.bias"]
    pd.testing.assert_series_equal(stage.history(two)["loss"], stage.history(new_store)["loss"], rtol=1e-5)
    states = [torch.load(s.folder(stage) / "state_003.pt", weights_only=True) for s in (new_store, two)]
    # Adam's running mean of the gradient itself.
    means = [[value["exp_avg"] for value in state["optimizer"]["state"].values()] for state in states]
    assert len(means[0]) == 4 and all(mean.abs().max() > 0 for mean in means[0])
    for ours, theirs in zip(*means, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    # The last digits may differ with their number, which is no part of the key, but is told.
    assert [manifest(s.folder(stage))["made_with"]["processes"] for s in (new_store, two)] == [1, 2]
