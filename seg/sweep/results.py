"""The rows of a sweep: a record per job, gathered in one CSV while the sweep runs."""

import csv
import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from seg.errors import SegError
from seg.files import atomic_path, read_json, write_json

Row = dict[str, Any]

CSV = "miou_results_all.csv"

#: Columns after the swept keys.
COLUMNS = (
    "status",
    "miou",
    "iou_background",
    "iou_foreground",
    "images",
    "held_out_accuracy",
    "separability",
    "masks_used",
    "stage",
    "split",
    "seconds",
    "folder",
    "error",
)


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
        """The rows there are, as text, sorted; none before the first."""
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file))
        except FileNotFoundError:
            return []

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace all rows, in one step: a reader sees the old file or the new one."""
        sheet = io.StringIO()
        writer = csv.DictWriter(sheet, [*self.swept, *COLUMNS], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in row.items()} for row in sorted(rows, key=self._order))
        if self.path.is_file() and self.path.read_bytes() == sheet.getvalue().encode():
            return  # its time says since when it is so
        with atomic_path(self.path) as tmp:
            tmp.write_bytes(sheet.getvalue().encode())

    def newer_than(self, path: Path) -> bool:
        """Whether the table has changed since a file was written that was made from it."""
        return not path.is_file() or path.stat().st_mtime_ns < self.path.stat().st_mtime_ns

    def add(self, row: Mapping[str, Any]) -> list[Row]:
        """Add a row, or replace the one of the same job folder; returns all rows."""
        with self._locked():
            rows = [old for old in self.read() if old["folder"] != row["folder"]]
            rows.append({k: _cell(v) for k, v in row.items()})
            self.write(rows)
        return rows

    def _order(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(sortable(str(row.get(key, ""))) for key in self.swept)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock

        with FileLock(self.folder / ".lock"):
            yield


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


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # A table has a line per row; the whole text of an error is in the job's folder.
    return " ".join(value.split()) if isinstance(value, str) else value


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
            left = round((time.time() - self.started) / here * (self.total - done))
            minutes, seconds = divmod(left, 60)
            hours, minutes = divmod(minutes, 60)
            text += f"  {hours}:{minutes:02d}:{seconds:02d} left" if hours else f"  {minutes}:{seconds:02d} left"
        return text
