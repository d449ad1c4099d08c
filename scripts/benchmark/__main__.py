"""``python -m benchmark``: measure, print, write ``bench.json`` and ``bench.md``."""

import argparse
import logging
import os
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmark.cases import CASES, Skipped, run_case
from benchmark.lab import QUICK, Lab, Sizes
from benchmark.report import write_report
from benchmark.rows import Row
from seg.errors import SegError


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line.

    Raises:
        SegError: for a case that does not exist, and weights that are not there.
    """
    parser = argparse.ArgumentParser("scripts/bench", description="Speed and memory as ratios against what people use.")
    parser.add_argument("--quick", action="store_true", help="everything smaller: under 3 minutes on 2 cores")
    parser.add_argument("--only", default=",".join(CASES), help=f"cases, with commas between them: {', '.join(CASES)}")
    default = Path(os.environ.get("SEG_DATA", "../shared"))
    parser.add_argument("--data", type=Path, default=default, help="real data in the official layout (%(default)s)")
    parser.add_argument("--weights", type=Path, help="a ResNet-18 state dict; speeds don't depend on it")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"), help="where results go (%(default)s)")
    options = parser.parse_args(arguments)
    options.only = [name for name in options.only.split(",") if name]
    if unknown := [name for name in options.only if name not in CASES]:
        raise SegError(f"--only {','.join(unknown)}: no such case; there are {', '.join(CASES)}")
    if options.weights is not None and not options.weights.is_file():
        raise SegError(f"--weights {options.weights}: no such file; leave it out for random weights")
    return options


def main(arguments: Sequence[str] | None = None, sizes: Sizes | None = None) -> int:
    """Run the cases; returns 0, or 1 if one of them failed (a goal that is not met is no failure)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = parse(arguments)
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    logging.getLogger("seg").setLevel(logging.ERROR)
    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - started:5.0f} s] {text}", flush=True)

    from benchmark.machine import describe

    header = describe(shlex.join(["scripts/bench", *arguments]))
    say(f"{header['cpu']}, {header['cores']} cores, {header['torch_threads']} threads; load {os.getloadavg()[0]:.1f}")
    rows: dict[str, list[Row]] = {}
    without: dict[str, str] = {}
    failed = False
    sizes = sizes or (QUICK if options.quick else Sizes())
    for name in options.only:
        say(f"{name} ...")
        # A folder for each case: nothing that one has made is there for another.
        with tempfile.TemporaryDirectory(prefix="bench_") as scratch:
            lab = Lab(Path(scratch), sizes, options.data, options.weights, say)
            try:
                for row in run_case(name, lab):
                    rows.setdefault(name, []).append(row)
                    say("  " + one_line(row))
            except Skipped as reason:
                without[name] = str(reason)
                say(f"  left out: {reason}")
            except Exception as error:  # the other cases are worth having
                failed = True
                without[name] = f"FAILED: {error}"
                traceback.print_exc()
        write_report(options.out, header, rows, without)
    say(f"{options.out / 'bench.json'}, {options.out / 'bench.md'}")
    return int(failed)


def one_line(row: Row) -> str:
    """A row while the bench runs."""
    text = f"{row.what}: {row.ours}"
    if row.base is not None:
        text += f"; {row.against}: {row.base}; ratio {row.ratio:.3g}"
    if row.goal is not None:
        text += f"; goal {row.goal_text}: {'met' if row.met else 'NOT met'}"
    return text + (f" -- {row.note}" if row.note else "")


if __name__ == "__main__":
    sys.exit(main())
