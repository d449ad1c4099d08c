"""``tracker=``: metrics of a run in CSV, TensorBoard, MLflow or Weights & Biases.

Each tracker is a function of the run's folder, its group (the pipeline, or the sweep that it is a job of), its settings
as text, and the keys below ``tracker.NAME``. It starts a run and returns two functions: one logs the metrics of an
epoch (the results have epoch 0), one ends the run, given its success and its result files.
"""

import dataclasses
import importlib.util
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seg.config.process import choices, command, given_overrides, sweep_folder
from seg.config.used import changes_no_result
from seg.errors import SegError, first_line
from seg.evaluation.table import headline
from seg.experiment import Experiment
from seg.train import Training

log = logging.getLogger(__name__)

Settings = Mapping[str, str]
Tracker = tuple[Callable[[dict[str, float], int], Any], Callable[[bool, list[Path]], Any]]

_FILES = ("panel.png", "curves.png", "report.html", "metrics.json", "metrics.csv", "classes.csv", ".hydra/config.yaml")
_METRICS = (
    *("miou", "iou_background", "iou_foreground", "pixel_accuracy", "per_image_miou", "coverage"),
    *("boundary_iou", "estimated_quality"),
)
_GROUPS = ("pipeline", "data", "supervision", "refiner", "segmenter")


def csv(folder: Path, group: str, settings: Settings) -> Tracker:
    """``csv/metrics.csv`` in the run's folder."""
    from lightning_fabric.loggers.csv_logs import CSVLogger

    (folder / "csv/metrics.csv").unlink(missing_ok=True)
    logger = CSVLogger(folder, "csv", version="", flush_logs_every_n_steps=1)
    return lambda figures, epoch: logger.log_metrics({**figures}, epoch), lambda ok, files: logger.finalize("")


def tensorboard(folder: Path, group: str, settings: Settings) -> Tracker:
    """``tensorboard/`` in the run's folder; the settings and the mIoU are on its HPARAMS page."""
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    for path in folder.glob("tensorboard/events.out.tfevents.*"):
        path.unlink()  # from an earlier run in this folder
    logger = TensorBoardLogger(folder / "tensorboard", name="", version="", default_hp_metric=False)

    def log_figures(figures: dict[str, float], epoch: int) -> None:
        logger.log_metrics({key: value for key, value in figures.items() if key != "miou"}, epoch)
        if "miou" in figures:
            logger.log_hyperparams(dict(settings), {"miou": figures["miou"]})

    return log_figures, lambda ok, files: logger.finalize("")


def mlflow(folder: Path, group: str, settings: Settings, uri: str, experiment: str | None) -> Tracker:
    """A run of MLflow, in the experiment that is named or the group's."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 refuses a folder without it
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    mlflow.end_run("FAILED")  # of an earlier job whose logging failed
    mlflow.set_tracking_uri(uri if ":" in uri else Path(uri).absolute().as_uri())
    mlflow.set_experiment(experiment or group)
    mlflow.start_run(run_name=folder.name)
    mlflow.log_params({key: value[:500] for key, value in settings.items()})

    def end(ok: bool, files: list[Path]) -> None:
        for path in files:
            mlflow.log_artifact(str(path))
        mlflow.end_run("FINISHED" if ok else "FAILED")

    return mlflow.log_metrics, end


def wandb(folder: Path, group: str, settings: Settings, project: str, mode: str | None) -> Tracker:
    """A run of Weights & Biases; ``mode=offline`` writes to the run's folder, for ``wandb sync``."""
    import wandb

    options: Any = {"mode": mode, "settings": wandb.Settings(console="off"), "reinit": "finish_previous"}
    run = wandb.init(project=project, group=group, name=folder.name, dir=folder, config=dict(settings), **options)
    run.define_metric("*", step_metric="epoch")  # each training counts its own

    def log_figures(figures: dict[str, float], epoch: int) -> None:
        run.log({**figures, "epoch": epoch}) if epoch else run.summary.update(figures)

    def end(ok: bool, files: list[Path]) -> None:
        for path in files:
            run.save(path, base_path=folder, policy="now")
        run.finish(exit_code=0 if ok else 1)
        wandb.teardown()  # waits for the service to write its files, which finish() does not

    return log_figures, end


TRACKERS: dict[str, Callable[..., Tracker]] = {f.__name__: f for f in (csv, tensorboard, mlflow, wandb)}


def check_trackers(cfg: DictConfig) -> None:
    """Refuse a tracker whose package is not installed."""
    for name in cfg.tracker:
        if name not in TRACKERS or importlib.util.find_spec(name) is None:
            raise SegError(f"tracker={name}: is not installed; pip install 'weakseg[{name}]'")


@contextmanager
def tracking(experiment: Experiment, folder: Path) -> Iterator[Experiment]:
    """Track the experiment that is yielded. A tracker that fails causes a warning and is dropped."""
    cfg, sweep, trainings = experiment.cfg, sweep_folder(), experiment.trainings()
    trackers: dict[str, Tracker] = {}
    logged: set[tuple[str, int]] = set()

    def attempt(name: str, action: Callable[..., Any], *values: Any, **options: Any) -> Any:
        try:
            return action(*values, **options)
        except Exception as error:
            trackers.pop(name, None)
            kind = type(error).__name__
            log.warning("tracker %s: %s: %s; the run goes on without it", name, kind, first_line(error))

    def log_figures(values: Mapping[str, Any], epoch: int) -> None:
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
        for name, (log_to, _) in list(trackers.items()):
            attempt(name, log_to, numbers, epoch)

    def log_epochs(stage: Training) -> None:
        name = next((name for name, known in trainings.items() if known.key == stage.key), stage.what)
        for row in stage.history(experiment.store).to_dict("records"):
            epoch = int(row.pop("epoch"))
            if (name, epoch) not in logged:
                logged.add((name, epoch))
                log_figures({f"{name}/{key}": value for key, value in row.items()}, epoch)

    group = sweep.name if sweep else choices().get("pipeline", "weakseg")
    for name, options in cfg.tracker.items():
        if started := attempt(name, TRACKERS[name], folder, group, _settings(cfg), **options):
            trackers[name] = started
    ok = False
    try:
        yield (
            dataclasses.replace(experiment, store=experiment.store.with_callback(log_epochs))
            if trackers
            else experiment
        )
        for stage in trainings.values() if trackers else ():
            log_epochs(stage)
        log_figures(_results(experiment), 0)
        ok = True
    finally:
        files = [path for name in _FILES if (path := folder / name).is_file()] if ok else []
        for name, (_, end) in list(trackers.items()):
            attempt(name, end, ok, files)


def _results(experiment: Experiment) -> dict[str, Any]:
    """``split/step/metric``, and the main ``miou``."""
    found: dict[str, Any] = {}
    for row in experiment.rows:
        step = re.sub(r"[^\w .:-]", "", experiment.steps[row["stage"]].plain_name)  # some trackers refuse the others
        found |= {f"{row['split']}/{step}/{key}": row[key] for key in _METRICS if key in row}
    trainval = [row for row in experiment.rows if row["split"] == "trainval"]
    return found | ({"miou": headline(trainval)["miou"]} if trainval else {})


def _settings(cfg: DictConfig) -> dict[str, str]:
    """The main keys, every override that may change a result, and the command line."""
    groups = {key: name for key, name in choices().items() if key in _GROUPS}
    keys = {key: str(cfg[key]) for key in ("epoch", "threshold", "seed", "backbone")}
    typed = (text.lstrip("+").partition("=") for text in given_overrides())
    changed = {key: value for key, sign, value in typed if sign and not changes_no_result(key)}
    return {**changed, **groups, **keys, "command": command(given_overrides())}
