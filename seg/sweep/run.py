"""A sweep from its plan to its summary: what the sweeper plugin does."""

import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobStatus
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seg.errors import SegError
from seg.files import io_error, writable
from seg.store.runtime import available_cores
from seg.sweep.job import STOPPED, Shared, read_record
from seg.sweep.plan import Job, Plan, make_plan
from seg.sweep.results import Results, Row, Session, watching
from seg.sweep.tracking import check_trackers


def run_sweep(sweeper: Any, arguments: Sequence[str]) -> list[Any]:
    """Run the jobs of a sweep that are not done.

    Args:
        sweeper: :class:`hydra_plugins.weakseg.sweeper.ResumingSweeper`, set up.
        arguments: the command line's overrides.

    Returns:
        What the launcher returned of the jobs that it was given.
    """
    config = sweeper.config
    if config.runtime.devices != 1 or config.runtime.num_nodes != 1:
        raise SegError("runtime.devices, runtime.num_nodes: each job of a sweep has one device; leave them at 1")
    refuse_job_names(config)
    folder = Path(config.hydra.sweep.dir)
    if not writable(folder):
        raise SegError(f"{folder}: cannot be written to; choose another with hydra.sweep.dir=")
    plan = make_plan(sweeper.params, arguments, sweeper.hydra_context.config_loader)
    check_trackers(config, plan)
    jobs = plan.jobs
    workers = parallel_jobs(config, len(jobs), sweeper.max_batch_size)
    if workers > 1:
        jobs = spread(jobs)
    started_with = _started_with(config, plan, jobs, workers)

    def config_of(job: Job) -> DictConfig:
        made: DictConfig = sweeper.hydra_context.config_loader.own_part(config, started_with[job.folder])
        return made

    _refuse_values(plan, jobs, config_of, sweeper.shared)
    rows = {job.folder: finished(folder, job, config_of, sweeper.shared) for job in jobs}
    done = {name: row for name, row in rows.items() if row is not None}
    pending = [job for job in jobs if job.folder not in done]
    if config.dry_run:
        print(f"sweep: {len(jobs)} jobs, {len(done)} done, {len(pending)} to run, in {folder}")
        return []
    if len(pending) == len(jobs):
        refuse_hopeless([config_of(pending[0]), config_of(pending[-1])], folder, sweeper.shared)
    session = Session(list(plan.swept), len(jobs), len(done), time.time())
    session.write(folder)
    OmegaConf.save(config, folder / "multirun.yaml")
    Results(folder, list(plan.swept)).write(list(done.values()))
    print(f"sweep: {len(jobs)} jobs, {len(done)} done before; {folder}", file=sys.stderr, flush=True)
    schedule = config.classifier.get("schedule", "constant")
    if "epoch" in plan.swept and schedule != "constant":
        print(f"classifier.schedule={schedule} depends on the total: every epoch is a training of its own", flush=True)
    os.environ["WEAKSEG_SWEEP_WORKERS"] = str(workers)
    batch = sweeper.max_batch_size or (workers if _starts_all_at_once(config) else len(jobs))
    elsewhere = any(name in str(config.hydra.launcher._target_) for name in ("submitit", "ray"))
    with watching(folder, session, elsewhere):
        returned = _launch(sweeper.launcher, [started_with[job.folder] for job in pending], batch, folder)
    if sys.stderr.isatty() and pending:
        print(file=sys.stderr)
    refuse_stopped(returned)
    return returned


def refuse_job_names(config: DictConfig) -> None:
    """Refuse overrides of Hydra's own keys that this sweeper would ignore or that have no value before a job.

    Raises:
        SegError: for ``hydra.sweep.subdir``, and for a value such as ``${hydra.job.num}``.
    """
    given = config.hydra.overrides.hydra
    texts: Any = OmegaConf.to_container(given, resolve=False)
    for place, text in enumerate(texts):
        if str(text).startswith("hydra.sweep.subdir="):
            raise SegError(f"{text}: a job's folder is named by its swept values; leave it out")
        try:
            given[place]
        except OmegaConfBaseException as error:
            raise SegError(
                f"{text}: has no value before a job runs, and a sweep needs it before; leave it out"
            ) from error


def _started_with(config: Any, plan: Plan, jobs: Sequence[Job], workers: int) -> dict[str, list[str]]:
    """The overrides of each job, by its folder."""
    extra = shared_threads(plan, workers)
    if not any(text.startswith("hydra.output_subdir=") for text in config.hydra.overrides.hydra):
        # Three files of config per job, which say what multirun.yaml and the job's job.json say together.
        extra.append("hydra.output_subdir=null")
    extra.append(f"hydra.sweep.dir='{Path(config.hydra.sweep.dir).as_posix()}'")
    return {job.folder: [*job.overrides, *extra, f"hydra.sweep.subdir='{job.folder}'"] for job in jobs}


def _launch(launcher: Any, jobs: Sequence[list[str]], batch: int, folder: Path) -> list[Any]:
    """Give the jobs to the launcher, so many at a time."""
    returned: list[Any] = []
    for start in range(0, len(jobs), batch):
        try:
            returned += launcher.launch(jobs[start : start + batch], initial_job_idx=start)
        except Exception as error:
            if refusal := io_error(error, "sweep", folder, "hydra.sweep.dir"):  # of what Hydra writes for a job
                raise refusal from error
            # A process that was killed, say. Its job has no row; the summary counts it as missing.
            (folder / "launcher_error.txt").write_text(traceback.format_exc())
            said = (str(error).splitlines() or [""])[0]
            print(f"error: {type(error).__name__}: {said} ({folder / 'launcher_error.txt'})", file=sys.stderr)
    return returned


def refuse_stopped(returned: Sequence[Any]) -> None:
    """Refuse to sum up a sweep that was stopped.

    Args:
        returned: what Hydra's launcher returned of each job.

    Raises:
        SegError: why, and how many jobs were not done.
    """
    rows = [job.return_value for job in returned if job.status == JobStatus.COMPLETED]
    stopped = [row[STOPPED] for row in rows if isinstance(row, Mapping) and STOPPED in row]
    if stopped:
        raise SegError(f"{stopped[0]} ({len(stopped)} of {len(returned)} jobs not done; the same command goes on)")


def _refuse_values(plan: Plan, jobs: Sequence[Job], config_of: Callable[[Job], DictConfig], shared: Shared) -> None:
    """Refuse a value that no job can have, before any job has run: each is tried with the first and the last others.

    Raises:
        SegError: with what is said of the value.
    """
    by_cell = {tuple(job.swept.values()): job for job in jobs}
    ends = [tuple(values[i] for values in plan.swept.values()) for i in (0, -1)]
    tried: dict[str, str | None] = {}

    def refusal(job: Job) -> str | None:
        if job.folder not in tried:
            tried[job.folder] = None
            try:
                shared.experiment(config_of(job))
            except SegError as error:
                tried[job.folder] = str(error)
        return tried[job.folder]

    for place, (key, values) in enumerate(plan.swept.items()):
        for value in values:
            said = [refusal(by_cell[(*end[:place], value, *end[place + 1 :])]) for end in ends]
            if said[0] is not None and said[0] == said[1]:
                raise SegError(f"{key}={value}: {said[0]}")


def refuse_hopeless(ends: Sequence[DictConfig], folder: Path, shared: Shared) -> None:
    """Refuse a sweep all of whose jobs would fail alike: both its ends do, for the same reason.

    Args:
        ends: the configs of the first and the last job. folder: the sweep's. shared: what its jobs share.

    Raises:
        SegError: the reason, such as data that are not there.
    """
    reasons = []
    for cfg in ends:
        try:
            experiment = shared.experiment(cfg)
            experiment.acquire()
            experiment.check(folder)
        except SegError as error:
            reasons.append(str(error))
    if len(reasons) == 2 and reasons[0] == reasons[1]:
        raise SegError(reasons[0])


def finished(folder: Path, job: Job, config_of: Callable[[Job], DictConfig], shared: Shared) -> Row | None:
    """The row of a job that was done before and would give the same again, else None.

    Its figures are the same if the stages that give them have the same keys. Where nothing could be measured,
    pictures are all that a job gives: if they are wanted, they have to be there.
    """
    record = read_record(folder / job.folder)
    row: Row = record["row"]
    if row.get("status") != "ok" or "figures" not in record:
        return None
    cfg = config_of(job)
    try:
        experiment = shared.experiment(cfg)
        if record["figures"] != experiment.figures():
            return None
    except SegError:  # the job itself meets it again, and tells
        return None
    if cfg.figures and row.get("miou") is None and not (folder / job.folder / "panel.png").is_file():
        return None
    return row


def spread(jobs: Sequence[Job]) -> list[Job]:
    """Jobs in an order in which those that run at the same time need different products.

    Jobs that differ in the threshold alone need the same ones: all but one of them would wait for it.
    """
    turn: Counter[tuple[str, ...]] = Counter()
    order = []
    for job in jobs:
        needs = tuple(text for text in job.overrides if not text.startswith("threshold="))
        order.append(turn[needs])
        turn[needs] += 1
    return [job for _, job in sorted(zip(order, jobs, strict=True), key=lambda pair: pair[0])]


def parallel_jobs(config: Any, pending: int, batch: int | None) -> int:
    """How many jobs run at the same time on this machine; 1 where the launcher leaves that to a cluster."""
    launcher = config.hydra.launcher
    target = str(launcher._target_)
    cores = available_cores()
    if "joblib" in target:
        workers = int(launcher.n_jobs)
        workers = workers if workers > 0 else max(1, cores + 1 + workers)
    elif _starts_all_at_once(config):
        workers = batch or cores
    elif "ray" in target and launcher.ray.init.get("address") is None:
        workers = max(1, int(cores / max(launcher.ray.remote.get("num_cpus") or 1, 0.01)))
    else:
        return 1
    return max(1, min(workers, pending))


def _starts_all_at_once(config: Any) -> bool:
    return str(config.hydra.launcher._target_).endswith("submitit_launcher.LocalLauncher")


def shared_threads(plan: Plan, workers: int) -> list[str]:
    """Overrides that give each of several jobs its share of the cores, unless they were given."""
    if workers == 1:
        return []
    share = max(1, available_cores() // workers)
    keys = ("runtime.threads", "runtime.workers")
    return [f"{key}={share}" for key in keys if key not in plan.fixed and key not in plan.swept]
