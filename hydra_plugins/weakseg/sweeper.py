"""A sweeper that finds a sweep again: it runs what is not done, and tries again what failed.

Hydra imports every plugin at the start of every program that uses it, so nothing of ours is imported before
it is needed.
"""

import sys
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ResumingSweeper(Sweeper):
    """Hydra's basic sweeper with spans, skipping, cheap jobs and any launcher.

    Args:
        params: what is swept unless the command line says otherwise: ``{epoch: 1..20}``.
        max_batch_size: so many jobs are given to the launcher at a time; null for all, or for one per core
            where the launcher starts a process for each job at once.
        max_jobs: seg.cli refuses a sweep of more, before Hydra plans it.
    """

    def __init__(
        self, params: DictConfig | None = None, max_batch_size: int | None = None, max_jobs: int | None = None
    ) -> None:
        self.params = dict(params or {})
        self.max_batch_size = max_batch_size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        from seg.sweep.job import Shared, SweepTask
        from seg.sweep.shared_config import SharedConfigs

        loader = SharedConfigs(hydra_context.config_loader)
        self.config, self.shared = config, Shared()
        self.hydra_context = HydraContext(config_loader=loader, callbacks=hydra_context.callbacks)
        try:
            self.launcher: Launcher = Plugins.instance().instantiate_launcher(
                hydra_context=self.hydra_context, task_function=SweepTask(self.shared), config=config
            )
        except RuntimeError as error:
            if "Unknown plugin class" not in str(error):
                raise
            name = config.hydra.runtime.choices["hydra/launcher"]
            extra = "ray" if name == "ray" else "sweep"
            sys.exit(f"error: hydra/launcher={name}: is not installed: pip install 'weakseg[{extra}]'")

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that are not done; called by Hydra."""
        from seg.errors import SegError
        from seg.files import io_error
        from seg.sweep.run import run_sweep

        try:
            return run_sweep(self, arguments)
        except SegError as error:
            # Hydra would print a traceback; the message is all there is to say.
            sys.exit(f"error: {error}")
        except OSError as error:
            if refusal := io_error(error, "sweep", self.config.hydra.sweep.dir, "hydra.sweep.dir"):
                sys.exit(f"error: {refusal}")
            raise
