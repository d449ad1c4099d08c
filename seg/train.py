"""One training loop for the three networks: a stream of epochs that survives being killed.

With a constant learning rate the network at epoch 12 is a prefix of the one at epoch 20, so a training is
one growing folder: ``epoch_001.safetensors`` and so on, ``history.csv``, and the optimizer's ``state.pt``.
Asking for a later epoch trains only what is missing. A schedule that depends on the total number of epochs
makes that number part of the identity.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from seg.checkpoints import beside, find_checkpoint, fit_into
from seg.errors import SegError
from seg.stage import Stage, file_sha256, param
from seg.store import Store, atomic_path, read_json

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor, nn

log = logging.getLogger(__name__)


class Training(Stage):
    """Base of the stages that train a network with Adam.

    Attributes:
        epochs: length of the training as the schedule sees it.
        epoch: the epoch whose weights are wanted; null for the last.
        batch_size: images per optimizer step.
        lr: Adam's learning rate (after warm-up none; see ``schedule``).
        weight_decay: Adam's L2 penalty.
        schedule: ``constant``; ``poly`` (factor ``(1 - step/total)**0.9``); ``cosine``.
        flip: mirror half of the images.
        zoom: random crops down to this share of the side are stretched to the full size.
        jitter: brightness, contrast and colour of an image vary by up to this factor.
        seed: of the weights that are drawn, the order of the images and their augmentation.
        precision: as Lightning Fabric names it (``32-true``, ``bf16-mixed``); it changes numbers, so it is
            part of the key.
        keep: ``all`` keeps every epoch's weights, ``last`` only the newest.
        checkpoint: a state dict, a folder of one per epoch (``...epoch7.pth``), or a run's folder, to use instead
            of training; what the training would have needed is then not needed.
        role: what ``checkpoints.*`` and the run's folder call the network.
    """

    in_place: ClassVar[bool] = True
    role: ClassVar[str] = ""

    epochs: int = param(default=20, low=1, key=False)
    epoch: int | None = param(default=None, low=1, key=False)
    batch_size: int = param(default=32, low=1)
    lr: float = param(default=1e-4, above=0)
    weight_decay: float = param(default=0.0, low=0)
    schedule: Literal["constant", "poly", "cosine"] = param(default="constant")
    flip: bool = param(default=True)
    zoom: float = param(default=1.0, above=0, high=1)
    jitter: float = param(default=0.0, low=0, below=1)
    seed: int = param(default=0, low=0)
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"] = param(
        default="32-true"
    )
    keep: Literal["all", "last"] = param(default="all", key=False)
    checkpoint: str | None = param(default=None, key=False)

    def validate(self) -> None:
        """An epoch beyond the total is only meaningful for a training that can go on."""
        if self.checkpoint is None and self.schedule != "constant" and self.wanted > self.epochs:
            raise SegError(
                f"epoch={self.epoch}: the {self.schedule} schedule of {type(self).__name__} ends at "
                f"epochs={self.epochs}; ask for an earlier epoch or raise epochs"
            )

    @property
    def wanted(self) -> int:
        """The epoch whose weights are wanted, from 1."""
        return self.epoch if self.epoch is not None else self.epochs

    @property
    def product(self) -> str:
        """One stream of training has many products, one per epoch."""
        return f"{self.key}@{self.wanted}"

    @property
    def file_name(self) -> str:
        """Name of the wanted weights within the product's folder."""
        return f"epoch_{self.wanted:03d}.safetensors"

    def params(self) -> dict[str, Any]:
        """The length enters the key where it changes the weights, or which of them are kept.

        Given weights are their content; how one would have trained plays no part then.
        """
        if self.checkpoint is not None:
            return {"given": file_sha256(self.given()), "epoch": self.wanted, **self.shape()}
        out = super().params()
        if self.schedule != "constant":
            out["epochs"] = self.epochs
        if self.keep == "last":
            out["epoch"] = self.wanted
        return out

    def upstream(self) -> dict[str, Stage]:
        """What a training needs; given weights need less."""
        return super().upstream() if self.checkpoint is None else self.needs()

    @cached_property
    def is_oracle(self) -> bool:
        """Of given weights, what the JSON beside them says."""
        if self.checkpoint is None:
            return super().is_oracle
        return bool(beside(self.given()).get("oracle"))

    def given(self) -> Path:
        """The file that ``checkpoint`` names."""
        return find_checkpoint(Path(str(self.checkpoint)), self.role, self.wanted)

    def is_complete(self, folder: Path) -> bool:
        """Whether the wanted epoch's weights are there."""
        manifest = read_json(folder / "manifest.json") or {}
        return manifest.get("epochs_done", 0) >= self.wanted and (folder / self.file_name).is_file()

    # -- what a subclass says --------------------------------------------------------------------------

    def shape(self) -> dict[str, Any]:
        """The parameters that given weights need: those of the network and of its use."""
        return {}

    def needs(self) -> dict[str, Stage]:
        """The stages that given weights need, by field name."""
        return {}

    def empty(self, store: Store) -> "nn.Module":
        """A network for weights that come from elsewhere, on the CPU; nothing need be read or fetched for it."""
        return self.network(store)

    def network(self, store: Store) -> "nn.Module":
        """A fresh network with its initial weights, on the CPU."""
        raise TypeError(f"{type(self).__name__} has no network()")

    def samples(self, store: Store) -> Any:
        """An array of the prepared rows to train on."""
        raise TypeError(f"{type(self).__name__} has no samples()")

    def batch(self, rows: Any, generator: "torch.Generator", store: Store) -> "tuple[Tensor, ...]":
        """Tensors of a batch, augmented, the images first: ``float32 (B, 3, H, W)``."""
        raise TypeError(f"{type(self).__name__} has no batch()")

    def loss(self, model: "nn.Module", batch: "tuple[Tensor, ...]") -> "tuple[Tensor, dict[str, Tensor]]":
        """The loss to minimise and further means to log, all scalars."""
        raise TypeError(f"{type(self).__name__} has no loss()")

    def groups(self, model: "nn.Module") -> list[dict[str, Any]]:
        """Parameter groups for Adam; ``lr`` in a group is multiplied by the schedule too."""
        return [{"params": [p for p in model.parameters() if p.requires_grad], "lr": self.lr}]

    def after_epoch(self, model: "nn.Module", store: Store) -> None:
        """What is done to the weights or statistics before an epoch is measured and saved."""

    def held_out(self, model: "nn.Module", store: Store) -> dict[str, float]:
        """Metrics on images that are not trained on, at the end of an epoch."""
        return {}

    # -- the product -----------------------------------------------------------------------------------

    def build(self, out: Path, store: Store) -> None:
        """Train up to the wanted epoch, from wherever the folder stands; or take over what is given."""
        if self.checkpoint is None:
            fit(self, out, store)
        elif store.runtime.leads:
            from safetensors.torch import save_file

            weights = {k: v.contiguous() for k, v in self.load_given(store).state_dict().items()}
            with atomic_path(out / self.file_name) as tmp:
                save_file(weights, tmp)
            store.write_manifest(self, out, 0.0, {"epochs_done": self.wanted, "given": str(self.checkpoint)})

    def load_given(self, store: Store) -> "nn.Module":
        """The network with the weights that are given, on the CPU.

        Raises:
            SegError: for a file that is missing, broken or of another network, naming what would fit.
        """
        from seg.backbones import read_state_dict

        file, key = self.given(), f"checkpoints.{self.role}"
        model = self.empty(store)
        fit_into(model, read_state_dict(file, key=key), file, key)
        return model

    def load(self, path: Path, store: Store) -> "nn.Module":
        """The network with the wanted epoch's weights, in ``eval`` mode on the device of inference."""
        from safetensors.torch import load_file

        model = self.empty(store)  # a sweep loads one per epoch: not by way of the weights that it started from
        model.load_state_dict(load_file(path / self.file_name))
        return model.to(store.runtime.device).eval()

    def history(self, store: Store) -> "pd.DataFrame":
        """Loss and metrics by epoch, up to the wanted one; empty for weights that were given."""
        import pandas as pd

        path = store.folder(self) / "history.csv"
        if not path.exists():
            return pd.DataFrame(columns=["epoch", "loss"])
        frame = pd.read_csv(path)
        return frame[frame["epoch"] <= self.wanted]


def schedule_factor(schedule: str, step: int, total: int) -> float:
    """Factor of the learning rate at ``step`` of ``total``, in [0, 1]."""
    if schedule == "poly":
        return max(0.0, 1 - step / total) ** 0.9
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
    return 1.0


def epoch_batches(rows: Any, batch_size: int, seed: int, epoch: int, processes: int = 1) -> Iterator[Any]:
    """Shuffled batches of ``rows``, of all processes together.

    A last batch that does not give every process two images is dropped (batch norm can't use a single one).
    """
    import numpy as np

    order = np.random.default_rng((seed, epoch)).permutation(rows)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        if len(part) >= 2 * processes or len(order) == processes == 1:
            yield part


def fit(stage: Training, folder: Path, store: Store) -> None:
    """Train ``stage`` in ``folder`` up to its wanted epoch.

    The weights and the optimizer's state are saved at every epoch, so that a killed training loses at most
    one. Each epoch's order and augmentation come from ``(seed, epoch)`` alone, so a resumed training gives
    the weights that an uninterrupted one gives.

    Where several processes train together, each takes its share of every batch of ``batch_size`` images, and the
    gradient is that of the mean over the whole batch; only batch norm sees each share alone, unless on GPUs, where
    its statistics are those of the whole batch too.
    """
    import torch

    rows = stage.samples(store)
    if len(rows) == 0:
        raise SegError(f"{type(stage).__name__}: there is no trainval image to train on")
    torch.manual_seed(stage.seed)
    model = stage.network(store)
    fabric = store.runtime.fabric(stage.precision)
    done, seconds, state = _resume(stage, folder, model, store)
    world, rank = fabric.world_size, fabric.global_rank
    if world > 1 and fabric.device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if world > 1 and not any(True for _ in epoch_batches(rows, stage.batch_size, stage.seed, 0, world)):
        raise SegError(
            f"{type(stage).__name__}: batch_size={stage.batch_size} and {len(rows)} images leave {world} processes "
            "less than two images each; use fewer devices"
        )
    model = model.to(memory_format=torch.channels_last)
    groups = stage.groups(model)
    rates = [group["lr"] for group in groups]
    wrapped, optimizer = fabric.setup(model, torch.optim.Adam(groups, weight_decay=stage.weight_decay))
    if state:
        optimizer.load_state_dict(state["optimizer"])
    steps = sum(1 for _ in epoch_batches(rows, stage.batch_size, stage.seed, 0, world))
    for epoch in range(done + 1, stage.wanted + 1):
        started = time.perf_counter()
        # Dropout and the like draw from the global generator; the rest from this one.
        torch.manual_seed(stage.seed * 100_003 + epoch)
        generator = torch.Generator().manual_seed((stage.seed * 100_003 + epoch) + rank * 1_000_000_007)
        wrapped.train()
        totals: dict[str, Tensor] = {}
        count = 0
        batches = epoch_batches(rows, stage.batch_size, stage.seed, epoch, world)
        for i, part in enumerate(
            store.runtime.bar(batches, f"{type(stage).__name__} epoch {epoch}/{stage.wanted}", steps)
        ):
            factor = schedule_factor(stage.schedule, (epoch - 1) * steps + i, stage.epochs * steps)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            own = part[rank::world]
            batch = fabric.to_device(stage.batch(own, generator, store))
            loss, metrics = stage.loss(wrapped, batch)
            optimizer.zero_grad(set_to_none=True)
            # Gradients are averaged over the processes, whose shares may differ by an image.
            fabric.backward(loss * (len(own) * world / len(part)) if world > 1 else loss)
            optimizer.step()
            count += len(part)
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0) + value.detach() * len(own)
        if world > 1:
            totals = cast("dict[str, Tensor]", fabric.all_reduce(totals, reduce_op="sum"))
        row = {"epoch": epoch, **{name: float(total) / count for name, total in totals.items()}}
        if not math.isfinite(row["loss"]):
            raise SegError(
                f"{type(stage).__name__}: the loss of epoch {epoch} is {row['loss']}; lower lr (now {stage.lr:g})"
            )
        stage.after_epoch(model, store)
        wrapped.eval()
        with torch.inference_mode():
            row |= stage.held_out(model, store)
        row["seconds"] = round(time.perf_counter() - started, 2)
        seconds += row["seconds"]
        if rank == 0:
            _save(stage, folder, store, model, optimizer, row, seconds)
            if store.on_epoch is not None:
                store.on_epoch(stage)
        fabric.barrier()
        shown = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k not in ("epoch", "seconds"))
        log.info("%s epoch %d/%d  %s  (%.1f s)", type(stage).__name__, epoch, stage.wanted, shown, row["seconds"])


def _resume(stage: Training, folder: Path, model: "nn.Module", store: Store) -> tuple[int, float, dict[str, Any]]:
    """Load the newest state of ``folder`` into ``model``: epochs done, seconds spent, the state."""
    import torch
    from safetensors.torch import load_file

    manifest = read_json(folder / "manifest.json") or {}
    if not manifest.get("epochs_done") or not (folder / "state.pt").is_file():
        return 0, 0.0, {}
    state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
    # The manifest is written after the state; a kill between the two leaves the state one epoch ahead,
    # and that epoch is trained again from the weights of the one before only if its state is lost.
    done = int(state["epoch"])
    newest = folder / f"epoch_{done:03d}.safetensors"
    if done >= stage.wanted or not (newest.is_file() or "model" in state):
        # Weights are gone, and the state is of the wanted epoch or beyond it: only a new start leads to them.
        log.warning("%s: %s is missing; training anew", type(stage).__name__, folder / stage.file_name)
        if store.runtime.leads:
            (folder / "manifest.json").unlink()
        return 0, 0.0, {}
    if done > manifest["epochs_done"] and store.runtime.leads:
        store.write_manifest(stage, folder, float(manifest["seconds"]), {"epochs_done": done})
    # States of before had the weights in them too.
    model.load_state_dict(state["model"] if "model" in state else load_file(newest))
    log.info("%s: going on after epoch %d", type(stage).__name__, done)
    return done, float(manifest["seconds"]), state


def _save(
    stage: Training,
    folder: Path,
    store: Store,
    model: "nn.Module",
    optimizer: Any,
    row: Mapping[str, Any],
    seconds: float,
) -> None:
    """Write an epoch: weights, history, state, and last the manifest that makes them count."""
    import pandas as pd
    import torch
    from safetensors.torch import save_file

    epoch = int(row["epoch"])
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    with atomic_path(folder / f"epoch_{epoch:03d}.safetensors") as tmp:
        save_file(weights, tmp, {"epoch": str(epoch), "stage": type(stage).__name__})
    path = folder / "history.csv"
    frame = pd.DataFrame([row])
    if path.exists():
        old = pd.read_csv(path)
        frame = pd.concat([old[old["epoch"] < epoch], frame])
    with atomic_path(path) as tmp:
        frame.to_csv(tmp, index=False)
    with atomic_path(folder / "state.pt") as tmp:
        torch.save({"epoch": epoch, "optimizer": optimizer.state_dict()}, tmp)
    store.write_manifest(stage, folder, seconds, {"epochs_done": epoch})
    if stage.keep == "last":
        (folder / f"epoch_{epoch - 1:03d}.safetensors").unlink(missing_ok=True)
