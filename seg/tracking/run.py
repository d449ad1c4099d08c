"""A run and its trackers: a tracker that fails costs a warning, not the run."""

import dataclasses
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seg.config.process import choices, command, given_overrides, sweep_folder
from seg.config.tree import make_objects
from seg.config.used import changes_no_result
from seg.errors import first_line
from seg.evaluation.table import headline
from seg.experiment import Experiment
from seg.tracking.loggers import Status, Tracker
from seg.train import Training

log = logging.getLogger(__name__)

#: Files of the run's folder that trackers copy.
FILES = ("panel.png", "curves.png", "report.html", "metrics.json", "metrics.csv", "classes.csv", ".hydra/config.yaml")
_METRICS = ("miou", "iou_background", "iou_foreground", "pixel_accuracy", "per_image_miou", "coverage")


def make_trackers(cfg: DictConfig) -> dict[str, Tracker]:
    """The trackers in a config, by name; new ones, for one run."""
    made: dict[str, Tracker] = make_objects(cfg, "tracker") if cfg.tracker else {}
    return made


@contextmanager
def tracking(trackers: Mapping[str, Tracker], experiment: Experiment, folder: Path) -> Iterator[Experiment]:
    """Track a run of the experiment that is yielded; its ``rows`` are logged at the end of the block."""
    if not trackers:
        yield experiment
        return
    working = dict(trackers)
    trainings = experiment.trainings()
    logged: set[tuple[str, int]] = set()

    def for_each(action: Callable[[Tracker], None]) -> None:
        for name, tracker in list(working.items()):
            try:
                action(tracker)
            except Exception as error:
                del working[name]
                kind = type(error).__name__
                log.warning("tracker %s: %s: %s; the run goes on without it", name, kind, first_line(error))

    def log_epochs(stage: Training) -> None:
        name = next((name for name, known in trainings.items() if known.key == stage.key), stage.what)
        for row in stage.history(experiment.store).to_dict("records"):
            epoch = int(row.pop("epoch"))
            if (name, epoch) not in logged:
                logged.add((name, epoch))
                values = _finite({f"{name}/{key}": value for key, value in row.items()})
                for_each(lambda tracker: tracker.log(values, epoch))  # noqa: B023

    def finish(status: Status) -> None:
        files = [path for name in FILES if (path := folder / name).is_file()] if status == "finished" else []
        for_each(lambda tracker: tracker.finish(status, files))

    sweep = sweep_folder()
    group = sweep.name if sweep else choices().get("pipeline", "weakseg")
    for_each(lambda tracker: tracker.start(folder, group, _settings(experiment)))
    try:
        yield dataclasses.replace(experiment, store=experiment.store.with_callback(log_epochs))
    except BaseException as error:
        finish("failed" if isinstance(error, Exception) else "killed")
        raise
    for stage in trainings.values():
        log_epochs(stage)
    for_each(lambda tracker: tracker.log(_results(experiment), 0))
    finish("finished")


def _results(experiment: Experiment) -> dict[str, float]:
    trainval = [row for row in experiment.rows if row["split"] == "trainval"]
    metrics = {
        f"{row['split']}/{tracked_name(experiment.steps[row['stage']].plain_name)}/{metric}": row[metric]
        for row in experiment.rows
        for metric in _METRICS
    }
    return _finite(metrics | ({"miou": headline(trainval).get("miou")} if trainval else {}))


def _settings(experiment: Experiment) -> dict[str, str]:
    """The main keys, every other override that can change a result, and the command line."""
    chosen, groups = choices(), ("pipeline", "data", "supervision", "refiner", "segmenter")
    main = {group: chosen[group] for group in groups if group in chosen}
    main |= {key: str(experiment.cfg[key]) for key in ("epoch", "threshold", "seed", "backbone")}
    given = (text.lstrip("+").partition("=") for text in given_overrides())
    changed = {key: value for key, sign, value in given if sign and not changes_no_result(key)}
    return {**changed, **main, "command": command(given_overrides())}


def tracked_name(name: str) -> str:
    """A step's name without the characters that some tracker refuses."""
    return re.sub(r"[^\w .:-]", "", name)


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
