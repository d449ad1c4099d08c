"""``report.html`` of a sweep: its summary, its figure, a table with links to its runs."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from seg.config.process import command, without_folders
from seg.report.page import NAME, embedded, write_page
from seg.sweep.results import Row, Sweep, number


def write_sweep_page(
    sweep: Sweep,
    rows: Sequence[Row],
    best: Row | None,
    lines: Sequence[str],
    typed: Sequence[str],
    picture: Path | None,
) -> Path:
    """Write the page of a sweep; its links to the runs are relative, so the folder can be moved.

    Args:
        sweep: of it. rows: of its table. best: the choice to mark, of one row or, averaged over seeds, of several.
        lines: the summary that the terminal gets. typed: the overrides of the command.
        picture: mIoU over what was swept, if it was drawn.
    """
    marks = {key: best[key] for key in sweep.swept if key in best} if best else {}
    values: dict[str, Any] = {
        "title": sweep.folder.name,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "swept": list(sweep.swept),
        "rows": [_row(sweep, row, bool(marks) and all(row[k] == v for k, v in marks.items())) for row in rows],
        "lines": [without_folders(line) for line in lines],
        "command": command(["-m", *typed], folders=False),
        "picture": embedded(picture),
        "drawn": picture.name if picture is not None else None,
    }
    return write_page(sweep.folder / NAME, "sweep.html", values)


def _row(sweep: Sweep, row: Row, best: bool) -> dict[str, Any]:
    target = next((x for x in (NAME, "metrics.csv", "error.txt") if (sweep.folder / row["folder"] / x).is_file()), "")
    return {
        "cell": [row[key] for key in sweep.swept],
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
