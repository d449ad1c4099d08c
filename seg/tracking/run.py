"""A run and its trackers: each is told what happens, and none of them can end the run."""

import dataclasses
import logging
import math
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seg.config.aside import is_aside
from seg.config.process import choices, command, given_overrides, sweep_folder
from seg.config.tree import make_objects
from seg.errors import first_line
from seg.evaluation.table import headline
from seg.experiment import Experiment
from seg.tracking.loggers import Facts, Tracker
from seg.train import Training

log = logging.getLogger(__name__)

#: Of the run's folder, where they are.
ARTIFACTS = (
    "panel.png",
    "curves.png",
    "report.html",
    "metrics.json",
    "metrics.csv",
    "classes.csv",
    ".hydra/config.yaml",
)
#: Of a row of the stage table.
_FIGURES = ("miou", "iou_background", "iou_foreground", "pixel_accuracy", "per_image_miou", "coverage")


class Tracking:
    """Tells one run to its trackers; one that fails is warned of and left out from then on.

    Args:
        trackers: by name, checked. experiment: the run's. facts: what it is.
    """

    def __init__(self, trackers: Mapping[str, Tracker], experiment: Experiment, facts: Facts) -> None:
        self.facts, self._store, self._trainings = facts, experiment.store, experiment.trainings()
        self._alive = dict(trackers)
        self._logged: dict[str, set[int]] = {}

    def follow(self, stage: Training) -> None:
        """Log the epochs in the history of a training that were not logged yet."""
        what = next((name for name, known in self._trainings.items() if known.key == stage.key), stage.what)
        try:
            rows = stage.history(self._store).to_dict("records")
        except Exception as error:
            self._alive.clear()
            log.warning("trackers: %s cannot be read (%s); the run goes on without them", what, first_line(error))
            return
        logged = self._logged.setdefault(what, set())
        for row in rows:
            epoch = int(row.pop("epoch"))
            if epoch not in logged:
                logged.add(epoch)
                self.each(partial(_log_epoch, what, epoch, _finite(row)))

    def results(self, experiment: Experiment) -> None:
        """Log all that is known when the run has been measured and reported."""
        for stage in self._trainings.values():
            self.follow(stage)
        rows = experiment.rows
        figures = {
            f"{row['split']}/{tracked_name(experiment.steps[row['stage']].plain_name)}/{figure}": row[figure]
            for figure in _FIGURES
            for row in rows
        }
        trainval = [row for row in rows if row["split"] == "trainval"]
        miou = _finite(headline(trainval)).get("miou") if trainval else None
        paths = [path for name in ARTIFACTS if (path := self.facts.folder / name).is_file()]
        self.each(lambda tracker: tracker.results(self.facts, _finite(figures), miou))
        self.each(lambda tracker: tracker.artifacts(paths))

    def each(self, act: Callable[[Tracker], Any]) -> None:
        """Do something with each tracker; one that fails is left out from now on."""
        for name, tracker in list(self._alive.items()):
            try:
                act(tracker)
            except Exception as error:
                del self._alive[name]
                kind = type(error).__name__
                log.warning("tracker %s: %s: %s; the run goes on without it", name, kind, first_line(error))


def make_trackers(cfg: DictConfig) -> dict[str, Tracker]:
    """The trackers in a config, by name; new ones, for one run."""
    made: dict[str, Tracker] = make_objects(cfg, "tracker") if cfg.tracker else {}
    return made


@contextmanager
def tracking(trackers: Mapping[str, Tracker], experiment: Experiment, folder: Path) -> Iterator[Experiment]:
    """Track what is done within, with the experiment that is handed out.

    Args:
        trackers: by name, checked; there may be none. experiment: the run's. folder: the run's.
    """
    if not trackers:
        yield experiment
        return
    tracked = Tracking(trackers, experiment, facts_of(experiment, folder))
    tracked.each(lambda tracker: tracker.start(tracked.facts))
    try:
        yield dataclasses.replace(experiment, store=experiment.store.with_callback(tracked.follow))
    except BaseException as error:
        status: Any = "failed" if isinstance(error, Exception) else "killed"
        tracked.each(lambda tracker: tracker.end(status))
        raise
    tracked.results(experiment)
    tracked.each(lambda tracker: tracker.end("finished"))


def facts_of(experiment: Experiment, folder: Path) -> Facts:
    """What a run is; its settings are the main keys, and whatever else was given that can change a figure."""
    chosen, groups = choices(), ("pipeline", "data", "supervision", "refiner", "segmenter")
    main = {group: chosen[group] for group in groups if group in chosen}
    main |= {key: str(experiment.cfg[key]) for key in ("epoch", "threshold", "seed", "backbone")}
    given = (text.lstrip("+").partition("=") for text in given_overrides())
    return Facts(
        name=folder.name,
        pipeline=chosen.get("pipeline", "weakseg"),
        folder=folder,
        sweep=sweep_folder(),
        settings={**main, **{key: value for key, sign, value in given if sign and not is_aside(key)}, **main},
        command=command(given_overrides()),
        revision=revision(),
        data=experiment.heading(),
    )


@cache
def revision() -> str | None:
    """The commit of the checkout that the code is in, ``-dirty`` if it was edited; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    call = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.run(call, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def tracked_name(name: str) -> str:
    """A step's name in characters that every tracker takes."""
    return re.sub(r"[^\w .:-]", "", name)


def _log_epoch(training: str, epoch: int, values: Mapping[str, float], tracker: Tracker) -> None:
    tracker.scalars(training, epoch, values)


def _finite(values: Mapping[Any, Any]) -> dict[str, float]:
    return {str(k): float(v) for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
