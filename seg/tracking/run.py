"""A run and its trackers: what happens is told to each, and none of them can end the run."""

import hashlib
import json
import logging
import math
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seg.store import Store, read_json, write_json
from seg.tracking.base import NOTES, Facts, Notes, Status, Tracker, plain_name
from seg.train import Training

if TYPE_CHECKING:
    from seg.experiment import Experiment

log = logging.getLogger(__name__)

#: Of the run's folder, where they are.
ARTIFACTS = ("panel.png", "curves.png", "report.html", "metrics.json", "metrics.csv", ".hydra/config.yaml")
#: Of a row of the stage table.
_FIGURES = ("miou", "iou_background", "iou_foreground", "pixel_accuracy", "per_image_miou", "coverage")


class Tracking:
    """Tells one run to its trackers; one that fails is warned of and left out from then on.

    Args:
        trackers: by name. facts: what the run is. store: where the trainings' histories are.
    """

    def __init__(self, trackers: Mapping[str, Tracker], facts: Facts, store: Store) -> None:
        self.facts = facts
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

        def act(name: str, tracker: Tracker) -> None:
            self._notes[name] = tracker.start(self.facts, before.get(name, {}), sweep.get(name, {}))

        self._each(act)
        self._save()

    def follow(self, stage: Training) -> None:
        """Tell the epochs of a training that were not told yet, of those that its history has."""

        def act(name: str, tracker: Tracker) -> None:
            for epoch, values in new.items():
                tracker.scalars(stage.what, epoch, values)

        try:
            rows = stage.history(self._store).to_dict("records")
        except Exception as error:
            self._alive.clear()
            log.warning("trackers: %s cannot be read (%s); the run goes on without them", stage.what, _line(error))
            return
        told = self._told.setdefault(stage.what, set())
        new = {int(row.pop("epoch")): _finite(row) for row in rows if int(row["epoch"]) not in told}
        told.update(new)
        self._each(act)

    def results(self, experiment: "Experiment") -> None:
        """Tell all that is known when the run has been measured and reported."""
        from seg.sweep.job import headline

        for stage in experiment.trainings():
            self.follow(stage)
        rows = experiment.rows
        figures = {
            f"{row['split']}/{plain_name(row['stage'])}/{figure}": row[figure] for figure in _FIGURES for row in rows
        }
        miou = _finite(headline(rows)).get("miou") if rows else None
        paths = [path for name in ARTIFACTS if (path := self.facts.folder / name).is_file()]
        self._each(lambda _, tracker: tracker.results(self.facts, _finite(figures), miou))
        self._each(lambda _, tracker: tracker.artifacts(paths))

    def end(self, status: Status) -> None:
        """The run is over."""

        def act(name: str, tracker: Tracker) -> None:
            self._notes[name] = {**self._notes[name], **tracker.end(status), "status": status}

        self._each(act)
        self._save()

    def _each(self, act: Callable[[str, Tracker], None]) -> None:
        for name, tracker in list(self._alive.items()):
            try:
                act(name, tracker)
            except Exception as error:
                del self._alive[name]
                log.warning("tracker %s: %s; the run goes on without it", name, _line(error))

    def _save(self) -> None:
        with suppress(OSError):  # a full disk ends the run by itself, if it is the store's too
            write_json(self.facts.folder / NOTES, self._notes)


@contextmanager
def tracking(experiment: "Experiment", folder: Path) -> Iterator[None]:
    """Track what is done within, of an experiment that was checked.

    Args:
        experiment: its trackers may be none. folder: the run's.
    """
    if not experiment.trackers:
        yield
        return
    store = experiment.store
    tracked = Tracking(experiment.trackers, facts_of(experiment, folder), store)
    tracked.start()
    store.on_epoch = tracked.follow
    try:
        yield
    except BaseException as error:
        tracked.end("failed" if isinstance(error, Exception) else "killed")
        raise
    else:
        tracked.results(experiment)
        tracked.end("finished")
    finally:
        store.on_epoch = None


def facts_of(experiment: "Experiment", folder: Path) -> Facts:
    """What a run is."""
    from hydra.core.hydra_config import HydraConfig

    from seg.html.facts import command, given_overrides
    from seg.models import in_sweep

    store, before = experiment.store, experiment.store.builds
    products = json.dumps(experiment.stored_products())
    overrides = given_overrides()
    running = HydraConfig.initialized()
    sweep = Path(HydraConfig.get().sweep.dir) if in_sweep() else None
    return Facts(
        name=folder.name,
        pipeline=str(HydraConfig.get().runtime.choices["pipeline"]) if running else "weakseg",
        folder=folder,
        sweep=sweep,
        identity=hashlib.sha256(products.encode()).hexdigest()[:16],
        settings=settings(experiment.cfg, overrides),
        command=command(overrides),
        revision=revision(),
        data=experiment.heading(),
        worked=lambda: store.builds > before,
    )


def settings(cfg: DictConfig, overrides: list[str]) -> dict[str, str]:
    """The main keys, and whatever else was given that can change a figure."""
    from hydra.core.hydra_config import HydraConfig

    from seg.sweep.plan import is_aside

    out = {}
    if HydraConfig.initialized():
        choices = HydraConfig.get().runtime.choices
        out = {group: str(choices[group]) for group in ("pipeline", "data", "supervision", "refiner", "segmenter")}
    out |= {key: str(cfg[key]) for key in ("epoch", "threshold", "seed", "backbone")}
    given = [
        text.lstrip("+").partition("=")[::2]
        for text in overrides
        if "=" in text and not is_aside(text.partition("=")[0])
    ]
    return out | {key: value for key, value in given if key not in out}


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


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def read_notes(folder: Path) -> dict[str, Notes]:
    """What the trackers have to find again in a folder, by tracker."""
    with suppress(OSError, ValueError):
        return read_json(folder / NOTES) or {}
    return {}
