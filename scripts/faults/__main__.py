"""``scripts/faults/run``: what happens to runs that are killed, damaged, out of space or many; a table at the end."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

from faults.damages import damages
from faults.kills import TRIED, Outcome, Point, kills
from faults.scarce import failing_disks, full_disks, processes
from faults.trial import Workplace, workplace

#: Of the findings, those that are no failure.
MILD = ("bytes: ", "left for good: ")

Trial = Callable[[Workplace], Outcome]


def main(arguments: list[str] | None = None) -> int:
    """Try, print the table and what was found; the exit status is 1 where anything is not as it should be."""
    given = _parse(arguments)
    wanted = given.only.split(",")
    found: list[Outcome] = []
    with workplace() as place:
        for name, trial in _trials(given):
            if name in wanted:
                found.append(trial(place))
                print(f"{found[-1].what}: {found[-1].trials} trials", file=sys.stderr, flush=True)
                if given.out:
                    given.out.write_text(json.dumps([vars(o) for o in found], indent=1))
    print(table(found))
    for o in found:
        for kind, how in sorted(o.findings.items(), key=lambda item: -len(item[1])):
            print(f"- {o.what}: **{kind}**: {len(how)} times, as in `{how[0]}`")
    grave = any(not kind.startswith(MILD) for o in found for kind in o.findings)
    return int(grave or any(o.wrong or o.tracebacks or o.repairs for o in found))


def table(found: list[Outcome]) -> str:
    """The table, in Markdown."""
    lines = [
        f"{date.today().isoformat()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "",
        "| what | trials | kills | right | refused in a line | wrong in silence | not repaired by itself | tracebacks "
        "| equal bytes | work repeated (most in a trial) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for o in found:
        columns = [o.what, o.trials, o.kills, o.right, o.refused, o.wrong, o.repairs, o.tracebacks]
        columns += [f"{o.equal} of {o.files}", f"{o.repeated} ({o.most})"] if o.files else ["-", "-"]
        lines.append(f"| {' | '.join(map(str, columns))} |")
    return "\n".join(lines)


def _trials(given: argparse.Namespace) -> list[tuple[str, Trial]]:
    if given.at:
        return [("kills", partial(kills, what=given.what, count=1, seed=given.seed, at=given.at))]
    if given.short:
        return [
            ("damages", partial(damages, limit=3, seed=given.seed, only="store/")),
            ("processes", partial(processes, what="chain", count=2)),
            ("full", partial(full_disks, what="chain", count=1)),
            ("kills", partial(kills, what="chain", count=2, seed=given.seed)),
        ]
    out: list[tuple[str, Trial]] = [
        ("damages", partial(damages, most=given.each, seed=given.seed)),
        ("processes", partial(processes, what="chain", count=given.processes)),
        ("processes", partial(processes, what="chain", count=given.processes, killed=True)),
        ("cuts", partial(kills, what="chain", count=given.cuts, seed=given.seed, cut=True)),
    ]
    for what, share in {"chain": 0.6, "sweep": 0.4}.items():
        disks, times = max(1, round(given.full * share)), max(1, round(given.kills * share))
        out.append(("full", partial(full_disks, what=what, count=disks)))
        out.append(("full", partial(failing_disks, what=what, count=disks)))
        out.append(("kills", partial(kills, what=what, count=times, seed=given.seed)))
    return out


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/faults/run", description=__doc__)
    parser.add_argument("--only", default="damages,processes,full,cuts,kills", help="some of: %(default)s")
    parser.add_argument("--short", action="store_true", help="the few trials that are among the tests")
    parser.add_argument("--kills", type=int, default=1000, help="how many (default %(default)s)")
    parser.add_argument("--each", type=int, default=1, help="damaged files of a kind (default %(default)s)")
    parser.add_argument("--full", type=int, default=100, help="points where the disk is full, and where a change fails")
    parser.add_argument("--cuts", type=int, default=100, help="power cuts (default %(default)s)")
    parser.add_argument("--processes", type=int, default=8, help="at once on one store (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default %(default)s)")
    parser.add_argument("--what", choices=list(TRIED), default="chain", help="of --at")
    parser.add_argument(
        "--at", type=_points, default=[], help="kill (k), half (h) or cut (c) at these changes: 12k,57h"
    )
    parser.add_argument("--out", type=Path, help="write the outcomes here as JSON, as they come")
    return parser.parse_args(arguments)


def _points(text: str) -> list[Point]:
    return [(int(part[:-1]), {"k": "kill", "h": "half", "c": "cut"}[part[-1]]) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
