"""A full disk, a limit on the size of files, many processes at once, a clock that jumps."""

import contextlib
import ctypes
import errno
import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from faults.kills import TRIED, Outcome, Reference, chosen, finish, reference
from faults.tracing import Op, forked, watch
from faults.trial import Ended, Workplace, figures, product_files

#: What needs room on a disk.
_GROWS = ("write", "pwrite", "writev", "open", "mkdir", "allocate", "link", "symlink")


def full_disks(place: Workplace, what: str, count: int, at: int | None = None) -> Outcome:
    """From one of its changes on nothing more goes onto the disk; then there is room again.

    The run has to say so in a line and to fail; the next one has to be right.
    """

    def full(number: int, op: Op, point: int) -> int | None:
        return errno.ENOSPC if number >= point and op.name in _GROWS else None

    return _failing(place, f"disk full at a point: {what}", what, count, full, _GROWS, "--full-at", at)


def failing_disks(place: Workplace, what: str, count: int, at: int | None = None) -> Outcome:
    """One of its changes fails, as on a broken disk, and no other."""

    def broken(number: int, op: Op, point: int) -> int | None:
        return errno.EIO if number == point else None

    return _failing(place, f"one change fails: {what}", what, count, broken, (), "--error-at", at)


def _failing(
    place: Workplace,
    title: str,
    what: str,
    count: int,
    error: Callable[[int, Op, int], int | None],
    names: tuple[str, ...],
    option: str,
    at: int | None,
) -> Outcome:
    good = reference(place, what)
    out = Outcome(title)
    points = [(n, "kill") for n, op in enumerate(good.ops) if not names or op.name in names]
    for point, _ in chosen(points, count) if at is None else [(at, "kill")]:
        folder = place.folder()
        decide = partial(_decided, error, point)
        status, ops = watch(TRIED[what](place, folder), folder, decide)
        said = f"--what {what} {option} {point} (at {ops[point] if point < len(ops) else 'its end'})"
        _after_failure(place, out, good, folder, what, place.ended(status), said)
    return out


def _decided(error: Callable[[int, Op, int], int | None], point: int, number: int, op: Op) -> int | None:
    return error(number, op, point)


def limited_files(place: Workplace, what: str, sizes: tuple[int, ...]) -> Outcome:
    """No file may grow beyond a size, and then it may."""
    good = reference(place, what)
    out = Outcome(f"size of files limited: {what}")
    for size in sizes:
        folder = place.folder()
        work = TRIED[what](place, folder)

        def limited(work: Callable[[], int] = work, size: int = size) -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            return work()

        _after_failure(place, out, good, folder, what, place.run(limited), f"{what} --file-size {size}")
    return out


def small_disks(place: Workplace, what: str, sizes: tuple[int, ...]) -> Outcome | None:
    """A disk of its own that is too small, and then grows; None where none can be mounted."""
    good = reference(place, what)
    out = Outcome(f"small disk: {what}")
    for size in sizes:
        folder = place.folder()
        notes = place.root / "inside"
        notes.mkdir()

        def inside(folder: Path = folder, size: int = size, notes: Path = notes) -> int:
            if not _mount(folder, size):
                return 77
            first = place.run(TRIED[what](place, folder))
            (notes / "first").write_text(f"{first.status}\n{first.said}")
            _mount(folder, 2**28, again=True)
            second = place.run(TRIED[what](place, folder))
            (notes / "second").write_text(f"{second.status}\n{second.said}")
            shutil.copytree(folder, notes / "copy")
            return 0

        status = place.run(inside).status
        if status == 77:
            shutil.rmtree(notes)
            return None
        (ended, second) = (_read(notes / name) for name in ("first", "second"))
        said = f"{what} --disk {size}"
        if ended.status == 0 and second.status == 0:
            pass  # it had room enough
        elif _failed_well(out, ended, said):
            out.refused += 1
        finish(out, good, notes / "copy", second, said, good.work)
        shutil.rmtree(notes)
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
        children.append(forked(TRIED[what](place, folder)))
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


def clocks(place: Workplace, what: str) -> Outcome:
    """The clock jumps while it runs; files are of next year, or of 1970: figures stay, and nothing is built again."""
    good = reference(place, what)
    out = Outcome(f"clock jumps: {what}")
    for jump in (0.0, 1e9, -1e9, 3e5):
        folder = place.folder()
        work = TRIED[what](place, folder)

        def jumping(work: Callable[[], int] = work, jump: float = jump) -> int:
            real, draws = time.time, random.Random(0)
            time.time = lambda: real() + jump * draws.random()
            return work()

        finish(out, good, folder, place.run(jumping), f"{what}, clock by {jump:g} s", good.work)
        for moment in (0, time.time() + 3e7, 2**32):
            for path in folder.rglob("*"):
                with contextlib.suppress(OSError):
                    os.utime(path, (moment, moment), follow_symlinks=False)
            ended = place.run(TRIED[what](place, folder))
            says = f"{what}, files of {moment:g}"
            finish(out, good, folder, ended, says, good.work + len(ended.work))
            verified = place.run(place.command(folder, ["verify", "--store", "store"], "seg.store.__main__"))
            listed = place.run(place.command(folder, ["ls", "--store", "store"], "seg.store.__main__"))
            if verified.status or listed.status:
                out.found(f"store ls or verify: {verified.last_line or listed.last_line}", says)
        shutil.rmtree(folder)
    return out


def _after_failure(
    place: Workplace, out: Outcome, good: Reference, folder: Path, what: str, ended: Ended, said: str
) -> None:
    if ended.status == 0 and figures(folder) == good.figures:
        pass  # what did not fit was not needed
    elif _failed_well(out, ended, said):
        out.refused += 1
    second = place.run(TRIED[what](place, folder))
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


def _read(path: Path) -> Ended:
    status, _, said = path.read_text().partition("\n")
    return Ended(int(status), said)


def _mount(folder: Path, size: int, again: bool = False) -> bool:
    """Mount a disk of so many bytes over a folder, seen by this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
    options = f"size={size},mode=755".encode()
    if again:
        return bool(libc.mount(None, os.fsencode(folder), None, 32, options) == 0)  # MS_REMOUNT
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(0x20000 | (0 if user == 0 else 0x10000000)):  # CLONE_NEWNS, CLONE_NEWUSER
        return False
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    libc.mount(None, b"/", None, 16384 | 262144, None)  # MS_REC | MS_PRIVATE
    return bool(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options) == 0)
