"""A full disk, a change that fails, many processes at once."""

import errno
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from faults.kills import TRIED, Outcome, Reference, chosen, finish, reference
from faults.tracing import Op, forked, watch
from faults.trial import Ended, Workplace, figures, product_files

#: The error of a change, by its number, what it is, and the point from which it fails; None to let it be.
Error = Callable[[int, Op, int], int | None]

#: What needs room on a disk.
_GROWS = ("open", "mkdir")


def full_disks(place: Workplace, what: str, count: int) -> Outcome:
    """From one of its changes on nothing more goes onto the disk; then there is room again.

    The run has to say so in a line and to fail; the next one has to be right.
    """

    def full(number: int, op: Op, point: int) -> int | None:
        return errno.ENOSPC if number >= point and op.name in _GROWS else None

    return _failing(place, f"disk full at a point: {what}", what, count, full, _GROWS)


def failing_disks(place: Workplace, what: str, count: int) -> Outcome:
    """One of its changes fails, as on a broken disk, and no other."""

    def broken(number: int, op: Op, point: int) -> int | None:
        return errno.EIO if number == point else None

    return _failing(place, f"one change fails: {what}", what, count, broken, ())


def _failing(
    place: Workplace,
    title: str,
    what: str,
    count: int,
    error: Error,
    names: tuple[str, ...],
) -> Outcome:
    good = reference(place, what)
    out = Outcome(title)
    points = [(n, "kill") for n, op in enumerate(good.ops) if not names or op.name in names]
    for point, _ in chosen(points, count):
        folder = place.folder()
        status, ops = watch(
            place.command(folder, TRIED[what]), folder, lambda number, op, at=point: error(number, op, at)
        )
        said = f"--what {what} at change {point} ({ops[point] if point < len(ops) else 'its end'})"
        _after_failure(place, out, good, folder, what, place.ended(status), said)
    return out


def processes(place: Workplace, what: str, count: int, killed: bool = False) -> Outcome:
    """So many at once on one store, begun together: each product is built once; a killed one is taken over."""
    good = reference(place, what)
    out = Outcome(f"{count} processes{', one of them killed' if killed else ''}: {what}")
    shared = place.folder()
    (shared / "store").mkdir()
    folders, children = [], []
    for _ in range(count):
        folder = place.folder()
        (folder / "store").symlink_to(shared / "store")
        folders.append(folder)
        children.append(forked(place.command(folder, TRIED[what])))
    dead = _kill_a_builder(place.root / "work.txt", len(good.ops)) if killed else None
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    together = place.ended(0)
    begun = Counter(together.work)
    twice = {line: times for line, times in begun.items() if times > 1}
    for child, status, folder in zip(children, ended, folders, strict=True):
        if child == dead:
            continue
        failure = f"exit {status} of one of {count} processes: {together.last_line}" if status else ""
        out.judge(failure, not status and figures(folder) == good.figures, what)
    out.repeated = out.most = sum(times - 1 for times in twice.values())
    if out.repeated > killed:
        out.found("built more than once", f"{what}: {twice}")
    out.compare(product_files(shared), good.files, what)
    if together.traceback:
        out.tracebacks += 1
        out.found(f"traceback: {together.last_line}", what)
    for folder in (*folders, shared):
        shutil.rmtree(folder)
    return out


def _kill_a_builder(work: Path, patience: int) -> int:
    """Kill the process that has begun the fifth build, or the latest before; returns which it was."""
    lines: list[str] = []
    for _ in range(100 * patience):
        lines = work.read_text().splitlines() if work.exists() else []
        if len(lines) >= 5:
            break
        time.sleep(0.01)
    child = int(lines[-1].rpartition(" ")[2])
    os.kill(child, signal.SIGKILL)
    return child


def _after_failure(
    place: Workplace, out: Outcome, good: Reference, folder: Path, what: str, ended: Ended, said: str
) -> None:
    if ended.status == 0 and figures(folder) == good.figures:
        pass  # what did not fit was not needed
    elif _failed_well(out, ended, said):
        out.refused += 1
    second = place.run(place.command(folder, TRIED[what]))
    finish(out, good, folder, second, said, len(ended.work) + len(second.work), allowed=1)
    shutil.rmtree(folder)


def _failed_well(out: Outcome, ended: Ended, said: str) -> bool:
    """Whether it has failed, in a line that says of what."""
    line = ended.last_line.lower()
    if ended.status == 0:
        out.found("full, and exit status 0", said)
    elif ended.status < 0:
        out.tracebacks += 1
        out.found(f"killed by signal {-ended.status}", said)
    elif ended.traceback:
        out.tracebacks += 1
        out.found(f"traceback: {ended.last_line[:120]}", said)
    elif not any(text in line for text in ("space", "larger", "too large", "full", "writ", "input/output error")):
        out.found(f"fails with another word: {ended.last_line[:160]}", said)
    else:
        return True
    return False
