"""One job of a sweep: a run whose failure ends nothing but itself."""

import logging
import math
import os
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seg.errors import SegError
from seg.run_folders import RECORD
from seg.store import Store, read_json, write_json
from seg.sweep.progress import show
from seg.sweep.results import Results, Row, Session

if TYPE_CHECKING:
    from seg.experiment import Experiment

log = logging.getLogger("seg")

# What the jobs of one process share.
_stores: dict[str, Store] = {}
_fingerprints: dict[str, str] = {}


def run_sweep_job(cfg: DictConfig, hydra_cfg: Any) -> Row:
    """Run one job, write its record and its row, show the progress.

    Args:
        cfg: the job's config.
        hydra_cfg: Hydra's own, of the same job.

    Returns:
        The row: the swept keys, and the columns of :data:`seg.sweep.results.COLUMNS`.
    """
    sweep, folder = Path(hydra_cfg.sweep.dir), Path(hydra_cfg.runtime.output_dir)
    given = dict(text.partition("=")[::2] for text in hydra_cfg.overrides.task)
    session = Session.read(sweep)
    swept = session.swept if session else sorted(given)
    name = folder.relative_to(sweep.absolute()).as_posix() if folder.is_relative_to(sweep.absolute()) else str(folder)
    row: Row = {key: given.get(key, "") for key in swept} | {"folder": name}
    started = time.perf_counter()
    try:
        row |= {"status": "ok", **_figures(cfg, folder)}
    except Exception as error:  # a KeyboardInterrupt still ends the sweep
        row |= {"status": "failed", "error": str(error) if isinstance(error, SegError) else _describe(error)}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc())
    else:
        (folder / "error.txt").unlink(missing_ok=True)
    row["seconds"] = round(time.perf_counter() - started, 3)
    identity = session.identities.get(name) if session else None
    record = {"identity": identity, "overrides": list(hydra_cfg.overrides.task), "row": row}
    if row["status"] != "ok":  # else metrics.json tells what it needs
        record["products"] = (read_json(folder / RECORD) or {}).get("products", [])
    write_json(folder / RECORD, record)
    rows = Results(sweep, swept).add(row)
    show(row, swept, session.progress(rows) if session else str(len(rows)))
    return row


def _figures(cfg: DictConfig, folder: Path) -> Row:
    from seg.data.sources import remembering
    from seg.run import run

    _take_device()
    with remembering(_fingerprints):
        experiment = run(cfg, folder, shared_store(cfg), figures=bool(cfg.figures))
    # Without any truth the pictures and the classifier's accuracy are all there is to compare.
    figures = headline(experiment.rows) if experiment.rows else {"miou": None}
    return figures | {"held_out_accuracy": held_out_accuracy(experiment)}


def headline(rows: list[Row]) -> Row:
    """The figures that a sweep compares: of the last product that decides every pixel, on trainval.

    A product with an ignored band is measured where it decides, which the band can make as easy as it likes,
    so it only counts where there is no other. Where no trainval image has a truth it is the test split.

    Args:
        rows: the stage table.

    Raises:
        SegError: if nothing was measured.
    """
    split = "trainval" if any(row["split"] == "trainval" for row in rows) else "test"
    chosen = [row for row in rows if row["split"] == split]
    if not chosen:
        raise SegError("nothing was measured: no image that gets a mask has a truth")
    whole = [row for row in chosen if row["coverage"] == 1]
    row = (whole or chosen)[-1]
    keys = ("miou", "iou_background", "iou_foreground", "images", "stage", "split")
    return {key: row[key] for key in keys}


def held_out_accuracy(experiment: "Experiment") -> float | None:
    """Of the classifier at the job's epoch; None where there is none or nothing was held out."""
    from seg.train import Training

    for stage in (up for product in experiment.products.values() for up in product.walk()):
        if isinstance(stage, Training) and stage.what == "classifier":
            history = stage.history(experiment.store)
            if "held_out_accuracy" in history and len(history):
                value = float(history["held_out_accuracy"].iloc[-1])
                return None if math.isnan(value) else value
    return None


def shared_store(cfg: DictConfig) -> Store:
    """One store for all jobs of this process: what one job has opened, the next one finds open."""
    from seg.experiment import make_runtime

    name = f"{cfg.store} {cfg.runtime}"
    if name not in _stores:
        _stores[name] = Store(Path(cfg.store), make_runtime(cfg))
    return _stores[name]


def _take_device() -> None:
    """Spread the processes of a parallel sweep over the GPUs, each staying with the one it took first."""
    place = os.environ.get("WEAKSEG_SWEEP_WORKERS", "1")
    if int(place) > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        import torch

        count = torch.cuda.device_count()
        if count > 1 and not torch.cuda.is_initialized():
            os.environ["CUDA_VISIBLE_DEVICES"] = str(os.getpid() % count)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
