"""One run from start to end: refuse what can't work, build, measure, report."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seg.config.process import choices
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
        store: where products are kept, if several runs of this process share one; else the config says.
        figures: whether to draw the panel and the curves, and to write report.html.
        objects: stages that several runs of this process share.
        typed: overrides of the command line, of which each has to be used.

    Returns:
        The experiment, its steps built and its rows measured.

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
        print(experiment.plan())
        return experiment
    if runtime.leads:
        check_trackers(cfg)
        experiment.check(folder)
    runtime.start()
    if not runtime.leads:
        # One of several processes that train together, and not the first, helps to build and no more.
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


def _refuse_uncoordinated(processes: int) -> None:
    """Refuse processes that were started together without being told of each other: each would do all the work."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 < started:
        raise SegError(
            f"{started} processes were started together, but runtime.devices x runtime.num_nodes is 1: "
            f"add runtime.devices={started} (per machine) and runtime.num_nodes"
        )
