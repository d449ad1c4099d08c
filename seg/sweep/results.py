"""The table of a sweep: a row per job in one CSV that grows while the sweep runs, and its average over seeds."""

import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pandas as pd

from seg.errors import SegError
from seg.files import atomic_path, read_json, write_json

Row = dict[str, Any]

CSV = "miou_results_all.csv"

#: The figures among the columns.
FIGURES = (
    *("miou", "iou_background", "iou_foreground", "images"),
    *("miou_test", "iou_background_test", "iou_foreground_test", "images_test"),
    *("held_out_accuracy", "separability"),
)
#: Columns after the swept keys.
COLUMNS = ("status", *FIGURES, "masks_used", "stage", "split", "seconds", "folder", "error")


@dataclass(frozen=True)
class Results:
    """The results in a sweep's folder. Several processes may add rows at the same time.

    Attributes:
        folder: the sweep's. swept: the swept keys, in the order of columns.
    """

    folder: Path
    swept: Sequence[str]

    @property
    def path(self) -> Path:
        """The CSV."""
        return self.folder / CSV

    def read(self) -> list[Row]:
        """The rows as text, sorted; none before the first."""
        try:
            rows: list[Any] = pd.read_csv(self.path, dtype=str, keep_default_na=False).to_dict("records")
        except FileNotFoundError:
            return []
        return rows

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace all rows, in one step: a reader sees the old file or the new one."""
        texts = [{key: _text(value) for key, value in row.items()} for row in rows]
        texts.sort(key=lambda row: [sortable(row.get(key, "")) for key in self.swept])
        sheet = pd.DataFrame(texts, columns=[*self.swept, *COLUMNS]).to_csv(index=False, lineterminator="\n").encode()
        if not self.path.is_file() or self.path.read_bytes() != sheet:  # the file's time says when it changed
            with atomic_path(self.path) as tmp:
                tmp.write_bytes(sheet)

    def newer_than(self, path: Path) -> bool:
        """Whether the table has changed since a file was written that was made from it."""
        return not path.is_file() or path.stat().st_mtime_ns < self.path.stat().st_mtime_ns

    def add(self, row: Mapping[str, Any]) -> list[Row]:
        """Add a row, or replace the one of the same job folder; returns all rows."""
        from filelock import FileLock

        with FileLock(self.folder / ".lock"):
            rows = [old for old in self.read() if old["folder"] != row["folder"]]
            rows.append({key: _text(value) for key, value in row.items()})
            self.write(rows)
        return rows


def is_seed(key: str) -> bool:
    """Whether a swept key is a random seed, which is averaged over and never chosen."""
    return key.rpartition(".")[2] == "seed"


def average_seeds(rows: Sequence[Row], swept: Sequence[str]) -> tuple[list[str], list[Row]]:
    """What can be chosen among: the swept keys without seeds, and a row for each combination of their values.

    Args:
        rows: of :meth:`Results.read`. swept: the swept keys.

    Returns:
        The keys, and the rows. Where a seed was swept a row has the mean of each figure over the seeds, the
        standard deviation ``miou_std`` (n - 1) and ``seeds``, the number of jobs that ended well; its status is
        ``ok`` where no other row has more. Of a sweep over nothing but seeds: no key and no row.
    """
    keys = [key for key in swept if not is_seed(key)]
    if len(keys) == len(swept) or not keys or not rows:
        return keys, list(rows) if keys else []
    frame = pd.DataFrame(rows)
    frame[list(FIGURES)] = frame[list(FIGURES)].replace("", None).apply(pd.to_numeric)
    frame[["stage", "split"]] = frame[["stage", "split"]].replace("", None)
    groups = frame.assign(seeds=frame["status"] == "ok").groupby(keys, sort=False)
    table = groups[list(FIGURES)].mean().join(groups[["stage", "split"]].first())
    table["miou_std"], table["seeds"] = groups["miou"].std(), groups["seeds"].sum()
    table["status"] = ["ok" if n == table["seeds"].max() else "incomplete" for n in table["seeds"]]
    averaged: list[Any] = table.reset_index().to_dict("records")
    return keys, averaged


def sortable(text: str) -> tuple[int, Any]:
    """A key that sorts numbers by value, before text."""
    try:
        return 0, Decimal(text)
    except InvalidOperation:
        return 1, text


def number(text: Any) -> float:
    """A cell as a number, nan where it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _text(value: Any) -> str:
    """A cell on one line; the whole text of an error is in the job's folder."""
    return "" if value is None or value != value else " ".join(str(value).split())


@dataclass(frozen=True)
class Session:
    """What the jobs of a running sweep have to know of it, kept in ``sweep.json``.

    Attributes:
        swept: the swept keys. total: how many jobs the sweep has. skipped: how many were done before.
        started: when this run of it began (seconds since the epoch).
    """

    swept: list[str]
    total: int
    skipped: int
    started: float

    @classmethod
    def read(cls, folder: Path) -> "Session | None":
        """The session of a sweep's folder, or None where another sweeper than ours runs it."""
        try:
            values = read_json(folder / "sweep.json")
            return cls(**values) if values else None
        except (TypeError, ValueError) as error:
            raise SegError(f"{folder / 'sweep.json'}: is damaged; the same command again writes it anew") from error

    def write(self, folder: Path) -> None:
        """Make the folder known to the jobs.

        Raises:
            SegError: if the folder cannot be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "sweep.json", self.__dict__)
        except OSError as error:
            raise SegError(
                f"{folder}: cannot be written to ({error.strerror}); choose another hydra.sweep.dir="
            ) from error

    def progress(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """``12/180  1 failed  0:34 left``."""
        done, failed = len(rows), sum(row["status"] != "ok" for row in rows)
        text = f"{done}/{self.total}" + (f"  {failed} failed" if failed else "")
        here = done - self.skipped
        if here > 0 and done < self.total:
            minutes, seconds = divmod(round((time.time() - self.started) / here * (self.total - done)), 60)
            hours, minutes = divmod(minutes, 60)
            text += f"  {hours}:{minutes:02d}:{seconds:02d} left" if hours else f"  {minutes}:{seconds:02d} left"
        return text


def show(row: Mapping[str, Any], swept: Sequence[str], progress: str) -> None:
    """Print a finished job; on a terminal the next one is written over it, unless it failed."""
    ok, miou, test = row["status"] == "ok", number(row.get("miou")), number(row.get("miou_test"))
    what = "no ground truth to measure with" if math.isnan(test) else f"test mIoU {test:.4f}"
    what = what if math.isnan(miou) else f"mIoU {miou:.4f}"
    what = what if ok else f"failed: {' '.join(str(row['error']).split())}"
    line = f"[{progress}]  {' '.join(f'{key}={row[key]}' for key in swept)}  {what}"
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{line}", end="" if ok else "\n", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def watching(folder: Path, session: Session, active: bool) -> Iterator[None]:
    """Print the rows that other processes add to the table, where what they print doesn't come here.

    Args:
        folder: the sweep's. session: of it. active: False does nothing.
    """
    if not active:
        yield
        return
    results = Results(folder, session.swept)
    seen = {row["folder"] for row in results.read()}
    stop = threading.Event()

    def loop() -> None:
        last = False
        while not last:
            last = stop.wait(1.0)
            rows = results.read()
            for row in (row for row in rows if row["folder"] not in seen):
                show(row, session.swept, session.progress(rows))
            seen.update(row["folder"] for row in rows)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
