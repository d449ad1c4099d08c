"""One run from start to end: check, build, measure, report."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seg.config.process import choices
from seg.data.read_report import ReadReport
from seg.errors import SegError
from seg.experiment import Experiment
from seg.report.write import write_report
from seg.store import Store
from seg.store.run_folders import remember_run
from seg.tracking import check_trackers, tracking

log = logging.getLogger("seg")


def run(
    cfg: DictConfig,
    folder: Path | None,
    store: Store | None = None,
    figures: bool = True,
    objects: dict[Any, Any] | None = None,
    typed: Sequence[str] = (),
) -> Experiment:
    """Run the chain that ``cfg`` describes.

    Args:
        cfg: the composed config.
        folder: where figures, pictures and exports go; None for a dry run.
        store: to share between runs of this process; None for the config's.
        figures: draw the panel and the curves, and write report.html.
        objects: stages to share between runs of this process.
        typed: overrides of the command line; each must have an effect.

    Returns:
        The experiment, built and measured.

    Raises:
        SegError: for bad input, before any long work where that can be known.
    """
    experiment = Experiment.from_config(cfg, store, objects)
    if typed and (refused := experiment.unused(typed, choices())):
        raise SegError("; ".join(refused.values()))
    runtime = experiment.store.runtime
    _refuse_uncoordinated(runtime.processes)
    experiment.acquire()
    if cfg.dry_run or folder is None:
        print(plan(experiment))
        return experiment
    if runtime.leads:
        check_trackers(cfg)
        experiment.check(folder)
    runtime.start()
    if not runtime.leads:
        # Of several processes that train together, only the first measures and reports.
        experiment.build()
        return experiment
    remember_run(experiment.store.root, folder, experiment.stored())
    log.info(experiment.heading())
    with tracking(experiment, folder) as followed:
        followed.build()
        done = replace(followed, store=followed.store.alone())
        done.measure()
        write_report(done, folder, figures)
    return done


def plan(experiment: Experiment) -> str:
    """What a run would do, as a tree in lines."""
    dataset = experiment.source.dataset_if_known(experiment.store)
    warnings = ReadReport(dataset.warnings, dataset.examples).lines() if dataset else []
    lines = [experiment.heading(), *warnings, f"store: {experiment.store.root}"]
    for planned in experiment.store.plan([step.masks for step in experiment.steps.values()]):
        mark = {"built": "=", "build": "+", "extend": "+", "on the fly": ".", "see above": "^"}[planned.status]
        name = planned.stage.id.replace("/", " ")
        note = f"{planned.status}: {planned.why}" if planned.why else planned.status
        lines.append(f"{mark} {'  ' * planned.depth}{name}  [{note}]")
    lines += experiment.given()
    lines.append("+ would run   = in the store   . made on the fly   ^ see above")
    return "\n".join(lines)


def _refuse_uncoordinated(processes: int) -> None:
    """Refuse several processes whose number is not configured: each of them would do all the work."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 < started:
        raise SegError(
            f"{started} processes were started together, but runtime.devices x runtime.num_nodes is 1: "
            f"add runtime.devices={started} (per machine) and runtime.num_nodes"
        )
