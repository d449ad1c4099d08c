"""``report.html`` of a sweep: its table, its picture, links to its runs."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from seg.config.process import command, without_folders
from seg.config.spans import collapse
from seg.report.page import NAME, embedded, write_page
from seg.sweep.results import Row, number

#: Rows of the table at most; the CSV has them all.
MOST_ROWS = 5000


def write_sweep_report(
    folder: Path,
    rows: Sequence[Row],
    swept: Sequence[str],
    best: Row | None,
    lines: Sequence[str],
    picture: Path | None,
) -> Path:
    """Write the report of a sweep.

    Args:
        folder: the sweep's. rows: as :class:`seg.sweep.results.Results` reads them. swept: the swept keys.
        best: the choice to mark, of one row or, averaged over seeds, of several.
        lines: the summary that the terminal gets.
        picture: mIoU over what was swept, if it was drawn.

    Returns:
        The path of the page, whose links to the runs are relative: the folder can be moved.

    Raises:
        SegError: if it cannot be written.
    """
    marks = {key: best[key] for key in swept if key in best} if best else {}
    is_best = [bool(marks) and all(row[key] == value for key, value in marks.items()) for row in rows]
    shown = sorted(zip(rows, is_best, strict=True), key=lambda pair: not pair[1] and len(rows) > MOST_ROWS)[:MOST_ROWS]
    values: dict[str, Any] = {
        "title": folder.name,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "swept": list(swept),
        "rows": [_row(folder, row, swept, chosen) for row, chosen in shown],
        "total": len(rows),
        "lines": [without_folders(line) for line in lines],
        "command": _command(folder),
        "picture": embedded(picture),
        "drawn": picture.name if picture is not None else None,
    }
    return write_page(folder / NAME, "sweep.html", values)


def _row(folder: Path, row: Mapping[str, Any], swept: Sequence[str], best: bool) -> dict[str, Any]:
    target = next((x for x in (NAME, "metrics.csv", "error.txt") if (folder / row["folder"] / x).is_file()), "")
    return {
        "cell": [row[key] for key in swept],
        "figures": [
            None if (x := number(row[key])) != x else x for key in ("miou", "iou_background", "iou_foreground")
        ],
        "accuracy": None if (x := number(row["held_out_accuracy"])) != x else x,
        "seconds": None if (x := number(row["seconds"])) != x else x,
        "status": row["status"],
        "error": row["error"],
        # Two slashes in front would be another machine; a colon, which is quoted, a script.
        "link": quote(re.sub("^/+", "/", f"{row['folder']}/{target}")),
        "target": target or "folder",
        "best": best,
    }


def _command(folder: Path) -> str | None:
    """The command line that goes on with the sweep, or repeats it: Hydra has written down what was typed."""
    from omegaconf import OmegaConf

    try:
        written = OmegaConf.load(folder / "multirun.yaml")
    except FileNotFoundError:
        return None
    given = [_short(str(override)) for override in OmegaConf.select(written, "hydra.overrides.task") or []]
    # Without the folder that was given it would be another sweep.
    own = [
        str(x)
        for x in OmegaConf.select(written, "hydra.overrides.hydra") or []
        if str(x).startswith("hydra.sweep.dir=")
    ]
    return command(["-m", *given, *own], folders=False)


def _short(override: str) -> str:
    key, _, value = override.partition("=")
    text = collapse(value.split(","))
    return f"{key}={text}" if ".." in text else override
