"""Runs a sweep, from its plan to its summary."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from seg.errors import SegError, first_line
from seg.evaluation.per_image import FILE
from seg.experiment import Experiment
from seg.files import io_error, writable
from seg.store.runtime import available_cores
from seg.sweep.job import SweepTask, read_record, shared_by
from seg.sweep.plan import Job, Plan, make_plan
from seg.sweep.results import Row, Sweep
from seg.sweep.seeds import is_seed
from seg.sweep.shared_config import SharedConfigs
from seg.sweep.summary import summarise
from seg.tracking import check_trackers


def run_sweep(
    config: DictConfig,
    arguments: Sequence[str],
    context: HydraContext,
    make_launcher: Callable[[HydraContext, TaskFunction], Any],
) -> int:
    """Run the jobs of a sweep that are not done, and summarise all of them.

    Args:
        config: of the sweep, including Hydra's. arguments: overrides of the command line. context: Hydra's.
        make_launcher: creates the launcher for a task.

    Returns:
        How many jobs failed or are missing.

    Raises:
        SegError: the sweep cannot work; raised before its first job.
    """
    if config.runtime.devices != 1 or config.runtime.num_nodes != 1:
        raise SegError("runtime.devices, runtime.num_nodes: each job of a sweep has one device; leave them at 1")
    if given := [text for text in config.hydra.overrides.hydra if text.startswith("hydra.sweep.subdir=")]:
        raise SegError(f"{given[0]}: a job's folder is named by its swept values; leave it out")
    loader: Any = SharedConfigs(context.config_loader)
    started = time.time()
    shared = shared_by(started)
    plan = make_plan(config.hydra.sweeper.params or {}, arguments, loader)
    if "tracker" in plan.swept:
        several = ",".join(plan.swept["tracker"])
        raise SegError(f"tracker={several}: would run every job once for each; all at once is tracker=[{several}]")
    choices = config.hydra.runtime.choices
    folder = plan.folder(choices.pipeline) if config.hydra.sweep.dir == "auto" else Path(config.hydra.sweep.dir)
    with read_write(config.hydra):
        config.hydra.sweep.dir = folder.as_posix()  # for the launcher
    if not writable(folder):
        raise SegError(f"{folder}: cannot be written to; choose another with hydra.sweep.dir=")
    jobs, workers = plan.jobs, min(parallel_jobs(config), len(plan.jobs))
    if workers > 1:  # side by side, jobs that differ in the threshold alone would wait for the same products
        thresholds = [*plan.swept.get("threshold", [])]
        jobs = sorted(jobs, key=lambda job: thresholds.index(job.swept["threshold"]) if thresholds else 0)
    threads = str(max(1, available_cores() // workers))
    shares = [
        f"{key}={threads}" for key in ("runtime.threads", "runtime.workers") if key not in (*plan.fixed, *plan.swept)
    ]
    extra = [f"hydra.sweep.dir='{folder.as_posix()}'", "hydra.output_subdir=null", *(shares if workers > 1 else [])]
    commands = {job.folder: [*job.overrides, *extra, f"hydra.sweep.subdir='{job.folder}'"] for job in jobs}

    def experiment(job: Job) -> Experiment:
        cfg = loader.load_sweep_config(config, commands[job.folder])
        return Experiment.from_config(cfg, shared.store(cfg), shared.objects)

    rows = done_before(plan, experiment, folder, list(config.hydra.overrides.task), choices)
    done = {row["folder"] for row in rows}
    pending = [job for job in jobs if job.folder not in done]
    if config.dry_run:
        print(f"sweep: {len(jobs)} jobs, {len(done)} done, {len(pending)} to run, in {folder}")
        return 0
    if not done:
        refuse_hopeless(experiment, (pending[0], pending[-1]), folder)
    check_trackers(config)
    sweep = Sweep(folder, list(plan.swept), len(jobs), len(done), started, workers)
    sweep.write(rows)
    OmegaConf.save(config, folder / "multirun.yaml")
    print(f"sweep: {len(jobs)} jobs, {len(done)} done before; {folder}", file=sys.stderr, flush=True)
    task = SweepTask(sweep)
    launcher = make_launcher(HydraContext(config_loader=loader, callbacks=context.callbacks), task)
    batch = config.hydra.sweeper.max_batch_size or (workers if _starts_all_at_once(config) else len(jobs))
    for start in range(0, len(pending), batch):
        try:
            launcher.launch([commands[j.folder] for j in pending[start : start + batch]], initial_job_idx=start)
        except Exception as error:
            if refusal := io_error(error, "sweep", folder, "hydra.sweep.dir"):  # of what Hydra writes for a job
                raise refusal from error
            # Such as a killed process. Its job has no row; the summary counts it as missing.
            print(f"error: {type(error).__name__}: {first_line(error)}", file=sys.stderr)
    typed = [str(text) for text in config.hydra.overrides.task]
    return summarise(sweep, [x for x in typed if x.partition("=")[0].lstrip("+") not in (*plan.swept, "sweep")])


def done_before(
    plan: Plan, experiment: Callable[[Job], Experiment], folder: Path, typed: Sequence[str], groups: Iterable[str]
) -> list[Row]:
    """The rows of finished jobs that would give the same metrics again.

    Raises:
        SegError: a value is invalid in every job, or a key has no effect in any.
    """
    rows, refused = [], {}
    unused: dict[str, str] | None = None
    for job in plan.jobs:
        try:
            made = experiment(job)
        except SegError as error:  # the job itself reports it
            refused[job.folder] = str(error)
            continue
        if unused is None or unused:
            of_job = made.unused(typed, groups)
            unused = {text: why for text, why in (unused or of_job).items() if text in of_job}
        if row := finished(folder / job.folder, made):
            rows.append(row)
    for key, values in plan.swept.items():
        for value in values:
            errors = [refused.get(job.folder) for job in plan.jobs if job.swept[key] == value]
            if all(errors):
                raise SegError(f"{key}={value}: {errors[0]}")
    if unused:
        raise SegError("; ".join(unused.values()))
    return rows


def finished(folder: Path, experiment: Experiment) -> Row | None:
    """The row of a finished job whose metrics come from stages with equal keys; None if it must run again.

    Wanted pictures must exist, and so must the per-image counts that a table over seeds needs.
    """
    record = read_record(folder)
    row: Row = record["row"]
    try:
        is_same = row.get("status") == "ok" and record.get("figures") == experiment.figures()
    except SegError:  # the job itself reports it
        return None
    lacks_pictures = experiment.cfg.figures and not (folder / "report.html").is_file()
    lacks_counts = any(map(is_seed, row)) and not (folder / FILE).is_file()
    return None if not is_same or lacks_pictures or lacks_counts else row


def refuse_hopeless(experiment: Callable[[Job], Experiment], ends: Sequence[Job], folder: Path) -> None:
    """Refuse a sweep whose first and last jobs would fail for the same reason, such as missing data."""
    reasons = []
    for job in ends:
        try:
            made = experiment(job)
            made.acquire()
            made.check(folder)
        except SegError as error:
            reasons.append(str(error))
    if len(reasons) == 2 and reasons[0] == reasons[1]:
        raise SegError(reasons[0])


def parallel_jobs(config: Any) -> int:
    """How many jobs run in parallel on this machine; 1 if the launcher submits to a cluster."""
    launcher, cores = config.hydra.launcher, available_cores()
    if "joblib" in launcher._target_:
        return int(launcher.n_jobs) if launcher.n_jobs > 0 else max(1, cores + 1 + int(launcher.n_jobs))
    return (config.hydra.sweeper.max_batch_size or cores) if _starts_all_at_once(config) else 1


def _starts_all_at_once(config: Any) -> bool:
    return str(config.hydra.launcher._target_).endswith("submitit_launcher.LocalLauncher")
