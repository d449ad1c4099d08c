"""Power cuts: what a disk has after one, at chosen changes of a run, and what the next start makes of it."""

import os
import random
import shutil
from pathlib import Path

from faults.kills import TRIED, Outcome, chosen, finish, reference
from faults.tracing import Op, watch
from faults.trial import Workplace

#: What becomes of a file that was not synced since it was written: ext4 with a lost log leaves each of them.
LOSSES = ("empty", "zeros", "half")

_WRITTEN = ("write", "pwrite", "writev", "truncate", "allocate")


def cuts(place: Workplace, what: str, count: int, seed: int = 0) -> Outcome:
    """Cut the power ``count`` times: every file whose bytes were not synced by then loses them, and its name stays.

    One run is watched, and copied at the points; what is lost is drawn for each file. (That a name is lost whose folder
    was not synced leaves less, as a kill does that comes before it.)
    """
    good = reference(place, what)
    out, random_ = Outcome(f"power cut: {what}"), random.Random(seed)
    points = {number for number, _ in chosen([(n, "kill") for n in range(1, len(good.ops))], count)}
    folder, dirty, copies = place.folder(), set[int](), []

    def decide(number: int, op: Op) -> None:
        if number in points:
            copy = place.folder(folder)
            lost = _lose(folder, copy, dirty, random_)
            copies.append((copy, f"--only cuts --cuts {count} --seed {seed}, at {number} ({op}), {lost}"))
        if op.name in _WRITTEN:
            dirty.add(op.inode)
        elif op.name == "fsync":
            dirty.discard(op.inode)

    place.ended(watch(TRIED[what](place, folder), folder, decide)[0])
    for copy, said in copies:
        before = len(good.ops)  # how much was done is not known: what is begun now is at most all of it
        ended = place.run(TRIED[what](place, copy))
        finish(out, good, copy, ended, said, len(ended.work), allowed=before)
        shutil.rmtree(copy)
    shutil.rmtree(folder)
    return out


def _lose(folder: Path, copy: Path, dirty: set[int], random_: random.Random) -> str:
    lost = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_ino in dirty and (size := path.stat().st_size):
            name, loss = path.relative_to(folder), random_.choice(LOSSES)
            if loss == "zeros":
                (copy / name).write_bytes(bytes(size))
            else:
                os.truncate(copy / name, 0 if loss == "empty" else size // 2)
            lost.append(f"{name.name} {loss}")
    return f"{len(lost)} files not synced"
