"""What Hydra calls at the end of every job and of the whole sweep."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepCallback(Callback):
    """Summarises a sweep, and ends with an exit status that tells of failed jobs."""

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """Hydra keeps what it knows of every job until the sweep ends; nobody reads its copies of the config."""
        if config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN":
            job_return.cfg = job_return.hydra_cfg = None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Draw the map, choose the best, print the summary."""
        from seg.sweep.summary import summarise

        if config.dry_run:
            return
        folder = Path(config.hydra.sweep.dir)
        undone = summarise(folder, figures=config.figures is not False)
        if config.tracker:
            from seg.sweep.tracking import end_sweep

            end_sweep(config, folder, ok=undone == 0)
        if undone > 0:
            # Hydra's multirun has no exit status of its own.
            sys.exit(1)
