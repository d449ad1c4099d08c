"""A sweep and its trackers: its jobs belong together, and a job is told once."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from seg.config.aside import is_aside
from seg.config.process import command
from seg.config.spans import collapse
from seg.errors import SegError, run_checks
from seg.files import write_json
from seg.sweep.plan import Plan
from seg.tracking.base import NOTES, Facts, Notes, Tracker
from seg.tracking.run import make_trackers, read_notes, revision

log = logging.getLogger(__name__)


class SweepTracking:
    """The trackers of a sweep, checked.

    Args:
        config: the sweep's. plan: its jobs. folder: where it is.

    Raises:
        SegError: for trackers that can't work, before any job.
    """

    def __init__(self, config: DictConfig, plan: Plan, folder: Path) -> None:
        if "tracker" in plan.swept:
            several = ",".join(plan.swept["tracker"])
            raise SegError(f"tracker={several}: would run every job once for each; all at once is tracker=[{several}]")
        self._config, self._plan, self._folder = config, plan, folder
        self._trackers: dict[str, Tracker] = make_trackers(config)
        run_checks(tracker.check for tracker in self._trackers.values())
        before = read_notes(folder)
        self._notes: dict[str, Notes] = {k: t.find_sweep(before.get(k, {})) for k, t in self._trackers.items()}

    def has(self, job: Path) -> bool:
        """Whether all trackers were told of a job that was done before, by its folder."""
        notes = read_notes(job) if self._trackers else {}
        return all(tracker.has_job(notes.get(k, {}), self._notes[k]) for k, tracker in self._trackers.items())

    def begin(self) -> None:
        """Tell of the sweep; its jobs find the notes in its folder.

        Raises:
            SegError: if that fails.
        """
        if not self._trackers:
            return
        facts = self._facts()
        for name, tracker in self._trackers.items():
            self._notes[name] = {**tracker.begin_sweep(facts, self._notes[name]), "status": "running"}
        write_json(self._folder / NOTES, self._notes)

    def _facts(self) -> Facts:
        swept = {key: collapse(list(values)) for key, values in self._plan.swept.items()}
        fixed = {key: value for key, value in self._plan.fixed.items() if not is_aside(key)}
        return Facts(
            name=sweep_name(self._folder),
            pipeline=self._plan.pipeline,
            folder=self._folder,
            sweep=None,
            identity="",
            settings={"pipeline": self._plan.pipeline, **fixed, **swept},
            command=command(["-m", *self._config.hydra.overrides.task]),
            revision=revision(),
            data=f"a sweep of {len(self._plan.jobs)} jobs",
            worked=lambda: True,
        )


def sweep_name(folder: Path) -> str:
    """What a tracker calls a sweep: its folder below ``outputs/sweeps``, else the last part of it."""
    usual = Path("outputs/sweeps")
    return folder.relative_to(usual).as_posix() if folder.is_relative_to(usual) else folder.name


def end_sweep(config: DictConfig, folder: Path, ok: bool) -> None:
    """Tell of the best job, and that the sweep is over; what fails is warned of.

    Args:
        config: the sweep's. folder: its folder, summarised. ok: whether every job was done.
    """
    from seg.sweep.results import Results, Session, average_seeds, number
    from seg.sweep.summary import best_row

    session, notes = Session.read(folder), read_notes(folder)
    if session is None or not notes:
        return
    rows = Results(folder, session.swept).read()
    keys, choices = average_seeds(rows, session.swept)
    best = best_row(choices)
    figures, cell = {}, "nothing was chosen"
    if best is not None:
        figures = {key: number(best[key]) for key in ("miou", "iou_background", "iou_foreground") if best[key]}
        cell = " ".join(f"{key}={best[key]}" for key in keys)
    paths = [folder / name for name in ("miou_results_all.csv", "miou.png", "best.yaml", "report.html")]
    for name, tracker in make_trackers(config).items():
        own = notes.get(name, {})
        if session.skipped == session.total and own.get("status") == "finished":
            continue  # no job was run
        try:
            tracker.end_sweep(own, figures, cell, [path for path in paths if path.is_file()], ok)
        except Exception as error:
            log.warning("tracker %s: %s: %s", name, type(error).__name__, error)
            continue
        notes[name] = {**own, "status": "finished" if ok else "failed"}
    write_json(folder / NOTES, notes)
