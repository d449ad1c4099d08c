"""The summary of a sweep: the best job, a heat map, the next command, and failures."""

import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from seg.config.used import FACTS
from seg.files import atomic_path
from seg.sweep.results import CSV, FIGURES, Row, Sweep, number, sortable
from seg.sweep.seeds import is_seed, summarise_seeds

#: Swept keys that change a classifier.
_OF_CLASSIFIER = ("epoch", "backbone", "weights", "data.size")


def summarise(sweep: Sweep, fixed: Sequence[str]) -> int:
    """Print the summary and draw ``miou.png``; over seeds, write a table instead of choosing a best job.

    Args:
        sweep: after its jobs. fixed: overrides of keys that are not swept.

    Returns:
        How many jobs failed or are missing.
    """
    folder, rows = sweep.folder, sweep.read()
    keys, over_seeds = sweep.swept, any(map(is_seed, sweep.swept))
    best = None if over_seeds else best_row(rows)
    failed = [row for row in rows if row["status"] != "ok"]
    missing = sweep.total - len(rows)
    counts = f"{sweep.skipped} done before, {len(failed)} failed" + (f", {missing} missing" if missing else "")
    lines = [f"sweep: {sweep.total} jobs, {counts}, {time.time() - sweep.started:.1f} s"]
    if best is not None:
        lines += [*describe_best(keys, rows, best), f"next: {_next(keys, best, fixed)}"]
        lines.append(str(draw_sweep(folder / "miou.png", rows, keys, best)))
    elif over_seeds and (table := summarise_seeds(folder)):
        lines += table
    elif len(failed) < len(rows):
        lines.append(f"nothing was measured: no trainval image has ground truth; the jobs are in {folder}")
    if failed:
        lines.append(f"failed: {len(failed)}; the same command tries them again")
        lines += [f"  {_cell(sweep.swept, row)}: {row['error'][:200]}" for row in failed[:20]]  # the table has all
    print("\n".join([*lines, str(folder / CSV)]), flush=True)
    return len(failed) + missing


def best_row(rows: Sequence[Row], key: str = "miou") -> Row | None:
    """The row with the highest value, the first of equal ones; None without values."""
    good = [row for row in rows if row["status"] == "ok" and not math.isnan(number(row[key]))]
    return max(good, key=lambda row: number(row[key]), default=None)


def describe_best(keys: Sequence[str], rows: Sequence[Row], best: Row) -> list[str]:
    """The best row, and the choice that needs no mask, as lines."""
    miou, background, foreground, images = (number(best[name]) for name in FIGURES[:4])
    lines = [
        f"best: {_cell(keys, best)}  mIoU {miou:.4f} (IoU bg {background:.4f}, fg {foreground:.4f}; "
        f"{best['stage']} on {images:.0f} {best['split']} images, whose masks were used)"
    ]
    if chosen := without_masks(keys, rows):
        lines.append(f"  without masks: {_cell([*chosen], chosen)} (classifier on held-out images, separation)")
    return lines


def without_masks(keys: Sequence[str], rows: Sequence[Row]) -> Row:
    """Values chosen without masks: the classifier's keys by its accuracy (with several labels: mAP) on held-out images,
    then the thresholds by how well they separate the scores.
    """
    judged = [key for key in keys if key in _OF_CLASSIFIER or key.startswith("classifier.")]
    best = best_row(rows, "held_out_accuracy") or best_row(rows, "held_out_map")
    if best is None or not judged:
        return {}
    cut = best_row([row for row in rows if all(row[key] == best[key] for key in judged)], "separability")
    judged += [key for key in keys if cut and key.rpartition(".")[2] == "threshold"]
    return {key: (cut or best)[key] for key in keys if key in judged}


def draw_sweep(path: Path, rows: Sequence[Row], keys: Sequence[str], best: Row) -> Path:
    """Draw mIoU over the first two swept keys, the best of the others; a failed job is an empty cell."""
    from matplotlib.figure import Figure

    down, across = (keys[0], keys[1]) if len(keys) > 1 else ("", keys[0])
    frame = pd.DataFrame(rows).assign(miou=[number(row["miou"]) for row in rows])
    frame = frame if down else frame.assign(**{down: ""})
    table = frame.pivot_table("miou", down, across, "max", dropna=False)
    table = table.reindex(columns=sorted(table, key=sortable), index=sorted(table.index, key=sortable))
    size = max(4.5, 0.55 * table.shape[1] + 2), max(2.5, 0.32 * len(table) + 1.4)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(table, aspect="auto", origin="lower"), label="mIoU")
    axes.set_xticks(range(table.shape[1]), table.columns, rotation=90, parse_math=False)
    axes.set_yticks(range(len(table)), table.index, parse_math=False)
    axes.set(xlabel=across, ylabel=down)
    middle = np.nanmean([table.min(axis=None), table.max(axis=None)])
    for (y, x), value in np.ndenumerate(table) if table.size <= 400 else ():
        text, colour = ("-" if np.isnan(value) else f"{value:.3f}"), "white" if value < middle else "black"
        axes.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
    at = [*table.columns].index(best[across]), [*table.index].index(best[down] if down else "")
    axes.plot(*at, "s", ms=22, mfc="none", mec="red", mew=2)
    axes.set_title(f"best: {_cell(keys, best)}, mIoU {number(best['miou']):.4f}", parse_math=False, wrap=True)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png")
    return path


def _next(keys: Sequence[str], best: Row, fixed: Sequence[str]) -> str:
    """The command of a run with the best values, with AffinityNet if the sweep had no refiner.

    It contains how many masks chose the values, for the run's table.
    """
    typed = dict(text.lstrip("+").partition("=")[::2] for text in fixed)
    values = {key: str(best[key]) for key in keys}
    refined = {"cam": "cam_affinity", "bbox": "bbox_affinity"}
    name = values.pop("pipeline", None) or refined.get(given := typed.get("pipeline", "cam"), given)
    rest = [text for text in fixed if not text.startswith("pipeline=")]
    rest += [f"{key}={value}" for key, value in values.items()]
    rest += [f"++{FACTS}.{key}={number(best['images']):.0f}" for key in values]
    return shlex.join(["python", "-m", "seg.run", f"pipeline={name}", *rest])


def _cell(keys: Sequence[str], row: Row) -> str:
    return " ".join(f"{key}={row[key]}" for key in keys)
