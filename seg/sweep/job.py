"""One job of a sweep: a run whose failure does not end the others."""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seg.config.process import given_overrides, run_folder
from seg.config.tree import make_objects
from seg.errors import SegError
from seg.evaluation.per_image import write_per_image
from seg.evaluation.table import headline
from seg.experiment import Experiment
from seg.files import DiskError, io_error, read_json, seal, unseal, write_json
from seg.methods.thresholds import ScoreStats
from seg.pipeline import run
from seg.store import Store
from seg.store.run_folders import RECORD
from seg.supervision.auto_threshold import ScoreHistogram
from seg.sweep.results import Row, Sweep
from seg.sweep.seeds import is_seed


@dataclass
class Shared:
    """What the jobs of one process share.

    Attributes:
        stores: by their settings, with open products. objects: stages by class and arguments.
    """

    stores: dict[str, Store] = field(default_factory=dict)
    objects: dict[Any, Any] = field(default_factory=dict)

    def store(self, cfg: DictConfig) -> Store:
        """The store that a job's config names."""
        name = f"{cfg.store} {cfg.runtime}"
        if name not in self.stores:
            self.stores[name] = Store(Path(cfg.store), make_objects(cfg, "runtime"))
        return self.stores[name]


@lru_cache(maxsize=1)
def shared_by(started: float) -> Shared:
    """The shared objects of the sweep that started at this time."""
    return Shared()


@dataclass(frozen=True)
class SweepTask:
    """The task that Hydra's launchers call for every job, in this process or another."""

    sweep: Sweep

    def __call__(self, cfg: DictConfig) -> None:
        """Run one job, write its record and its row, print the progress. A full disk ends the sweep."""
        try:
            self._run(cfg)
        except Exception as error:
            refusal = io_error(error, "sweep", self.sweep.folder, "hydra.sweep.dir") or error
            if not isinstance(refusal, DiskError):
                raise
            sys.exit(f"error: {refusal}; the same command continues the sweep")

    def _run(self, cfg: DictConfig) -> None:
        folder, overrides = run_folder(), given_overrides()
        given = dict(text.partition("=")[::2] for text in overrides)
        row: Row = {key: given.get(key, "") for key in self.sweep.swept} | {"folder": folder.name}
        started = time.perf_counter()
        record: dict[str, Any] = {"overrides": overrides}
        try:
            _take_device(self.sweep.workers)
            shared = shared_by(self.sweep.started)
            experiment = run(cfg, folder, shared.store(cfg), figures=bool(cfg.figures), objects=shared.objects)
            row |= {"status": "ok", **headlines(experiment.rows)}
            row |= held_out(experiment)
            row["separability"] = separability(experiment)
            if any(map(is_seed, self.sweep.swept)):
                write_per_image(folder, experiment.per_image())
            record["figures"] = experiment.figures()
        except Exception as error:  # a KeyboardInterrupt still ends the sweep
            error = io_error(error, "sweep", self.sweep.folder, "hydra.sweep.dir") or error
            if isinstance(error, DiskError):
                raise
            row |= {"status": "failed", "error": str(error) if isinstance(error, SegError) else repr(error)}
            (folder / "error.txt").write_text(traceback.format_exc())
        else:
            (folder / "error.txt").unlink(missing_ok=True)
        row["seconds"] = round(time.perf_counter() - started, 3)
        write_json(folder / RECORD, seal({**record, "row": row}), synced=True)
        self.sweep.show(row, self.sweep.add(row))


def headlines(rows: Sequence[Row]) -> Row:
    """The metrics that a sweep compares, on trainval; and those of the same step on test (``miou_test``, ...).

    Args:
        rows: of the table.
    """
    trainval, test = ([row for row in rows if row["split"] == split] for split in ("trainval", "test"))
    found: Row = {"miou": None, **(headline(trainval) if trainval else {})}
    same = [row for row in test if row["stage"] == found.get("stage", row["stage"])]
    if not same:
        return found
    keys, measured = ("miou", "iou_background", "iou_foreground", "images"), headline(same)
    of_test = {f"{key}_test": measured[key] for key in keys}
    return {**measured, **dict.fromkeys((*keys, "split")), **found, **of_test}


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a job's last run; with an empty ``row`` if it is missing or damaged."""
    try:
        record = unseal(read_json(folder / RECORD)) or {}
    except (OSError, ValueError, RecursionError):
        record = {}
    return {"row": {}} | record


def held_out(experiment: Experiment) -> Row:
    """``held_out_accuracy`` or ``held_out_map`` of the classifier at the job's epoch, where there is one."""
    trainings = experiment.trainings().values()
    history = next((stage.history(experiment.store) for stage in trainings if stage.role == "classifier"), None)
    if history is None or history.empty:
        return {}
    last = history.iloc[-1].reindex(["held_out_accuracy", "held_out_map"]).dropna()
    return {str(key): float(value) for key, value in last.items()}


def separability(experiment: Experiment) -> float | None:
    """How well the job's threshold separates the scores of the trainval images into two groups, in [0, 1].

    It is of the last step that labels every pixel, as the mIoU is, and needs no mask; None without such a step.
    """
    cuts = [step.masks for step in experiment.steps.values() if step.masks.is_cut]
    if not cuts:
        return None
    stats: ScoreStats = experiment.store.get(ScoreHistogram(scores=cuts[-1].scores))
    _, threshold = cuts[-1].bounds_in(experiment.store)
    return stats.separability(threshold) if stats.counts.any() else None


def _take_device(workers: int) -> None:
    """Spread the processes of a parallel sweep over the GPUs; each keeps its GPU."""
    if workers > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        import torch

        count = torch.cuda.device_count()
        if count > 1 and not torch.cuda.is_initialized():
            os.environ["CUDA_VISIBLE_DEVICES"] = str(os.getpid() % count)
