"""What Hydra calls at the start of a run, at the end of every job and of the whole sweep."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from seg.errors import SegError
from seg.files import io_error
from seg.store.run_folders import check_room, new_folder


class SweepCallback(Callback):
    """Gives a run a folder of its own; summarises a sweep, and ends with an exit status that tells of failed jobs.

    Of an exception here Hydra makes a warning and goes on, so what is wrong ends the program here.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a run's folder without room, where Hydra would begin with a traceback.

        Where it is named by the time, make it: of runs that start in one second each has its own.
        """
        if config.hydra.output_subdir is None:  # as of a dry run
            return
        instance = HydraConfig.instance()
        before = instance.cfg
        instance.set_config(config)  # as Hydra does for the job, which the name asks for its pipeline
        folder = Path(str(config.hydra.run.dir))
        instance.cfg = before
        with _ending("run", folder, "hydra.run.dir"):
            if "${now:" in str(OmegaConf.to_container(config.hydra.run)["dir"]):  # type: ignore[call-overload,index]
                folder = new_folder(folder)
            check_room(folder)
            with read_write(config.hydra):
                config.hydra.run.dir = folder.as_posix()

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """Hydra keeps what it knows of every job until the sweep ends; nobody reads its copies of the config."""
        if config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN":
            job_return.cfg = job_return.hydra_cfg = None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Draw the map, choose the best, print the summary."""
        if config.dry_run:
            return
        folder = Path(config.hydra.sweep.dir)
        with _ending("the sweep's summary", folder, "hydra.sweep.dir"):
            undone = self._end(config, folder)
        if undone > 0:
            # Hydra's multirun has no exit status of its own.
            sys.exit(1)

    def _end(self, config: DictConfig, folder: Path) -> int:
        """How many jobs failed or are missing."""
        from seg.sweep.summary import summarise

        return summarise(folder, figures=config.figures is not False)


@contextmanager
def _ending(what: str, folder: Path, key: str) -> Iterator[None]:
    """End the program at an error: Hydra would make a warning of it, and go on."""
    try:
        yield
    except Exception as error:
        refusal = error if isinstance(error, SegError) else io_error(error, what, folder, key)
        if refusal is None and isinstance(error, OSError):
            refusal = SegError(f"{key}={folder}: cannot be written to ({error.strerror})")
        if refusal is None:
            traceback.print_exc()
        sys.exit(f"error: {refusal}" if refusal else 1)
