"""The table of a sweep: a row per job in one CSV that grows while the sweep runs."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from seg.files import atomic_path

Row = dict[str, Any]

CSV = "miou_results_all.csv"

#: The figures among the columns.
FIGURES = (
    *("miou", "iou_background", "iou_foreground", "images"),
    *("miou_test", "iou_background_test", "iou_foreground_test", "images_test"),
    *("held_out_accuracy", "held_out_map", "separability"),
)
#: Columns after the swept keys.
COLUMNS = ("status", *FIGURES, "masks_used", "stage", "split", "seconds", "folder", "error")


@dataclass(frozen=True)
class Sweep:
    """A running sweep and its table.

    Attributes:
        folder: of the results. swept: the swept keys, in the order of columns.
        total: number of jobs. skipped: how many of them were done before.
        started: start of this run, in seconds since the epoch. workers: parallel jobs on this machine.
    """

    folder: Path
    swept: Sequence[str]
    total: int = 0
    skipped: int = 0
    started: float = 0.0
    workers: int = 1

    def read(self) -> list[Row]:
        """The sorted rows of the table, as text."""
        path = self.folder / CSV
        rows: list[Any] = (
            pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") if path.is_file() else []
        )
        return rows

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace all rows, atomically."""
        texts = [{key: _text(value) for key, value in row.items()} for row in rows]
        texts.sort(key=lambda row: [sortable(row.get(key, "")) for key in self.swept])
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.folder / CSV) as tmp:
            pd.DataFrame(texts, columns=[*self.swept, *COLUMNS]).to_csv(tmp, index=False, lineterminator="\n")

    def add(self, row: Mapping[str, Any]) -> list[Row]:
        """Add a row, or replace the one of the same job; safe between processes. Returns all rows."""
        with FileLock(self.folder / ".lock"):
            rows = [old for old in self.read() if old["folder"] != row["folder"]]
            rows.append({key: _text(value) for key, value in row.items()})
            self.write(rows)
        return rows

    def show(self, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Print the progress after a job; ``rows`` are those of all finished jobs."""
        what = "no ground truth to measure with"
        if row["status"] != "ok":
            what = f"failed: {_text(row['error'])}"
        elif not math.isnan(miou := number(row.get("miou"))):
            what = f"mIoU {miou:.4f}"
        elif not math.isnan(test := number(row.get("miou_test"))):
            what = f"test mIoU {test:.4f}"
        cell = " ".join(f"{key}={row[key]}" for key in self.swept)
        elapsed, here = time.time() - self.started, len(rows) - self.skipped
        left = tqdm.format_interval(elapsed / max(1, here) * (self.total - len(rows)))
        print(f"[{len(rows)}/{self.total}, {left} left]  {cell}  {what}", file=sys.stderr, flush=True)


def sortable(text: str) -> tuple[int, Any]:
    """A sort key: numbers by value, then text."""
    try:
        return 0, Decimal(text)
    except InvalidOperation:
        return 1, text


def number(text: Any) -> float:
    """A cell as a number; nan if it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _text(value: Any) -> str:
    """A cell as one line of text."""
    return "" if value is None or value != value else " ".join(str(value).split())
