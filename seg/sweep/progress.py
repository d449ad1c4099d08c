"""A line per finished job, with how many there are and how long the rest will take."""

import math
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seg.sweep.results import Results, Session, number


def show(row: Mapping[str, Any], swept: Sequence[str], progress: str) -> None:
    """Print a finished job; on a terminal the next one is written over it, unless it failed."""
    cell = " ".join(f"{key}={row[key]}" for key in swept)
    ok = row["status"] == "ok"
    figure = number(row["miou"]) if ok else math.nan
    what = "no truth to measure with" if math.isnan(figure) else f"mIoU {figure:.4f}"
    what = what if ok else f"failed: {' '.join(str(row['error']).split())}"
    line = f"[{progress}]  {cell}  {what}"
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

    def look() -> None:
        rows = results.read()
        for row in rows:
            if row["folder"] not in seen:
                seen.add(row["folder"])
                show(row, session.swept, session.progress(rows))

    def loop() -> None:
        while not stop.wait(1.0):
            look()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()
