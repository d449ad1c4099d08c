"""The entrypoint: ``python -m seg.run pipeline=cam_affinity``, plus any Hydra override.

Composes the config, checks it, builds the stages, evaluates and draws.
"""

import argparse
import logging
import os
import sys
import traceback
from contextlib import suppress
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from seg.cli import one_line, prepare_arguments
from seg.config import schema
from seg.config.paths import CONF
from seg.config.process import given_overrides, run_folder
from seg.errors import SegError, entrypoint
from seg.files import io_error

log = logging.getLogger("seg")

schema.register()


if sys.version_info >= (3, 14):
    # argparse then reads every help text at once, and one of Hydra's is no string until it is shown.
    argparse.ArgumentParser._check_help = lambda self, action: None


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _hydra_main(cfg: DictConfig) -> Any:
    folder = None if cfg.dry_run else run_folder()
    try:
        from seg.pipeline import run

        run(cfg, folder, figures=cfg.figures is not False, typed=given_overrides())
    except BrokenPipeError:  # Hydra would print a traceback
        sys.exit(141)
    except Exception as error:
        refusal: object = error if isinstance(error, SegError) else io_error(error, "run", folder, "hydra.run.dir")
        if isinstance(error, OmegaConfBaseException):
            refusal = one_line(error)
        if refusal is None:
            raise
        _print_error(f"error: {refusal}")
        sys.exit(1)
    if cfg.runtime.devices * cfg.runtime.num_nodes > 1:
        import torch.distributed

        # Otherwise its threads may abort the process while the interpreter exits.
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return None


def _print_error(line: str) -> None:
    """Print an error to standard error and to the log in the run's folder."""
    if not log.isEnabledFor(logging.ERROR):  # of several processes only the first prints
        return
    print(line, file=sys.stderr, flush=True)
    record = logging.LogRecord("seg", logging.ERROR, __file__, 0, line, None, None)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            with suppress(OSError):  # that disk may be full
                handler.handle(record)


def _follow(arguments: list[str]) -> list[str]:
    """The arguments of this process: of several that train together, only the first has a run folder and prints."""
    rank = next((os.environ[k] for k in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if k in os.environ), "0")
    if rank == "0":
        return arguments
    logging.disable(logging.CRITICAL)
    if "hydra.output_subdir=null" in arguments:  # Lightning Fabric has started this one
        return arguments
    rest = [a for a in arguments if not a.startswith("hydra.run.dir=")]
    return [*rest, "hydra.run.dir=.", "hydra.output_subdir=null"]


@entrypoint()
def main(arguments: list[str] | None = None) -> Any:
    """Console entrypoint; ``arguments`` default to the command line's."""
    typed = sys.argv[1:] if arguments is None else arguments
    sys.argv[1:] = _follow(prepare_arguments(typed))
    debug = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing
    try:
        return _hydra_main()
    except BrokenPipeError:  # of a reader such as `head`
        raise
    except Exception as error:
        if refusal := io_error(error, "run", "its folder", "hydra.run.dir"):  # Hydra's own files
            sys.exit(f"error: {refusal}")
        known = isinstance(error, HydraException | OmegaConfBaseException)
        # Before a job starts, every error is in the config. Hydra has bare assertions there, as for a key of a group
        # whose choice is ``none``.
        begun = any(f.f_code.co_name in ("run_job", "sweep") for f, _ in traceback.walk_tb(error.__traceback__))
        if debug or (begun and not known):
            raise
        what = "" if known else f"{' '.join(typed)[:150]}: is a key set in a group whose choice is none? Hydra says: "
        print(f"error: {what}{one_line(error)}", file=sys.stderr)
        sys.exit(1)
    finally:
        os.environ.pop("HYDRA_FULL_ERROR") if debug is None else os.environ.update(HYDRA_FULL_ERROR=debug)


if __name__ == "__main__":
    # Imported by name, so that other processes of a sweep can unpickle what this one sends.
    from seg.run import main as main_by_name

    main_by_name()
