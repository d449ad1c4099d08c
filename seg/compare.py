"""``python -m seg.compare A B``: the gain of B over A, paired by seed and image, with a confidence interval."""

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seg.errors import SegError, entrypoint
from seg.evaluation.per_image import Key, RunFigures, image_ids, resampled_miou
from seg.evaluation.table import decisive_row, frame_text
from seg.format import shorten
from seg.methods.bootstrap import percentile_interval
from seg.sweep.results import CSV
from seg.sweep.seeds import interval_text, read_runs, write_table

_FOLDER = "a run's folder, a sweep's over seeds, or SWEEP/KEY=VALUE,... for one combination of a sweep's other keys"


def compare(a: Sequence[RunFigures], b: Sequence[RunFigures]) -> pd.DataFrame:
    """The differences in mIoU, B - A, of equally named steps (thresholds aside) and of the last steps, by split.

    Args:
        a, b: runs in the same order of seeds.

    Returns:
        ``stage`` (both names where they differ), ``split``, ``images``, ``n`` (seeds); the mean mIoU ``a`` and ``b``;
        ``difference``, its standard deviation over seeds ``std``, and ``low`` and ``high``, the bootstrap interval
        (95%) over seeds and images.

    Raises:
        SegError: the runs measured different images, or measured them differently.
    """
    pairs = [pair for pair in product(a[0].rows, b[0].rows) if _plain(pair[0]) == _plain(pair[1])]
    for split in ("trainval", "test"):
        last = [[row for key, row in runs[0].rows.items() if key[1] == split] for runs in (a, b)]
        if all(last):
            key_a, key_b = ((str(decisive_row(rows)["stage"]), split) for rows in last)
            pairs += [(key_a, key_b)] if (key_a, key_b) not in pairs else []
    if not pairs:
        raise SegError(f"{a[0].folder} and {b[0].folder}: have measured no split in common")
    return pd.DataFrame([_compared(a, b, *pair) for pair in pairs])


def _plain(key: Key) -> Key:
    """A row's key without the threshold in the step's name."""
    return key[0].partition(" >= ")[0], key[1]


def _compared(a: Sequence[RunFigures], b: Sequence[RunFigures], key_a: Key, key_b: Key) -> dict[str, Any]:
    for run_a, run_b in zip(a, b, strict=True):
        _refuse_unlike(run_a, run_b, key_a, key_b)
    before, after = (np.array([run.rows[k]["miou"] for run in runs], float) for runs, k in ((a, key_a), (b, key_b)))
    resampled = resampled_miou(b, key_b) - resampled_miou(a, key_a)
    n, samples = resampled.shape
    drawn = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), samples)
    low, high = percentile_interval((drawn.T * resampled).sum(0) / n)
    stage, images = (key_a[0] if key_a == key_b else f"{key_a[0]} / {key_b[0]}"), len(image_ids(a, key_a))
    means = {"a": before.mean(), "b": after.mean(), "difference": (after - before).mean()}
    std = (after - before).std(ddof=1) if n > 1 else np.nan
    return {"stage": stage, "split": key_a[1], "images": images, "n": n, **means, "std": std, "low": low, "high": high}


def _refuse_unlike(a: RunFigures, b: RunFigures, key_a: Key, key_b: Key) -> None:
    both = f"{a.folder} and {b.folder}"
    for name in ("data", "border", "resolution"):
        if a.header[name] != b.header[name]:
            raise SegError(f"{both}: {name} is {a.header[name]} and {b.header[name]}; compare runs with the same")
    for run, key in ((a, key_a), (b, key_b)):
        if key not in run.rows:
            raise SegError(f"{run.folder}: has no row {' '.join(key)}, as other seeds have; run it again")
    ids = [set(run.load("ids", key).tolist()) for run, key in ((a, key_a), (b, key_b))]
    if ids[0] != ids[1]:
        alone = f"{len(ids[0] - ids[1])} and {len(ids[1] - ids[0])}"
        raise SegError(f"{both}: measured other {key_a[1]} images ({alone} of their own); compare over the same")
    if len(a.rows[key_a]["matrix"]) != len(b.rows[key_b]["matrix"]):
        raise SegError(f"{both}: have different numbers of classes; compare runs of the same task")


def _by_seed(given: Path) -> Mapping[tuple[str, ...], RunFigures]:
    """The runs of a folder, or of ``SWEEP/KEY=VALUE,...``, by seed."""
    sweeps = [parent for parent in given.parents if (parent / CSV).is_file()]
    folder = given if given.is_dir() or not sweeps else sweeps[0]
    keys, runs = read_runs(folder)
    wanted = {*given.relative_to(folder).as_posix().split(",")} - {"."}
    named = {",".join(f"{key}={value}" for key, value in zip(keys, values, strict=True)): values for values in runs}
    fitting = [name for name in named if wanted <= {*name.split(",")}]
    if len(fitting) != 1:
        known = shorten(", ".join(f"{folder}/{name}" for name in (fitting or named)), 400) or "no job has succeeded"
        raise SegError(f"{given}: fits {len(fitting) or 'none'} of the sweep's combinations; name one: {known}")
    return runs[named[fitting[0]]]


def _matched(folders: Sequence[Path]) -> list[list[RunFigures]]:
    """The runs of both folders, in the same order of seeds."""
    found = [_by_seed(folder) for folder in folders]
    seeds = [{*by_seed} for by_seed in found]
    if seeds[0] != seeds[1]:
        said = (",".join(sorted("/".join(seed) for seed in one)) or "one run" for one in seeds)
        raise SegError(f"{folders[0]} and {folders[1]}: differ in their seeds ({' and '.join(said)}); use the same")
    return [[by_seed[seed] for seed in sorted(seeds[0])] for by_seed in found]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments: ``a``, ``b`` and ``out``."""
    parser = argparse.ArgumentParser("python -m seg.compare", description=__doc__)
    parser.add_argument("a", type=Path, metavar="A", help=_FOLDER)
    parser.add_argument("b", type=Path, metavar="B", help="what to compare it with")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="gets compare.csv, compare.md and compare.tex")
    return parser.parse_args(arguments)


@entrypoint()
def main(arguments: list[str] | None = None) -> None:
    """Console entrypoint; ``arguments`` default to the command line's."""
    given = parse(arguments)
    frame = compare(*_matched((given.a, given.b)))
    text = frame.drop(columns=["low", "high"]).rename(columns={"a": "A", "b": "B", "difference": "B - A"})
    for column in ("A", "B", "B - A", "std"):
        text[column] = ["-" if value != value else f"{value:.4f}" for value in text[column]]
    text["95% interval"] = interval_text(frame["low"], frame["high"])
    if given.out:
        write_table(given.out, "compare", frame, text)
    print(f"A: {given.a}\nB: {given.b}\n{frame_text(text)}\nmIoU; the interval is over resampled seeds and images")


if __name__ == "__main__":
    main()
