"""A process whose changes of files are watched, one by one, and broken off where one likes.

The changes are Python's audit events: files that are opened for writing, renamed or removed, folders that are made or
removed. (This package writes no file but through Python.) Linux alone.
"""

import contextlib
import itertools
import os
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Audit events by what they are called here, with the places of the path and of its folder's descriptor.
_EVENTS = {
    "open": ("open", 0, None),
    "os.mkdir": ("mkdir", 0, 2),
    "os.rmdir": ("rmdir", 0, 1),
    "os.remove": ("remove", 0, 1),
    "os.rename": ("rename", 0, 2),
}
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Op:
    """One change of a file, about to be made: ``open``, ``rename``, ...; the path below the root that is watched."""

    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.name} {self.path}"


#: What happens at a change, by its number from 0: None; an errno, with which it fails; "kill" before it; "half" of the
#: file that is renamed and a kill, as in the middle of writing it; "cut": power fails, and what was not synced is lost.
Decide = Callable[[int, Op], "str | int | None"]


def forked(work: Callable[[], int]) -> int:
    """The process that does ``work``, forked off this one: it exits with the answer, or with 70 and a traceback."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    return child


def watch(work: Callable[[], int], root: Path, decide: Decide) -> tuple[int, list[Op]]:
    """Do ``work`` in a process forked off this one, which should have no threads.

    Args:
        work: returns the exit status.
        root: changes of files below this folder count.
        decide: what happens at each of them; called in the forked process.

    Returns:
        The exit status, negative for a signal, and the changes up to there.
    """
    with tempfile.TemporaryFile() as notes:

        def watched() -> int:
            watcher = _Watcher(f"{root.resolve()}/", decide, notes.fileno())
            os.fsync = watcher.fsync
            sys.addaudithook(watcher)
            return work()

        _, status = os.waitpid(forked(watched), 0)
        notes.seek(0)
        lines = os.fsdecode(notes.read()).split("\0")[:-1]
    return os.waitstatus_to_exitcode(status), [Op(*line.split(" ", 1)) for line in lines]


class _Watcher:
    def __init__(self, root: str, decide: Decide, notes: int) -> None:
        self.root, self.decide, self.notes = root, decide, notes
        self.numbers = itertools.count()
        self.dirty: set[str] = set()  # files that are not synced since they were written
        self._fsync = os.fsync

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        name, at, folder = _EVENTS.get(event, ("", 0, None))
        if not name or isinstance(arguments[at], int) or (name == "open" and not arguments[2] & _CHANGES):
            return
        path = _whole(arguments[at], -1 if folder is None else arguments[folder])
        if not path.startswith(self.root):
            return
        number, op = next(self.numbers), Op(name, path.removeprefix(self.root))
        os.write(self.notes, os.fsencode(f"{op}\0"))
        wish = self.decide(number, op)
        if isinstance(wish, int):
            raise OSError(wish, os.strerror(wish))
        if wish == "half" and name == "rename" and os.path.isfile(path):
            os.truncate(path, os.path.getsize(path) // 2)
        if wish == "cut":
            self.lose(random.Random(number))
        if wish is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "open":
            self.dirty.add(path)
        elif name == "rename":
            self.renamed(path, _whole(arguments[1], arguments[3]))

    def renamed(self, old: str, new: str) -> None:
        for path in [path for path in self.dirty if f"{path}/".startswith(f"{old}/")]:
            self.dirty.remove(path)
            self.dirty.add(new + path.removeprefix(old))

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self.dirty.discard(os.readlink(f"/proc/self/fd/{descriptor}"))

    def lose(self, random_: random.Random) -> None:
        """ext4 with a lost log leaves each: an empty file, half of one, zeros of the right size."""
        for path in sorted(self.dirty):
            if os.path.isfile(path):
                size, loss = os.path.getsize(path), random_.choice(("empty", "half", "zeros"))
                os.truncate(path, size // 2 if loss == "half" else 0)
                if loss == "zeros":
                    os.truncate(path, size)


def _whole(path: Any, folder: int) -> str:
    start = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else ""
    return os.path.abspath(os.path.join(start, os.fsdecode(path)))
