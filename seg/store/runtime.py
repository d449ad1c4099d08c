"""Settings of the machine, which may not change a result."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from seg.errors import SegError
from seg.store.parameters import Parameters, param

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Progress of the whole run, which bars show before their own: "2 of 5, about 1 min 0 s left". The store sets it.
so_far: ContextVar[str] = ContextVar("so_far", default="")

#: Seconds between two lines about progress in the log.
EVERY = 30.0


class Runtime(Parameters):
    """Settings of the machine; not part of any key.

    With several devices there is one process per device. All of them train together; the first one builds everything
    else (see :meth:`seg.store.Store.ensure`).

    Attributes:
        accelerator: as Lightning Fabric names them.
        devices: how many of them on each machine.
        num_nodes: how many machines.
        strategy: Fabric's strategy of distribution.
        workers: threads that decode images; null for one per core.
        threads: threads of PyTorch's CPU operators; null leaves PyTorch's choice.
        batch_size: images per batch of inference.
        progress: bars while a stage runs (on a terminal), else a line now and then.
    """

    called: ClassVar[str | None] = "runtime"

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = param(default="auto")
    devices: int = param(default=1, low=1)
    num_nodes: int = param(default=1, low=1)
    strategy: Literal["auto", "ddp"] = param(default="auto")
    workers: int | None = param(default=None, low=1)
    threads: int | None = param(default=None, low=1)
    batch_size: int = param(default=64, low=1)
    progress: bool = param(default=True)

    def start(self) -> None:
        """Set the number of PyTorch's threads, before anything is computed."""
        if self.threads:
            import torch

            torch.set_num_threads(self.threads)

    def check(self) -> None:
        """Raise a SegError if the accelerator is missing."""
        import torch

        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not available.get(self.accelerator, True):
            raise SegError(f"runtime.accelerator={self.accelerator}: there is none here; use cpu or auto")

    @property
    def worker_count(self) -> int:
        """Threads that decode images, at least 1."""
        return self.workers or available_cores()

    @property
    def processes(self) -> int:
        """How many processes train together, over all machines."""
        return self.devices * self.num_nodes

    @cached_property
    def team(self) -> "Fabric":
        """Lightning Fabric, launched, to coordinate the processes that train together.

        Outside of torchrun and Slurm, the first use starts this machine's other processes, with this command line.
        """
        return self.fabric("32-true")

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.processes == 1 or self.team.global_rank == 0

    @cached_property
    def device(self) -> "torch.device":
        """The device of inference (of this process)."""
        import torch

        if self.accelerator in ("auto", "cuda") and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if self.accelerator in ("auto", "mps") and torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")

    @cached_property
    def kept(self) -> dict[str, Any]:
        """A cache that the jobs of this process share; it only makes them faster."""
        return {}

    def fabric(self, precision: str) -> "Fabric":
        """Lightning Fabric for a training in the given precision, launched."""
        from lightning_fabric import Fabric

        fabric = Fabric(
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.num_nodes,
            strategy=self.strategy,
            precision=precision,  # type: ignore[arg-type]
        )
        fabric.launch()
        return fabric

    def bar(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Iterate with a progress bar on a terminal; elsewhere with a line in the log every half minute."""
        if not self.progress:
            return iter(items)
        from tqdm import tqdm

        if run := so_far.get():
            what = f"[{run}] {what}"
        if sys.stderr.isatty():
            return iter(tqdm(items, what, total, leave=False))
        line = "{desc}: {n_fmt} of {total_fmt} ({percentage:.0f} %), {remaining} left"
        options: dict[str, Any] = {"mininterval": EVERY, "maxinterval": 2 * EVERY, "delay": EVERY, "bar_format": line}
        return iter(tqdm(items, what, total, leave=False, file=_LogLines(), **options))


class _LogLines:
    """A file for tqdm that writes to the log."""

    def write(self, text: str) -> None:
        if line := text.strip():
            log.info(line)

    def flush(self) -> None:
        """Nothing is buffered."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
