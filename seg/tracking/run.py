"""A run and its trackers: what happens is told to each, and none of them can end the run."""

import dataclasses
import hashlib
import json
import logging
import math
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seg.config.aside import is_aside
from seg.config.process import choices, command, given_overrides, sweep_folder
from seg.config.tree import make_objects
from seg.errors import first_line
from seg.evaluation.table import headline
from seg.experiment import Experiment
from seg.files import read_json, write_json
from seg.store import Store
from seg.tracking.base import NOTES, Facts, Notes, Status, Tracker, tracked_name
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
        trackers: by name. facts: what the run is. store: where the trainings' histories are.
        trainings: the run's, by the names that they are told under.
    """

    def __init__(
        self, trackers: Mapping[str, Tracker], facts: Facts, store: Store, trainings: Mapping[str, Training]
    ) -> None:
        self.facts = facts
        self._trainings = trainings
        self._store = store
        self._alive = dict(trackers)
        self._told: dict[str, set[int]] = {}
        self._notes: dict[str, Notes] = {}

    def start(self) -> None:
        """The run begins."""
        before = read_notes(self.facts.folder)
        sweep = read_notes(self.facts.sweep) if self.facts.sweep else {}
        # Of a tracker that fails now, what it knew is kept for the next time; but it has not been told this run.
        self._notes = {
            name: {k: v for k, v in notes.items() if k != "status" or name not in self._alive}
            for name, notes in before.items()
        }
        self._note(lambda name, tracker: tracker.start(self.facts, before.get(name, {}), sweep.get(name, {})))

    def follow(self, stage: Training) -> None:
        """Tell the epochs of a training that were not told yet, of those that its history has."""
        what = next((name for name, known in self._trainings.items() if known.key == stage.key), stage.what)
        try:
            rows = stage.history(self._store).to_dict("records")
        except Exception as error:
            self._alive.clear()
            log.warning("trackers: %s cannot be read (%s); the run goes on without them", what, first_line(error))
            return
        told = self._told.setdefault(what, set())
        new = {int(row.pop("epoch")): _finite(row) for row in rows if int(row["epoch"]) not in told}
        told.update(new)
        for epoch, values in new.items():
            self._each(lambda _, tracker, at=epoch, of=values: tracker.scalars(what, at, of))  # type: ignore[misc]

    def results(self, experiment: Experiment) -> None:
        """Tell all that is known when the run has been measured and reported."""
        for stage in self._trainings.values():
            self.follow(stage)
        rows = experiment.rows
        figures = {
            f"{row['split']}/{tracked_name(experiment.steps[row['stage']].plain_name)}/{figure}": row[figure]
            for figure in _FIGURES
            for row in rows
        }
        miou = _finite(headline(rows)).get("miou") if rows else None
        paths = [path for name in ARTIFACTS if (path := self.facts.folder / name).is_file()]
        self._each(lambda _, tracker: tracker.results(self.facts, _finite(figures), miou))
        self._each(lambda _, tracker: tracker.artifacts(paths))

    def end(self, status: Status) -> None:
        """The run is over."""
        self._note(lambda name, tracker: {**self._notes[name], **tracker.end(status), "status": status})

    def _each(self, act: Callable[[str, Tracker], Any]) -> dict[str, Any]:
        """What an act gives of each tracker; one that fails is left out from now on."""
        given = {}
        for name, tracker in list(self._alive.items()):
            try:
                given[name] = act(name, tracker)
            except Exception as error:
                del self._alive[name]
                kind = type(error).__name__
                log.warning("tracker %s: %s: %s; the run goes on without it", name, kind, first_line(error))
        return given

    def _note(self, act: Callable[[str, Tracker], Notes]) -> None:
        self._notes |= self._each(act)
        with suppress(OSError):  # a full disk ends the run by itself, if it is the store's too
            write_json(self.facts.folder / NOTES, self._notes)


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
    tracked = Tracking(trackers, facts_of(experiment, folder), experiment.store, experiment.trainings())
    tracked.start()
    try:
        yield dataclasses.replace(experiment, store=experiment.store.with_callback(tracked.follow))
    except BaseException as error:
        tracked.end("failed" if isinstance(error, Exception) else "killed")
        raise
    else:
        tracked.results(experiment)
        tracked.end("finished")


def facts_of(experiment: Experiment, folder: Path) -> Facts:
    """What a run is."""
    store, before = experiment.store, len(experiment.store.builds)
    stored = json.dumps(experiment.stored())
    overrides = given_overrides()
    return Facts(
        name=folder.name,
        pipeline=choices().get("pipeline", "weakseg"),
        folder=folder,
        sweep=sweep_folder(),
        identity=hashlib.sha256(stored.encode()).hexdigest()[:16],
        settings=settings(experiment.cfg, overrides),
        command=command(overrides),
        revision=revision(),
        data=experiment.heading(),
        worked=lambda: len(store.builds) > before,
    )


def settings(cfg: DictConfig, overrides: list[str]) -> dict[str, str]:
    """The main keys, and whatever else was given that can change a figure."""
    chosen, groups = choices(), ("pipeline", "data", "supervision", "refiner", "segmenter")
    main = {group: chosen[group] for group in groups if group in chosen}
    main |= {key: str(cfg[key]) for key in ("epoch", "threshold", "seed", "backbone")}
    given = (text.lstrip("+").partition("=") for text in overrides)
    return {**main, **{key: value for key, sign, value in given if sign and not is_aside(key)}, **main}


@cache
def revision() -> str | None:
    """The commit of the checkout that the code is in, ``-dirty`` if it was edited; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _finite(values: Mapping[Any, Any]) -> dict[str, float]:
    return {str(k): float(v) for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}


def read_notes(folder: Path) -> dict[str, Notes]:
    """What the trackers have to find again in a folder, by tracker."""
    with suppress(OSError, ValueError):
        notes = read_json(folder / NOTES)
        return notes if isinstance(notes, dict) else {}
    return {}
