"""A sweeper that resumes: it runs the jobs that are not done, and those that failed.

Every program that uses Hydra imports every plugin, so our modules are imported inside functions.
"""

import sys
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ResumingSweeper(Sweeper):
    """Hydra's basic sweeper with spans, skipping, cheap jobs, any launcher and a summary.

    Args:
        params: what is swept unless the command line says otherwise: ``{epoch: 1..20}``.
        max_batch_size: jobs per call of the launcher; null for all, or for one per core if the launcher starts a
            process for each job.
    """

    def __init__(self, params: DictConfig | None = None, max_batch_size: int | None = None) -> None: ...

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        self.config, self.context = config, hydra_context

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that are not done; called by Hydra. Exits with status 1 if jobs failed."""
        from seg.errors import SegError
        from seg.files import io_error
        from seg.sweep.run import run_sweep

        try:
            if run_sweep(self.config, arguments, self.context, self._launcher):
                sys.exit(1)
        except SegError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            if refusal := io_error(error, "sweep", self.config.hydra.sweep.dir, "hydra.sweep.dir"):
                sys.exit(f"error: {refusal}")
            raise

    def _launcher(self, context: HydraContext, task: TaskFunction) -> Any:
        try:
            return Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=task, config=self.config
            )
        except RuntimeError as error:
            if "Unknown plugin class" not in str(error):
                raise
            name = self.config.hydra.runtime.choices["hydra/launcher"]
            extra = "ray" if name == "ray" else "sweep"
            sys.exit(f"error: hydra/launcher={name}: is not installed: pip install 'weakseg[{extra}]'")
