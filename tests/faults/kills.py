"""Runs and sweeps that are killed at every change that they make to a file, and started again."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from faults.tracing import Op, watch
from faults.trial import COMMAND, SWEEP, Ended, Workplace, figures, product_files

#: What can be tried, by name: a function of the workplace and the folder.
TRIED: dict[str, Callable[[Workplace, Path], Callable[[], int]]] = {
    "chain": lambda place, folder: place.chain(folder),
    "command": lambda place, folder: place.command(folder, COMMAND),
    "sweep": lambda place, folder: place.command(folder, SWEEP),
}

#: A point where a process ends: before its change of that number, from 0, or in the middle of it (a write).
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
        """Note something that is not as it should be."""
        self.findings.setdefault(kind, []).append(how)

    def compare(self, files: dict[str, str], reference: dict[str, str], how: str) -> None:
        """Compare the products of a trial with the reference's."""
        same = {name for name, digest in reference.items() if files.get(name) == digest}
        self.files += len(reference)
        self.equal += len(same)
        for kind, count in Counter(kind_of(name) for name in reference if name not in same).items():
            self.found(f"bytes: {kind} differs", f"{how} ({count})")


def kind_of(name: str) -> str:
    """``CAM/0123456789abcdef/scores.npy`` to ``CAM/scores.npy``; numbers become ``#``."""
    parts = name.split("/")
    plain = [part for part in parts if not (len(part.partition(".")[0]) == 16 and part[:1] in "0123456789abcdef")]
    last = "".join("#" if c.isdigit() else c for c in plain[-1]) if plain else ""
    while "##" in last:
        last = last.replace("##", "#")
    if "oxford-iiit-pet" in plain and last.endswith((".jpg", ".png", ".xml")):
        last = "*" + Path(last).suffix
    return "/".join([plain[0], last]) if len(plain) > 1 else last


def reference(place: Workplace, what: str) -> Reference:
    """Run it undisturbed, and note every change that it makes."""
    folder = place.folder()
    status, ops = watch(TRIED[what](place, folder), folder, lambda number, op: None)
    ended = place.ended(status)
    if status:
        raise RuntimeError(f"{what} fails by itself:\n{ended.said}")
    points: list[Point] = []
    for number, op in enumerate(ops):
        points += [(number, "kill"), (number, "half")] if op.divisible else [(number, "kill")]
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
    status, ops = watch(TRIED[what](place, folder), folder, lambda i, op: how if i == number else None)
    return place.ended(status), str(ops[number]) if number < len(ops) else "its end"


def kills(place: Workplace, what: str, count: int, seed: int = 0, points: Sequence[Point] = ()) -> Outcome:
    """Kill it ``count`` times in all: at one of its changes, then its second start at one of that one's."""
    good = reference(place, what)
    out, random_ = Outcome(f"killed: {what}"), random.Random(seed)
    given = bool(points)
    firsts = iter(points) if given else chosen(good.points, max(1, (count + 1) // 2))
    for first in islice(firsts, None):
        folder = place.folder()
        ended, where = kill(place, what, folder, first)
        how, work, broken = f"{what} --at {first[0]}{'h' if first[1] == 'half' else ''}", len(ended.work), [where]
        out.trials += 1
        out.kills += 1
        # The second start has fewer changes left, the later the first was killed.
        left = max(1, len(good.ops) - first[0])
        second = (random_.randrange(left), "kill")
        if not given and out.kills < count:
            ended, where = kill(place, what, folder, second)
            work += len(ended.work)
            if ended.status == -9:
                out.kills += 1
                how += f",{second[0]}"
                broken.append(where)
            elif ended.status:
                _judge_restart(out, ended, broken, how)
        ended = place.run(TRIED[what](place, folder))
        work += len(ended.work)
        finish(place, out, good, folder, ended, " and ".join(broken), how, work, place.run)
        shutil.rmtree(folder)
    return out


def _judge_restart(out: Outcome, ended: Ended, broken: list[str], how: str) -> None:
    out.found(f"a restart fails: {ended.last_line[:160]}", f"{how} (killed before {' and '.join(broken)})")


def finish(
    place: Workplace,
    out: Outcome,
    good: Reference,
    folder: Path,
    ended: Ended,
    broken: str,
    how: str,
    work: int,
    _run: Any = None,
) -> None:
    """Judge the last start of a trial."""
    says = f"{how} (killed before {broken})"
    if ended.traceback:
        out.tracebacks += 1
        out.found(f"traceback: {ended.last_line[:160]}", says)
    got = figures(folder)
    if ended.status:
        out.repairs += 1
        out.found(f"not mended by a restart (exit {ended.status}): {ended.last_line[:160]}", says)
    elif got != good.figures:
        out.wrong += 1
        out.found("other figures", says)
    else:
        out.right += 1
        try:
            out.compare(product_files(folder), good.files, how)
        except ValueError as error:
            out.found(f"a manifest that is none, and no word: {error}", says)
    more = work - good.work
    out.repeated += max(0, more)
    out.most = max(out.most, more)
    if more > 1 + ("," in how):
        out.found("work repeated, more than one build or epoch a kill", f"{says}: {more}")
    tmp = [p for p in folder.rglob("*") if p.name.endswith((".tmp", ".part"))]
    out.left += len(tmp)
    if tmp:
        out.found(f"left for good: {kind_of(tmp[0].relative_to(folder / 'store').as_posix()) if tmp[0].is_relative_to(folder / 'store') else tmp[0].name}".split(".tmp")[0], says)
