"""The end of a sweep: the best choice, the picture, and what failed."""

import math
import shlex
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seg.files import atomic_path
from seg.sweep.figure import draw_sweep
from seg.sweep.results import Results, Row, Session, average_seeds, number

#: Failed jobs that the summary lists; the CSV has them all.
MOST_FAILURES = 20

#: Swept keys that a classifier's accuracy can tell something about.
_OF_CLASSIFIER = ("epoch", "backbone", "weights", "data.size")


def summarise(folder: Path, figures: bool = True) -> int:
    """Write ``best.yaml``, ``miou.png`` and ``report.html``, print the summary.

    Args:
        folder: of the sweep. figures: whether to write the report.

    Returns:
        How many jobs failed or are missing.
    """
    session = Session.read(folder)
    if session is None:
        return 0
    table = Results(folder, session.swept)
    rows = table.read()
    keys, choices = average_seeds(rows, session.swept)
    best = best_row(choices)
    failed = [row for row in rows if row["status"] != "ok"]
    missing = session.total - len(rows)
    lines = [
        f"sweep: {session.total} jobs, {session.skipped} done before, {len(failed)} failed"
        + (f", {missing} missing" if missing else "")
        + f", {time.time() - session.started:.1f} s"
    ]
    paths, after = [table.path], []
    picture: Path | None = None
    if best is not None:
        write_best(folder, keys, choices, best)
        lines += describe_best(keys, choices, best)
        picture = folder / "miou.png"
        if table.newer_than(picture):
            picture = draw_sweep(picture, choices, keys, best)
        paths += [path for path in (folder / "best.yaml", picture) if path is not None]
        after = [f"next: {_next(folder, session.swept)}"]
    elif not keys:
        lines += _over_seeds(folder, rows)
    elif any(row["status"] == "ok" for row in rows):
        lines += _unmeasured(folder, keys, rows, choices)
    after += _failures(session.swept, failed)
    if figures and rows:
        from seg.sweep.page import write_sweep_report

        paths.append(write_sweep_report(folder, rows, session.swept, best, [*lines, *after], picture))
    print("\n".join([*lines, *map(str, paths), *after]), flush=True)
    sys.stderr.flush()
    return len(failed) + missing


def _next(folder: Path, swept: Sequence[str]) -> str:
    """The command of a run with the choice, on the sweep's data and settings; of bare score maps with AffinityNet."""
    from omegaconf import OmegaConf

    written = folder / "multirun.yaml"
    typed = OmegaConf.select(OmegaConf.load(written), "hydra.overrides.task") if written.is_file() else None
    fixed = [str(text) for text in typed or () if str(text).partition("=")[0].lstrip("+") not in (*swept, "sweep")]
    given = dict(text.split("=", 1) for text in fixed if "=" in text)
    pipeline = {"cam": "cam_affinity", "bbox": "bbox_affinity"}.get(name := given.get("pipeline", "cam"), name)
    rest = [shlex.quote(text) for text in fixed if not text.startswith("pipeline=")]
    return " ".join(["python -m seg.run", f"pipeline={pipeline}", *rest, f"select='{folder}'"])


def best_row(rows: Sequence[Row], key: str = "miou") -> Row | None:
    """The row with the highest figure; of equal ones the first. None if there is no figure."""
    good = [row for row in rows if row["status"] == "ok" and not math.isnan(number(row[key]))]
    return max(good, key=lambda row: number(row[key])) if good else None


def write_best(folder: Path, keys: Sequence[str], rows: Sequence[Row], best: Row) -> None:
    """Write ``best.yaml``: the choice by mIoU, and the one that needs no mask."""
    from omegaconf import OmegaConf

    by_miou: dict[str, Any] = {
        "rule": _rule(best),
        "overrides": [f"{key}={best[key]}" for key in keys],
        "miou": number(best["miou"]),
        "images": int(number(best["images"])),
    }
    by_miou |= {"seeds": int(best["seeds"])} if "seeds" in best else {"job": best["folder"]}
    document = {"miou": by_miou}
    if blind := without_masks(keys, rows):
        document["held_out_accuracy"] = blind
    with atomic_path(folder / "best.yaml") as tmp:
        tmp.write_text(OmegaConf.to_yaml(OmegaConf.create(document)))


def without_masks(keys: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
    """The choice that needs no masks: by the classifier's accuracy on held-out images, for the keys that it can judge.

    Of the rows with these, the one whose threshold separates the scores best, for the keys that are thresholds.
    """
    judged = [key for key in keys if key in _OF_CLASSIFIER or key.startswith("classifier.")]
    thresholds = [key for key in keys if key.rpartition(".")[2] == "threshold"]
    best = best_row(rows, "held_out_accuracy")
    if best is None or not judged:
        return None
    cut = best_row([row for row in rows if all(row[key] == best[key] for key in judged)], "separability")
    if cut is None:
        thresholds = []
    rule = "highest accuracy of the classifier on held-out trainval images"
    return {
        "rule": rule + ("; the threshold that separates the scores best" if thresholds else "") + "; no mask was used",
        "overrides": [f"{key}={(cut or best)[key]}" for key in keys if key in judged + thresholds],
        "held_out_accuracy": number(best["held_out_accuracy"]),
    }


def _rule(best: Row) -> str:
    over = f", averaged over {best['seeds']} seeds," if "seeds" in best else ""
    return f"highest mIoU{over} of '{best['stage']}' on {best['split']} images; their masks were used"


def describe_best(keys: Sequence[str], rows: Sequence[Row], best: Row) -> list[str]:
    """The choices in lines."""
    cell = " ".join(f"{key}={best[key]}" for key in keys)
    spread = f"{_spread(best['miou_std'])} over {best['seeds']} seeds" if "seeds" in best else ""
    figures = (
        f"mIoU {number(best['miou']):.4f}{spread} (IoU bg {number(best['iou_background']):.4f}, "
        f"fg {number(best['iou_foreground']):.4f}; {number(best['images']):.0f} {best['split']} images)"
    )
    lines = [f"best: {cell}  {figures}", f"  by the {_rule(best)}"]
    return lines + _blind_choice("without masks (select_by=held_out_accuracy)", keys, rows)


def _spread(std: float) -> str:
    """A standard deviation, where there is more than one value."""
    return "" if math.isnan(std) else f" +- {std:.4f}"


def _blind_choice(label: str, keys: Sequence[str], rows: Sequence[Row]) -> list[str]:
    blind = without_masks(keys, rows)
    if blind is None:
        return []
    return [f"  {label}: {' '.join(blind['overrides'])}  accuracy {blind['held_out_accuracy']:.4f}"]


def _over_seeds(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Of a sweep over seeds alone: the mean of each step's mIoU, for a seed is no choice."""
    files = [folder / row["folder"] / "metrics.csv" for row in rows if row["status"] == "ok"]
    tables = [pd.read_csv(file) for file in files if file.is_file() and file.stat().st_size > 1]
    if not tables:
        return ["nothing was measured"] if files else []
    figures = pd.concat(tables).groupby(["stage", "split"], sort=False)["miou"].agg(["mean", "std", "count"])
    lines = [
        f"  {stage}, {split}: mIoU {mean:.4f}{_spread(std)} (n = {count:.0f})"
        for stage, split, mean, std, count in figures.reset_index().itertuples(index=False)
    ]
    return ["mean and standard deviation over the seeds; a seed is not chosen:", *lines]


def _unmeasured(folder: Path, keys: Sequence[str], rows: Sequence[Row], choices: Sequence[Row]) -> list[str]:
    """What is left to choose by where no trainval image has a ground truth."""
    drawn = all((folder / str(row["folder"]) / "panel.png").is_file() for row in rows)
    why = "nothing was measured: no image that gets a mask has a ground truth, so no job is the best"
    if any(row["miou_test"] for row in rows):
        why = "no trainval image has a ground truth, and test images are not for choosing, so no job is the best"
    lines = [
        f"{why}; compare the jobs' pictures in {folder}"
        + ("" if drawn else " (figures=true with the same command draws them)")
    ]
    return lines + _blind_choice("the classifier's best on held-out images", keys, choices)


def _failures(swept: Sequence[str], failed: Sequence[Row]) -> list[str]:
    lines = [f"failed: {len(failed)}; the same command tries them again"] if failed else []
    for row in failed[:MOST_FAILURES]:
        cell = " ".join(f"{key}={row[key]}" for key in swept)
        lines.append("  " + textwrap.shorten(f"{cell}: {row['error']}", 200, placeholder=" ..."))
    if len(failed) > MOST_FAILURES:
        lines.append(f"  and {len(failed) - MOST_FAILURES} more, see the table")
    return lines
