"""A sweep and its trackers."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from seg.config.aside import is_aside
from seg.config.process import command
from seg.config.spans import collapse
from seg.errors import SegError, run_checks
from seg.sweep.plan import Plan
from seg.sweep.results import CSV, Results, Session, average_seeds, number
from seg.sweep.summary import best_row
from seg.tracking.loggers import Facts, Tracker
from seg.tracking.run import make_trackers, revision

log = logging.getLogger(__name__)


def check_trackers(config: DictConfig, plan: Plan) -> list[Tracker]:
    """The trackers of a sweep.

    Raises:
        SegError: for trackers that can't work, before any job.
    """
    if "tracker" in plan.swept:
        several = ",".join(plan.swept["tracker"])
        raise SegError(f"tracker={several}: would run every job once for each; all at once is tracker=[{several}]")
    trackers = list(make_trackers(config).values())
    run_checks(tracker.check for tracker in trackers)
    return trackers


def sweep_facts(config: DictConfig, plan: Plan, folder: Path) -> Facts:
    """What a sweep is; below ``outputs/sweeps`` its name is the path from there, else the last part of its folder's."""
    swept = {key: collapse(list(values)) for key, values in plan.swept.items()}
    fixed = {key: value for key, value in plan.fixed.items() if not is_aside(key)}
    usual = Path("outputs/sweeps")
    return Facts(
        name=folder.relative_to(usual).as_posix() if folder.is_relative_to(usual) else folder.name,
        pipeline=plan.pipeline,
        folder=folder,
        sweep=None,
        settings={"pipeline": plan.pipeline, **fixed, **swept},
        command=command(["-m", *config.hydra.overrides.task]),
        revision=revision(),
        data=f"a sweep of {len(plan.jobs)} jobs",
    )


def end_sweep(config: DictConfig, folder: Path, ok: bool) -> None:
    """Log the best choice, and that the sweep is over; what fails is warned of.

    Args:
        config: the sweep's. folder: its folder, summarised. ok: whether every job was done.
    """
    session = Session.read(folder)
    if session is None or session.skipped == session.total:
        return
    keys, choices = average_seeds(Results(folder, session.swept).read(), session.swept)
    best = best_row(choices)
    figures, cell = {}, "nothing was chosen"
    if best is not None:
        figures = {key: number(best[key]) for key in ("miou", "iou_background", "iou_foreground") if best[key] != ""}
        cell = " ".join(f"{key}={best[key]}" for key in keys)
    paths = [folder / name for name in (CSV, "miou.png", "best.yaml", "report.html")]
    for name, tracker in make_trackers(config).items():
        try:
            tracker.end_sweep(folder, figures, cell, [path for path in paths if path.is_file()], ok)
        except Exception as error:
            log.warning("tracker %s: %s: %s", name, type(error).__name__, error)
