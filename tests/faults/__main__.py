"""``./scripts/faults``: what happens to runs that are killed, damaged, out of space or many; one table at the end."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

from faults.cuts import cuts
from faults.damages import damages
from faults.inputs import inputs
from faults.kills import TRIED, Outcome, Point, kills
from faults.scarce import clocks, failing_disks, full_disks, limited_files, processes, small_disks
from faults.tracing import unsupported
from faults.trial import Workplace, workplace

#: Of the findings, those that are no failure: goals say nothing of bytes.
_MILD = ("bytes: ", "left for good: ")


def main(arguments: list[str] | None = None) -> int:
    """Try, print the table and what was found; the exit status is 1 where anything is not as it should be."""
    given = _parse(arguments)
    wanted = given.only.split(",")
    if reason := unsupported():
        print(f"left out: kills, cuts and full disks: {reason}", file=sys.stderr)
        wanted = [name for name in wanted if name not in ("kills", "full", "cuts")]
    found: list[Outcome] = []
    with workplace() as place:
        for name, trial in _trials(given):
            if name in wanted:
                started = time.perf_counter()
                outcome = trial(place)
                if outcome is None:
                    print("left out: small disks: none can be mounted here", file=sys.stderr)
                    continue
                found.append(outcome)
                said = f"{outcome.what}: {outcome.trials} trials, {len(outcome.findings)} kinds of findings"
                print(f"{said}, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
                report(found, given.out)
    print(table(found))
    print(findings(found))
    return int(any(o.wrong or o.tracebacks or o.repairs or _grave(o) for o in found))


def table(found: list[Outcome]) -> str:
    """The table, in Markdown."""
    lines = [
        f"{date.today().isoformat()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "",
        "| what | trials | right | refused in a line | wrong in silence | not mended by itself | tracebacks "
        "| equal bytes | work repeated (most in a trial) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for o in found:
        equal = f"{o.equal} of {o.files}" if o.files else "-"
        trials = f"{o.trials} ({o.kills} kills)" if o.kills else o.trials
        repeated = f"{o.repeated} ({o.most})" if o.files else "-"
        lines.append(
            f"| {o.what} | {trials} | {o.right} | {o.refused or '-'} | {o.wrong} | {o.repairs} | {o.tracebacks} "
            f"| {equal} | {repeated} |"
        )
    return "\n".join(lines)


def findings(found: list[Outcome]) -> str:
    """What is not as it should be, by kind, with the first way to see it."""
    lines = []
    for o in found:
        for kind, how in sorted(o.findings.items(), key=lambda item: -len(item[1])):
            lines.append(f"- {o.what}: **{kind}**: {len(how)} times, as in `{how[0]}`")
    return "\n".join(lines)


def report(found: list[Outcome], path: Path | None) -> None:
    """Write what is known so far into a file."""
    if path is not None:
        path.write_text(f"{table(found)}\n\n{findings(found)}\n")
        path.with_suffix(".json").write_text(json.dumps([vars(o) for o in found], indent=1))


def _grave(outcome: Outcome) -> bool:
    return any(not kind.startswith(_MILD) for kind in outcome.findings)


def _trials(given: argparse.Namespace) -> list[tuple[str, Callable[[Workplace], Outcome | None]]]:
    if given.at:
        return [("kills", lambda place: kills(place, given.what, 1, given.seed, given.at))]
    if given.full_at is not None:
        return [("full", lambda place: full_disks(place, given.what, 1, given.full_at))]
    if given.short:
        return [
            ("damages", partial(damages, limit=6, seed=given.seed, only="store/")),
            ("processes", partial(processes, what="chain", count=3)),
            ("full", partial(full_disks, what="chain", count=2)),
            ("cuts", partial(cuts, what="chain", count=2, seed=given.seed)),
            ("kills", partial(kills, what="chain", count=4, seed=given.seed)),
            ("inputs", partial(inputs, count=12, fresh=0)),
        ]
    if given.error_at is not None:
        return [("full", partial(failing_disks, what=given.what, count=1, at=given.error_at))]
    out: list[tuple[str, Callable[[Workplace], Outcome | None]]] = [
        ("damages", lambda place: damages(place, given.each, given.damages, given.seed, given.file)),
        ("processes", lambda place: processes(place, "chain", given.processes)),
        ("processes", lambda place: processes(place, "chain", given.processes, killed=True)),
        ("clock", lambda place: clocks(place, "chain")),
        ("inputs", partial(inputs, count=given.inputs, only=given.file)),
        ("full", lambda place: limited_files(place, "chain", (8192, 30000, 60000, 100000, 200000))),
        ("full", lambda place: small_disks(place, "chain", tuple(range(100_000, 1_500_000, 200_000)))),
        ("full", lambda place: small_disks(place, "sweep", (200_000, 600_000))),
    ]
    out.append(("cuts", partial(cuts, what="chain", count=given.cuts, seed=given.seed)))
    for what, share in {"chain": 0.5, "sweep": 0.35, "command": 0.15}.items():
        disks, times = max(1, round(given.full * share)), max(1, round(given.kills * share))
        out.append(("full", partial(full_disks, what=what, count=disks)))
        out.append(("full", partial(failing_disks, what=what, count=disks)))
        out.append(("kills", partial(kills, what=what, count=times, seed=given.seed)))
    return out


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--only", default="damages,processes,clock,inputs,full,cuts,kills", help="some of: %(default)s")
    parser.add_argument("--short", action="store_true", help="the few trials that are among the tests")
    parser.add_argument("--kills", type=int, default=1000, help="how many (default %(default)s)")
    parser.add_argument("--damages", type=int, default=0, help="how many at most; 0 for every file and way (default)")
    parser.add_argument("--each", type=int, default=1, help="damaged files of a kind (default %(default)s)")
    parser.add_argument(
        "--file", default="", help="damage those alone whose name contains this; give such inputs alone"
    )
    parser.add_argument(
        "--full",
        type=int,
        default=100,
        help="points where the disk is full, and as many where a change fails",
    )
    parser.add_argument("--inputs", type=int, default=0, help="bad inputs at most; 0 for all (default)")
    parser.add_argument("--cuts", type=int, default=100, help="power cuts (default %(default)s)")
    parser.add_argument("--processes", type=int, default=8, help="at once on one store (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default %(default)s)")
    parser.add_argument("--what", choices=list(TRIED), default="chain", help="of --at, --full-at and --error-at")
    parser.add_argument("--at", type=_points, default=[], help="kill at these changes, one after the other: 12,57h")
    parser.add_argument("--full-at", type=int, help="fill the disk at this change, and try nothing else")
    parser.add_argument("--error-at", type=int, help="let this change fail, and try nothing else")
    parser.add_argument("--out", type=Path, help="write the table and the findings here as they come")
    return parser.parse_args(arguments)


def _points(text: str) -> list[Point]:
    return [(int(part.rstrip("h")), "half" if part.endswith("h") else "kill") for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
