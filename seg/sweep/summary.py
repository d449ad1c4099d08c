"""The end of a sweep: the best choice, the figure, the page, and what failed."""

import math
import shlex
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from seg.config.used import FACTS
from seg.files import atomic_path
from seg.sweep.figure import draw_sweep
from seg.sweep.page import write_sweep_page
from seg.sweep.results import CSV, FIGURES, Row, Sweep, average_seeds, number

#: Swept keys that a classifier's accuracy can tell something about.
_OF_CLASSIFIER = ("epoch", "backbone", "weights", "data.size")


def summarise(sweep: Sweep, typed: Sequence[str], fixed: Sequence[str], figures: bool = True) -> int:
    """Write ``best.yaml``, ``miou.png`` and ``report.html``, print the summary.

    Args:
        sweep: whose jobs have been run. typed: the overrides of its command. fixed: those of keys that are not swept.
        figures: whether to write the page.

    Returns:
        How many jobs failed or are missing.
    """
    folder, rows = sweep.folder, sweep.read()
    keys, choices = average_seeds(rows, sweep.swept)
    best = best_row(choices)
    failed = [row for row in rows if row["status"] != "ok"]
    missing = sweep.total - len(rows)
    counts = f"{sweep.skipped} done before, {len(failed)} failed" + (f", {missing} missing" if missing else "")
    lines = [f"sweep: {sweep.total} jobs, {counts}, {time.time() - sweep.started:.1f} s"]
    paths, picture = [folder / CSV], None
    if best is not None:
        document = best_choices(keys, choices, best)
        with atomic_path(folder / "best.yaml") as tmp:
            tmp.write_text(OmegaConf.to_yaml(OmegaConf.create(document)))
        picture = draw_sweep(folder / "miou.png", choices, keys, best)
        paths += [folder / "best.yaml", picture]
        lines += [*describe_best(keys, best, document), f"next: {_next(document['miou'], fixed)}"]
    elif not keys:
        values = pd.DataFrame(rows)[["miou", "miou_test"]].apply(pd.to_numeric)
        for split, column in (("trainval", values["miou"].dropna()), ("test", values["miou_test"].dropna())):
            if len(column):
                spread = _spread(column.std())
                lines.append(f"mean over the seeds, {split}: mIoU {column.mean():.4f}{spread} (n = {len(column)})")
    elif len(failed) < len(rows):
        lines.append(f"nothing was measured: no trainval image has ground truth; the jobs are in {folder}")
    if failed:
        lines.append(f"failed: {len(failed)}; the same command tries them again")
        for row in failed[:20]:  # the table has them all
            lines.append(f"  {_cell(sweep.swept, row)}: {row['error'][:200]}")
    if figures and rows:
        paths.append(write_sweep_page(sweep, rows, best, lines, typed, picture))
    print("\n".join([*lines, *map(str, paths)]), flush=True)
    return len(failed) + missing


def best_row(rows: Sequence[Row], key: str = "miou") -> Row | None:
    """The row with the highest figure; of equal ones the first. None if there is no figure."""
    good = [row for row in rows if row["status"] == "ok" and not math.isnan(number(row[key]))]
    return max(good, key=lambda row: number(row[key]), default=None)


def best_choices(keys: Sequence[str], rows: Sequence[Row], best: Row) -> dict[str, Any]:
    """The content of ``best.yaml``: the choice by mIoU, and the one that needs no mask."""
    over = f", averaged over {best['seeds']} seeds," if "seeds" in best else ""
    by_miou: dict[str, Any] = {
        "rule": f"highest mIoU{over} of '{best['stage']}' on {best['split']} images; their masks were used",
        "overrides": [f"{key}={best[key]}" for key in keys],
        "miou": number(best["miou"]),
        "images": int(number(best["images"])),
    }
    by_miou |= {"seeds": int(best["seeds"])} if "seeds" in best else {"job": best["folder"]}
    maskless = without_masks(keys, rows)
    return {"miou": by_miou} | ({"held_out_accuracy": maskless} if maskless else {})


def without_masks(keys: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
    """The choice that needs no masks: by the classifier's accuracy on held-out images, for the keys that change it.

    Of the rows with these, the one whose threshold separates the scores best, for the keys that are thresholds.
    """
    judged = [key for key in keys if key in _OF_CLASSIFIER or key.startswith("classifier.")]
    best = best_row(rows, "held_out_accuracy")
    if best is None or not judged:
        return None
    cut = best_row([row for row in rows if all(row[key] == best[key] for key in judged)], "separability")
    thresholds = [key for key in keys if cut and key.rpartition(".")[2] == "threshold"]
    rule = "highest accuracy of the classifier on held-out trainval images"
    return {
        "rule": rule + ("; the threshold that separates the scores best" if thresholds else "") + "; no mask was used",
        "overrides": [f"{key}={(cut or best)[key]}" for key in keys if key in judged + thresholds],
        "held_out_accuracy": number(best["held_out_accuracy"]),
    }


def describe_best(keys: Sequence[str], best: Row, document: dict[str, Any]) -> list[str]:
    """The choices in lines."""
    spread = f"{_spread(best['miou_std'])} over {best['seeds']} seeds" if "seeds" in best else ""
    miou, background, foreground, images = (number(best[name]) for name in FIGURES[:4])
    lines = [
        f"best: {_cell(keys, best)}  mIoU {miou:.4f}{spread} (IoU bg {background:.4f}, fg {foreground:.4f}; "
        f"{images:.0f} {best['split']} images)",
        f"  by the {document['miou']['rule']}",
    ]
    if maskless := document.get("held_out_accuracy"):
        found = f"{' '.join(maskless['overrides'])}  accuracy {maskless['held_out_accuracy']:.4f}"
        lines.append(f"  without masks: {found}")
    return lines


def _next(choice: dict[str, Any], fixed: Sequence[str]) -> str:
    """The command of a run with the choice on the sweep's settings, with AffinityNet where the sweep refined nothing.

    It says how many masks chose the values, for the run's table.
    """
    given = [text for text in (*fixed, *choice["overrides"]) if text.startswith("pipeline=")] or ["pipeline=cam"]
    refined = {"cam": "cam_affinity", "bbox": "bbox_affinity"}
    name = given[-1].partition("=")[2]
    first = f"pipeline={refined.get(name, name) if given[-1] not in choice['overrides'] else name}"
    rest = [text for text in (*fixed, *choice["overrides"]) if not text.startswith("pipeline=")]
    facts = [f"++{FACTS}.{text.partition('=')[0]}={choice['images']}" for text in choice["overrides"]]
    return shlex.join(["python", "-m", "seg.run", first, *rest, *facts])


def _cell(keys: Sequence[str], row: Row) -> str:
    return " ".join(f"{key}={row[key]}" for key in keys)


def _spread(std: float) -> str:
    """A standard deviation, where there is more than one value."""
    return "" if math.isnan(std) else f" +- {std:.4f}"
