"""The training loop of all networks, which resumes after a kill."""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from seg.errors import SegError
from seg.files import atomic_path, sync, sync_folder
from seg.store import Products
from seg.store.manifest import HISTORY, epoch_of, forget, is_intact, read_manifest, write_history

log = logging.getLogger(__name__)


def schedule_factor(schedule: str, step: int, total: int) -> float:
    """Factor of the learning rate at ``step`` of ``total``, in [0, 1]."""
    if schedule == "poly":
        return max(0.0, 1 - step / total) ** 0.9
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
    return 1.0


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a network's parameters and buffers, in 32 bit and ``eval`` mode.

    ``average += (1 - d) (model - average)`` with ``d = min(decay, 1 - 1 / n)`` at update ``n``: a plain mean at first.
    """

    def update(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return average + (current - average) * max(1 - decay, 1 / (int(count) + 1))

    average = AveragedModel(model, avg_fn=update, use_buffers=True)
    # In half precision, small updates would be rounded away.
    average.module.float().eval().requires_grad_(False)
    return average


def epoch_batches(rows: Any, batch_size: int, seed: int, epoch: int, processes: int = 1) -> Iterator[Any]:
    """Shuffled batches of ``rows``, for all processes together.

    A last batch with less than two images for each process is dropped, because batch norm needs two.
    """
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        if len(part) >= 2 * processes or len(order) == processes == 1:
            yield part


class Loop:
    """Trains a stage in its folder up to the epoch of its product.

    Weights and optimizer are saved after every epoch. Order and augmentation of an epoch depend on ``(seed, epoch)``
    alone, so a resumed training gives the same weights as an uninterrupted one.

    Several processes share every batch, and the gradient is that of the whole batch. On CPUs the statistics of batch
    norm are those of a process's share. With ``ema`` the product is :func:`moving_average`, and the trained network is
    in the state.
    """

    def __init__(self, stage: Any, folder: Path, store: Products) -> None:
        self.stage, self.folder, self.store = stage, folder, store
        self.name = type(stage).__name__
        self.rows = stage.samples(store)
        if len(self.rows) == 0:
            raise SegError(f"{self.name}: there is no trainval image to train on; put some into trainval")
        torch.manual_seed(stage.seed)
        model = stage.network(store)
        self.fabric = store.runtime.fabric(stage.precision)
        self.world, self.rank = self.fabric.world_size, self.fabric.global_rank
        self.done, self.history, state = self._resume()
        if state:
            model.load_state_dict(state.get("model", state["saved"]))
        if self.world > 1 and self.fabric.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.steps = sum(1 for _ in self._batches(0))
        if self.steps == 0 and self.world > 1:
            raise SegError(
                f"{self.name}: batch_size={stage.batch_size} and {len(self.rows)} images give {self.world} processes "
                "less than two images each; use fewer devices"
            )
        self.model: nn.Module = model.to(memory_format=torch.channels_last)
        for part in stage.frozen(self.model):
            part.requires_grad_(False)
        groups = stage.groups(self.model)
        self.rates = [group["lr"] for group in groups]
        options: dict[str, Any] = {"params": groups, "weight_decay": stage.weight_decay}
        sgd = stage.optimizer == "sgd"
        optimizer = torch.optim.SGD(momentum=0.9, **options) if sgd else torch.optim.Adam(**options)
        self.wrapped, self.optimizer = self.fabric.setup(self.model, optimizer)
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
            if "precision" in state:
                self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.average: AveragedModel | None = None
        if stage.ema is not None:
            self.average = moving_average(self.model, stage.ema)
            if state:
                self.average.module.load_state_dict(state["saved"])
                self.average.n_averaged.fill_(self.done * self.steps)
        self.product: nn.Module = self.model if self.average is None else self.average.module

    def run(self) -> None:
        for epoch in range(self.done + 1, self.stage.wanted + 1):
            started = time.perf_counter()
            row = self._epoch(epoch)
            self.stage.after_epoch(self.product, self.store)
            self.wrapped.eval()
            self.product.eval()
            with torch.inference_mode(), self.fabric.autocast():
                row |= self.stage.held_out(self.product, self.store)
            row["seconds"] = round(time.perf_counter() - started, 2)
            if self.rank == 0:
                self._save(row)
                if self.store.on_epoch is not None:
                    self.store.on_epoch(self.stage)
            self.fabric.barrier()
            shown = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k not in ("epoch", "seconds"))
            log.info("%s epoch %d/%d  %s  (%.1f s)", self.name, epoch, self.stage.wanted, shown, row["seconds"])

    def _batches(self, epoch: int) -> Iterator[Any]:
        return epoch_batches(self.rows, self.stage.batch_size, self.stage.seed, epoch, self.world)

    def _epoch(self, epoch: int) -> dict[str, Any]:
        """One pass over the images; returns the means of loss and metrics."""
        stage = self.stage
        # Dropout draws from the global generator, everything else from this one.
        torch.manual_seed(stage.seed * 100_003 + epoch)
        generator = torch.Generator().manual_seed((stage.seed * 100_003 + epoch) + self.rank * 1_000_000_007)
        self.wrapped.train()
        for part in stage.frozen(self.model):
            part.eval()
        totals: dict[str, Tensor] = {}
        count = 0
        bar = self.store.runtime.bar(self._batches(epoch), f"{self.name} epoch {epoch}/{stage.wanted}", self.steps)
        for i, part in enumerate(bar):
            step = (epoch - 1) * self.steps + i
            factor = schedule_factor(stage.schedule, step, stage.epochs * self.steps)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            own = part[self.rank :: self.world]
            for name, value in self._step(own, len(part), generator).items():
                totals[name] = totals.get(name, 0) + value.detach() * len(own)
            if self.average is not None:
                self.average.update_parameters(self.model)
            count += len(part)
        if self.world > 1 and self.average is not None:
            # All processes use the running statistics of the first, which are saved.
            self.product.load_state_dict(self.fabric.broadcast(_on_cpu(self.product)))
        if self.world > 1:
            totals = cast("dict[str, Tensor]", self.fabric.all_reduce(totals, reduce_op="sum"))
        row = {"epoch": epoch, **{name: float(total) / count for name, total in totals.items()}}
        if not math.isfinite(row["loss"]):
            raise SegError(f"{self.name}: the loss of epoch {epoch} is {row['loss']}; lower lr (now {stage.lr:g})")
        return row

    def _step(self, own: Any, images: int, generator: torch.Generator) -> dict[str, Tensor]:
        """An optimizer step on ``own``, this process's share of a batch of ``images``."""
        batch = self.fabric.to_device(self.stage.batch(own, generator, self.store))
        loss, metrics = self.stage.loss(self.wrapped, batch)
        self.optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over processes, whose shares may differ by an image.
        self.fabric.backward(loss * (len(own) * self.world / images) if self.world > 1 else loss)
        self.optimizer.step()
        return {"loss": loss, **metrics}

    # -- checkpoints -----------------------------------------------------------------------------------

    def _resume(self) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
        """The newest epoch with undamaged weights and state (0 for none), the history up to it, and its state."""
        from safetensors.torch import load_file

        folder = self.folder
        manifest = read_manifest(folder) or {"files": []}
        entries = {entry["name"]: entry for entry in manifest["files"]}
        newest = min(manifest.get("epochs_done", 0), self.stage.wanted - 1)

        def is_sound(epoch: int) -> bool:
            pair = (_weights(epoch), _state(epoch))
            return all(name in entries and is_intact(folder, entries[name], checksum=True) for name in pair)

        # The first process decides for all.
        done = self.fabric.broadcast(next(filter(is_sound, range(newest, 0, -1)), 0))
        if done < newest:
            log.warning("%s: epoch %d is damaged or has no state; going back to epoch %d", self.name, newest, done)
        if self.rank == 0:
            # A manifest must not list files that will be overwritten.
            if later := {name for name in entries if epoch_of(name) > done}:
                forget(folder, manifest, later)
            for path in folder.glob("*"):
                if path.suffix == ".tmp" or epoch_of(path.name) > done:
                    path.unlink(missing_ok=True)
        if not done:
            return 0, [], {}
        log.info("%s: resuming after epoch %d", self.name, done)
        state = torch.load(folder / _state(done), weights_only=True, map_location="cpu")
        history = [row for row in manifest["history"] if row["epoch"] <= done]
        return done, history, {**state, "saved": load_file(folder / _weights(done))}

    def _save(self, row: dict[str, Any]) -> None:
        """Write an epoch: weights, state, history, and last the manifest, which makes them valid."""
        from safetensors.torch import save

        epoch, folder = int(row["epoch"]), self.folder
        with atomic_path(folder / _weights(epoch)) as tmp:
            # With several metadata items their order, and so the file, would be random.
            tmp.write_bytes(save(_on_cpu(self.product), {"epoch": f"{self.name} {epoch}"}))
        state = {"epoch": epoch, "optimizer": self.optimizer.state_dict()}
        if precision := self.fabric.strategy.precision.state_dict():  # the scaler of 16-mixed
            state["precision"] = precision
        if self.average is not None:
            state["model"] = _on_cpu(self.model)
        # To an open file, because torch.save writes the name of a path.
        with atomic_path(folder / _state(epoch)) as tmp, tmp.open("wb") as file:
            torch.save(state, file)
        self.history.append(row)
        write_history(folder / HISTORY, self.history)
        sync([folder / _weights(epoch), folder / _state(epoch), folder / HISTORY])
        sync_folder(folder)
        # The previous epoch is kept as a fallback.
        old = [_state(epoch - 2), *([_weights(epoch - 2)] if self.stage.keep == "last" else [])]
        extra = {"epochs_done": epoch, "history": self.history}
        self.store.write_manifest(self.stage, folder, sum(x["seconds"] for x in self.history), extra, without=old)
        for name in old:
            (folder / name).unlink(missing_ok=True)


def _weights(epoch: int) -> str:
    return f"epoch_{epoch:03d}.safetensors"


def _state(epoch: int) -> str:
    return f"state_{epoch:03d}.pt"


def _on_cpu(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
