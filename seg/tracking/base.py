"""What a tracker is told, and what it has to answer."""

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from seg.errors import SegError

Notes = dict[str, Any]
Status = Literal["finished", "failed", "killed"]

#: What a folder's trackers have to find again, by tracker.
NOTES = "tracked.json"


@dataclass(frozen=True)
class Facts:
    """What a run is.

    Attributes:
        name: of the run among others. pipeline: its name.
        folder: the run's. sweep: the folder of the sweep that it is a job of, if it is.
        identity: equal for runs that would give the same figures.
        settings: the main keys and all that was given, as text.
        command: the command line that repeats it. revision: the commit of the code, if it comes from a checkout.
        data: a line on the data.
        worked: whether the run has built anything so far; False for one that only reads the store.
    """

    name: str
    pipeline: str
    folder: Path
    sweep: Path | None
    identity: str
    settings: Mapping[str, str]
    command: str
    revision: str | None
    data: str
    worked: Callable[[], bool]


class Tracker:
    """One place that runs are told to. A subclass is a dataclass of its settings, and made anew for every run.

    Whatever a method raises after :meth:`check` costs the run this tracker and a line of warning, no more.

    Attributes:
        extra: the extra of the package that it needs. module: what that installs.
    """

    extra: ClassVar[str | None] = None
    module: ClassVar[str] = ""

    def check(self) -> None:
        """Refuse what can't work, before anything is computed.

        Raises:
            SegError: with what to install, or what can't be reached.
        """
        if self.extra is not None and not installed(self.module):
            raise SegError(f"tracker={self.extra}: {self.module} is not installed; pip install 'weakseg[{self.extra}]'")

    def start(self, facts: Facts, notes: Notes, sweep: Notes) -> Notes:
        """A run begins.

        Args:
            facts: what it is.
            notes: what this tracker returned when it last began in the run's folder; empty for a new folder.
            sweep: what :meth:`begin_sweep` returned; empty outside of a sweep.

        Returns:
            What to find again in the run's folder, as JSON values.
        """
        return {}

    def scalars(self, training: str, epoch: int, values: Mapping[str, float]) -> None:
        """Finite figures of one epoch of a training; each epoch once a run, in order."""

    def results(self, facts: Facts, figures: Mapping[str, float], miou: float | None) -> None:
        """The run was measured.

        Args:
            facts: what it is. figures: by ``split/step/figure``. miou: the one that a sweep compares; None
                where nothing has a truth.
        """

    def artifacts(self, paths: Sequence[Path]) -> None:
        """Files of the run's folder that are worth a copy."""

    def end(self, status: Status) -> Notes:
        """The run is over; returns what is to be added to its notes."""
        return {}

    # -- sweeps ----------------------------------------------------------------------------------------

    def find_sweep(self, notes: Notes) -> Notes:
        """What is left of a sweep that was begun before; empty if nothing is."""
        return {}

    def begin_sweep(self, facts: Facts, notes: Notes) -> Notes:
        """A sweep begins or goes on, with what :meth:`find_sweep` found; returns what its jobs have to know.

        Raises:
            SegError: if it can't be told of; nothing was computed yet.
        """
        return {}

    def end_sweep(self, notes: Notes, figures: Mapping[str, float], best: str, paths: Sequence[Path], ok: bool) -> None:
        """A sweep is over.

        Args:
            notes: of :meth:`begin_sweep`. figures: of its best job. best: its cell in words.
            paths: files worth a copy. ok: whether every job was done.
        """

    def has_job(self, notes: Notes, sweep: Notes) -> bool:
        """Whether a job that was done before, with these notes, is there already."""
        return notes.get("status") == "finished"


def installed(module: str) -> bool:
    """Whether a module could be imported; it is not imported for that."""
    return importlib.util.find_spec(module) is not None


def tracked_name(name: str) -> str:
    """A step's name in characters that every tracker takes."""
    return re.sub(r"[^\w .:-]", "", name)
