"""``report.html`` of a sweep: its summary, its figure, a table with links to its runs."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from seg.config.process import command, without_folders
from seg.config.spans import collapse
from seg.report.page import NAME, embedded, write_page
from seg.sweep.results import Row, Sweep, number

#: Rows of the table at most; the CSV has them all.
MOST_ROWS = 5000


def write_sweep_page(
    sweep: Sweep,
    rows: Sequence[Row],
    best: Row | None,
    lines: Sequence[str],
    typed: Sequence[str],
    picture: Path | None,
) -> Path:
    """Write the page of a sweep.

    Args:
        sweep: of it. rows: of its table.
        best: the choice to mark, of one row or, averaged over seeds, of several.
        lines: the summary that the terminal gets. typed: the overrides of the command.
        picture: mIoU over what was swept, if it was drawn.

    Returns:
        The path of the page, whose links to the runs are relative: the folder can be moved.

    Raises:
        SegError: if it cannot be written.
    """
    marks = {key: best[key] for key in sweep.swept if key in best} if best else {}
    is_best = [bool(marks) and all(row[key] == value for key, value in marks.items()) for row in rows]
    shown = sorted(zip(rows, is_best, strict=True), key=lambda pair: not pair[1] and len(rows) > MOST_ROWS)[:MOST_ROWS]
    values: dict[str, Any] = {
        "title": sweep.folder.name,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "swept": list(sweep.swept),
        "rows": [_row(sweep.folder, row, sweep.swept, chosen) for row, chosen in shown],
        "total": len(rows),
        "lines": [without_folders(line) for line in lines],
        "command": command(["-m", *map(_short, typed)], folders=False),
        "picture": embedded(picture),
        "drawn": picture.name if picture is not None else None,
    }
    return write_page(sweep.folder / NAME, "sweep.html", values)


def _row(folder: Path, row: Mapping[str, Any], swept: Sequence[str], best: bool) -> dict[str, Any]:
    target = next((x for x in (NAME, "metrics.csv", "error.txt") if (folder / row["folder"] / x).is_file()), "")
    return {
        "cell": [row[key] for key in swept],
        "figures": [_figure(row[key]) for key in ("miou", "iou_background", "iou_foreground")],
        "accuracy": _figure(row["held_out_accuracy"]),
        "seconds": _figure(row["seconds"]),
        "status": row["status"],
        "error": row["error"],
        # Two slashes in front would be another machine; a colon, which is quoted, a script.
        "link": quote(re.sub("^/+", "/", f"{row['folder']}/{target}")),
        "target": target or "folder",
        "best": best,
    }


def _figure(cell: Any) -> float | None:
    value = number(cell)
    return None if value != value else value


def _short(override: str) -> str:
    key, _, value = override.partition("=")
    text = collapse(value.split(","))
    return f"{key}={text}" if ".." in text else override
