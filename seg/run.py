"""The entrypoint: ``python -m seg.run pipeline=cam_affinity``, plus any Hydra override.

Compose the config, instantiate the stages, refuse what can't work, build, evaluate, draw.
"""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from seg import schema
from seg.cli import CONF, prepare_arguments, writable
from seg.errors import SegError

if TYPE_CHECKING:
    from seg.experiment import Experiment
    from seg.store import Store

log = logging.getLogger("seg")

schema.register()


def run(cfg: DictConfig, folder: Path | None, store: "Store | None" = None, figures: bool = True) -> "Experiment":
    """Run the pipeline that ``cfg`` describes.

    Args:
        cfg: the composed config.
        folder: where figures, pictures and exports go; None for a dry run.
        store: where products are kept, if several runs of this process share one; else the config says.
        figures: whether to draw the panel and the curves, and to write report.html.

    Returns:
        The experiment, its stages built and its rows measured.

    Raises:
        SegError: for bad input, before any long work where that can be known.
    """
    from seg.experiment import Experiment
    from seg.models import in_sweep
    from seg.run_folders import refusing, remember_products, remember_run
    from seg.tracking.run import tracking

    with refusing(folder):
        experiment = Experiment.from_config(cfg, store)
        _refuse_loners(experiment.store.runtime.processes)
        experiment.acquire()
        # One of several processes that train together, and not the first, helps to build and no more.
        helps = not cfg.dry_run and not experiment.store.runtime.leads
        if folder is not None and not cfg.dry_run and not helps:
            experiment.check(folder)
    if helps:
        experiment.build()
        return experiment
    if cfg.dry_run or folder is None:
        print(experiment.plan())
        return experiment
    if in_sweep():
        # The jobs lie in one folder: that is enough to find them again. They have no .hydra/config.yaml.
        remember_run(experiment.store.root, Path(HydraConfig.get().sweep.dir))
        remember_products(folder, experiment.stored_products())
    else:
        remember_run(experiment.store.root, folder)
    log.info(experiment.heading())
    with tracking(experiment, folder):
        experiment.build()
        experiment.measure()
        experiment.report(folder, figures)
    return experiment


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _hydra_main(cfg: DictConfig) -> Any:
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode == RunMode.MULTIRUN:
        from seg.sweep.job import run_sweep_job

        return run_sweep_job(cfg, hydra_cfg)
    folder = None if cfg.dry_run else Path(hydra_cfg.runtime.output_dir)
    try:
        run(cfg, folder, figures=cfg.figures is not False)
    except SegError as error:
        # Hydra would print a traceback for it; here the message is all there is to say.
        log.error("error: %s", error)
        sys.exit(1)
    if cfg.runtime.devices * cfg.runtime.num_nodes > 1:
        import torch.distributed

        # Left to the end of the interpreter, its threads sometimes outlive what they need and abort the process.
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return None


def _check_folders(arguments: list[str]) -> None:
    """Hydra makes the run's folder itself, before the job could object in one line."""
    given = dict(a.split("=", 1) for a in arguments if a.startswith(("hydra.run.dir=", "hydra.sweep.dir=")))
    for key, value in (given or {"hydra.run.dir": "outputs"}).items():
        place = Path(value.strip("'\"").partition("${")[0])
        if not writable(place):
            raise SegError(f"{place}: cannot be written to; choose another with {key}=")


def _refuse_loners(processes: int) -> None:
    """Refuse processes that were started together without being told of each other: each would do all the work."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 < started:
        raise SegError(
            f"{started} processes were started together, but runtime.devices x runtime.num_nodes is 1: "
            f"add runtime.devices={started} (per machine) and runtime.num_nodes"
        )


def _follow(arguments: list[str]) -> list[str]:
    """Of processes that were started together only the first has a run's folder and speaks.

    Returns:
        The arguments of this process.
    """
    rank = next((os.environ[k] for k in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if k in os.environ), "0")
    if rank == "0":
        return arguments
    logging.disable(logging.CRITICAL)
    if "hydra.output_subdir=null" in arguments:  # Lightning Fabric has started this one
        return arguments
    rest = [a for a in arguments if not a.startswith("hydra.run.dir=")]
    return [*rest, "hydra.run.dir=.", "hydra.output_subdir=null"]


def main(arguments: list[str] | None = None) -> Any:
    """Console entrypoint; ``arguments`` default to the command line's."""
    try:
        sys.argv[1:] = _follow(prepare_arguments(sys.argv[1:] if arguments is None else arguments))
        _check_folders(sys.argv[1:])
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return _hydra_main()


if __name__ == "__main__":
    # By its name: what other processes of a sweep are sent is found there under it.
    from seg.run import main as main_by_name

    main_by_name()
