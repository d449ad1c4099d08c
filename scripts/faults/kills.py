"""Runs and sweeps that are killed at every change that they make to a file, and started again."""

import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.tracing import Op, watch
from faults.trial import CHAIN, SWEEP, Ended, Workplace, figures, kind_of, product_files

#: What can be tried, by name: the arguments of the command.
TRIED = {"chain": CHAIN, "sweep": SWEEP}

#: A point where a process ends, and how: at its change of that number, from 0.
Point = tuple[int, str]


@dataclass(frozen=True)
class Reference:
    """What comes out where nothing goes wrong.

    Attributes:
        figures, files, work: of it; how much is begun. points: where it can be killed. ops: its changes.
        again: what of the work a second start begins, which should be nothing.
    """

    figures: Any
    files: dict[str, str]
    work: int
    points: list[Point]
    ops: list[Op]


@dataclass
class Outcome:
    """What became of the trials of one kind.

    Attributes:
        what: was tried. trials: how many. wrong: other figures, without a word. refused: one clear line, and right
            after it was followed or the cause had gone. repairs: never right by itself. tracebacks: with Python's.
        files, equal: of all products, compared byte by byte with the reference.
        repeated: builds and epochs begun beyond those of an undisturbed run; most: in one trial.
        left: files of broken builds that nothing removed.
        findings: by what is wrong: how often, and how to see one of them.
    """

    what: str
    trials: int = 0
    right: int = 0
    wrong: int = 0
    repairs: int = 0
    tracebacks: int = 0
    refused: int = 0
    files: int = 0
    equal: int = 0
    repeated: int = 0
    most: int = 0
    left: int = 0
    kills: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)

    def found(self, kind: str, how: str) -> None:
        """Note something that is not as it should be, and say so the first time."""
        if kind not in self.findings:
            print(f"  {kind}: {how}", file=sys.stderr, flush=True)
        self.findings.setdefault(kind, []).append(how)

    def judge(self, failure: str, same: bool, how: str) -> bool:
        """Count a trial by its last start: what is said of its failure, if it failed, else its figures. Is it right?"""
        self.trials += 1
        if failure:
            self.repairs += 1
            self.found(failure, how)
        elif not same:
            self.wrong += 1
            self.found("other figures", how)
        else:
            self.right += 1
        return not failure and same

    def compare(self, files: dict[str, str], reference: dict[str, str], how: str) -> None:
        """Compare the products of a trial with the reference's."""
        same = {name for name, digest in reference.items() if files.get(name) == digest}
        self.files += len(reference)
        self.equal += len(same)
        for kind, count in Counter(kind_of(name) for name in reference if name not in same).items():
            self.found(f"bytes: {kind} differs", f"{how} ({count})")


def reference(place: Workplace, what: str) -> Reference:
    """Run it undisturbed, and note every change that it makes."""
    folder = place.folder()
    status, ops = watch(place.command(folder, TRIED[what]), folder, lambda number, op: None)
    ended = place.ended(status)
    if status:
        raise RuntimeError(f"{what} fails by itself:\n{ended.said}")
    points: list[Point] = []
    for number, op in enumerate(ops):
        points += [(number, "kill"), (number, "half")] if op.name == "rename" else [(number, "kill")]
    out = Reference(figures(folder), product_files(folder), len(ended.work), points, ops)
    shutil.rmtree(folder)
    return out


def chosen(points: Sequence[Point], count: int) -> Iterator[Point]:
    """So many of the points, evenly over all; all of them where they are fewer."""
    count = min(count, len(points))
    return (points[i * len(points) // count] for i in range(count))


def kill(place: Workplace, what: str, folder: Path, point: Point) -> tuple[Ended, str]:
    """Run it in a folder up to a point and kill it there; where it ends before, it has ended by itself."""
    number, how = point
    status, ops = watch(place.command(folder, TRIED[what]), folder, lambda i, op: how if i == number else None)
    return place.ended(status), str(ops[number]) if number < len(ops) else "its end"


def kills(
    place: Workplace, what: str, count: int, seed: int = 0, at: Sequence[Point] = (), cut: bool = False
) -> Outcome:
    """Kill it ``count`` times in all: at one of its changes, then its second start at one of that one's.

    Args:
        place: where. what: of :data:`TRIED`. count: of kills. seed: of where the second start is killed.
        at: one trial alone, killed at these points one after the other. cut: by a power cut the first time.
    """
    good = reference(place, what)
    out, random_ = Outcome(f"{'power cut and killed' if cut else 'killed'}: {what}"), random.Random(seed)
    points = [(number, "cut") for number in range(len(good.ops))] if cut else good.points
    for first in [at[0]] if at else chosen(points, max(1, (count + 1) // 2)):
        # The second start has fewer changes left, the later the first was killed.
        second = (random_.randrange(max(1, len(good.ops) - first[0])), "kill")
        folder, work = place.folder(), 0
        named: list[str] = []
        where: list[str] = []
        for point in at or ([first, second] if out.kills + 1 < count else [first]):
            ended, before = kill(place, what, folder, point)
            work += len(ended.work)
            named.append(f"{point[0]}{point[1][0]}")
            where.append(before)
            if ended.status == -9:
                out.kills += 1
            elif ended.status:
                said = f"--what {what} --at {','.join(named)} (at {' and '.join(where)})"
                out.found(f"a restart fails: {ended.last_line[:160]}", said)
        ended = place.run(place.command(folder, TRIED[what]))
        said = f"--what {what} --at {','.join(named)} (at {' and '.join(where)})"
        finish(out, good, folder, ended, said, work + len(ended.work), allowed=len(named))
        shutil.rmtree(folder)
    return out


def finish(out: Outcome, good: Reference, folder: Path, ended: Ended, said: str, work: int, allowed: int = 0) -> None:
    """Judge the last start of a trial.

    Args:
        out: where it is counted. good: what should be. folder: the trial's. ended: how the last start did. said: how to
            see it again. work: builds and epochs begun in the whole trial. allowed: how many may have been begun again.
    """
    if ended.traceback:
        out.tracebacks += 1
        out.found(f"traceback: {ended.last_line[:160]}", said)
    failure = f"not repaired by a restart (exit {ended.status}): {ended.last_line[:160]}" if ended.status else ""
    if out.judge(failure, not ended.status and figures(folder) == good.figures, said):
        try:
            out.compare(product_files(folder), good.files, said)
        except ValueError as error:
            out.found(f"a manifest that is none, and no word: {error}", said)
    more = work - good.work
    out.repeated += max(0, more)
    out.most = max(out.most, more)
    if more > allowed:
        out.found("more is built again than one build or epoch a kill", f"{said}: {more}")
    left = [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".part"))]
    out.left += len(left)
    for path in left[:1]:
        name = path.relative_to(folder).as_posix()
        kind = kind_of(name.removeprefix("store/")) if name.startswith("store/") else name
        out.found(f"left for good: {re.sub(r'[.][0-9a-f#]+[.]tmp$', '.*.tmp', kind)}", said)
