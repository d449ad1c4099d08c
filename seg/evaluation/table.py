"""The stage table: on the terminal for people, as JSON and CSV for programs."""

import json
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from seg.errors import SegError
from seg.files import atomic_path
from seg.format import shorten

WIDTH = 100
STAGE_WIDTH = 29  # what the other columns leave of WIDTH
NAME_WIDTH = 32  # of a class: two side by side

Row = Mapping[str, Any]


def _figure(value: Any) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


# key, the two lines of its heading, how it is written
_COLUMNS: tuple[tuple[str, tuple[str, str], Callable[[Any], str]], ...] = (
    ("images", ("", "images"), _text),
    ("miou", ("", "mIoU"), _figure),
    ("iou_background", ("IoU", "bg"), _figure),
    ("iou_foreground", ("IoU", "fg"), _figure),
    ("per_image_miou", ("per-image", "mean"), _figure),
    ("coverage", ("", "coverage"), _figure),
    ("estimated_quality", ("est.", "quality"), _figure),
)


def format_table(rows: Sequence[Row]) -> str:
    """The figures by stage as plain text, at most 100 columns wide.

    Args:
        rows: each with ``stage`` and ``split``, and the fields of `seg.methods.metrics.Metrics`; what a row
            lacks, or what is nan, is "-". Coverage and estimate are columns if some row has them. A true
            ``oracle`` marks the stage, and a note under the table says what that means; another one tells their
            ``masks_used``. With an ``iou_by_class`` in some row ``iou_foreground`` is headed as the classes' mean.

    Returns:
        the lines, without one at the end. A long stage name goes on below.
    """
    if not rows:
        return "no stage was evaluated"
    partial = any(row.get("coverage") is not None and row["coverage"] < 1 for row in rows)
    told = {"coverage": partial, "estimated_quality": any("estimated_quality" in row for row in rows)}
    columns = [column for column in _COLUMNS if told.get(column[0], True)]
    if several := any("iou_by_class" in row for row in rows):
        at = [key for key, *_ in columns].index("iou_foreground")
        columns[at] = ("iou_foreground", ("IoU", "classes"), _figure)
    lines = [
        ["", "", *(above for _, (above, _), _ in columns)],
        ["stage", "split", *(below for _, (_, below), _ in columns)],
    ]
    for row in rows:
        name = f"{row['stage']} *" if row.get("oracle") else str(row["stage"])
        first, *more = textwrap.wrap(name, STAGE_WIDTH - several, subsequent_indent="  ") or [""]
        figures = [write(row.get(key)) for key, _, write in columns]
        lines.append([first, _text(row.get("split")), *figures])
        lines += [[part, *[""] * (len(figures) + 1)] for part in more]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    form = "  ".join(f"{{:{'<' if column < 2 else '>'}{width}}}" for column, width in enumerate(widths))
    text = [form.format(*cells).rstrip() for cells in lines]
    text.insert(2, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    if any(row.get("oracle") for row in rows):
        text.append("* oracle: made with the ground truth of the images, which weak labels do not have")
    if empty := [str(s) for s in dict.fromkeys(row.get("split") for row in rows if not measures(row))]:
        text.append(f"-: the ground truth of {' and '.join(empty)} shows no object, so nothing is measured there")
    used = {str(row["stage"]): row["masks_used"] for row in rows if row.get("masks_used") is not None}
    if used:
        text += textwrap.wrap(f"masks used to choose thresholds and the like: {_numbers(used)}", WIDTH)
    return "\n".join(text)


def measures(row: Row) -> bool:
    """Whether a row has an mIoU: where the ground truth shows no object there is none."""
    return row.get("miou") is not None and not math.isnan(row["miou"])


def _numbers(used: Mapping[str, int]) -> str:
    """``0``, or ``0 (seeds), 300 (refined masks)``."""
    if len(numbers := sorted(set(used.values()))) == 1:
        return str(numbers[0])
    return ", ".join(f"{number} ({', '.join(name for name in used if used[name] == number)})" for number in numbers)


def decisive_row(rows: Sequence[Row]) -> Row:
    """The row of the last step that decides every pixel; of the last step, where none does.

    A step with an ignored band is measured where it decides, which the band can make as easy as it likes.

    Args:
        rows: of the stage table, at least one.
    """
    return ([row for row in rows if row["coverage"] == 1] or rows)[-1]


class ClassFigures(NamedTuple):
    """Figures of background or of a class in one row of the stage table.

    Attributes:
        name: of the class. iou: in [0, 1], nan where it is in neither ground truth nor prediction.
        target, prediction, right: pixels that are counted: of it, called it, and both.
    """

    name: str
    iou: float
    target: int
    prediction: int
    right: int


def class_figures(row: Row) -> list[ClassFigures]:
    """Of background and each class; of a row of the foreground alone, nothing."""
    if "iou_by_class" not in row:
        return []
    matrix = np.asarray(row["matrix"], np.int64)
    names, ious = ("background", *row["iou_by_class"]), (row["iou_background"], *row["iou_by_class"].values())
    counts = matrix.sum(1).tolist(), matrix.sum(0).tolist(), np.diagonal(matrix).tolist()
    return [ClassFigures(*one) for one in zip(names, ious, *counts, strict=True)]


def format_classes(rows: Sequence[Row]) -> str:
    """The IoU of each class, of the last step that decides every pixel, at most 100 columns wide.

    Args:
        rows: the stage table.

    Returns:
        the lines, without one at the end: names, IoUs and shares of the ground truth's pixels, in columns that are read
        downwards. Nothing, for masks of the foreground alone.
    """
    row = decisive_row(rows) if rows else {}
    found = class_figures(row)
    if not found:
        return ""
    total = max(1, sum(one.target for one in found))
    names = [shorten(one.name, NAME_WIDTH) for one in found]
    width = max(map(len, names))
    cells = [f"{n:{width}}  {_figure(x.iou):>6}  {x.target / total:6.1%}" for n, x in zip(names, found, strict=True)]
    gap = "    "
    columns = min(len(cells), (WIDTH + len(gap)) // (len(cells[0]) + len(gap)))
    height = -(-len(cells) // columns)
    lines = textwrap.wrap(
        f"IoU and share of the ground truth's pixels, by class: {row['stage']}, {row['split']}", WIDTH
    )
    return "\n".join([*lines, *(gap.join(cells[i::height]) for i in range(height))])


def without_figures(masks_of: Mapping[str, Sized], qualities: Mapping[str, float], picture: Path | None) -> str:
    """What stands in the table's place where no image has ground truth: how many masks there are, and where to look.

    Args:
        masks_of: by step. qualities: by step the estimated quality of trainval's, as far as it is known.
        picture: the panel, if one was drawn.
    """
    width = max(map(len, masks_of), default=0)
    lines = [f"{'stage':{width}}  masks  est. quality", "-" * (width + 21)]
    lines += [
        f"{name:{width}}  {len(masks):5d}  {_figure(qualities.get(name)):>12}" for name, masks in masks_of.items()
    ]
    look = f"look at {picture}" if picture else "draw pictures with figures=true evaluation.panel=6"
    lines.append(f"nothing was measured: no image that gets a mask has ground truth; {look}")
    return "\n".join(lines)


def write_metrics(folder: Path, rows: Sequence[Row], header: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write the figures as ``metrics.json`` and ``metrics.csv``, each in one step; of classes ``classes.csv`` too.

    Args:
        folder: is made if need be.
        rows: as for `format_table`; every key is kept, in the order of first sight.
        header: what holds for all rows (data set, border, resolution, ...); JSON only.

    Returns:
        the first two paths. JSON is ``{"header": ..., "rows": [...]}``; floats are written so that reading
        them gives the same number; nan is null in JSON and an empty cell in CSV. What is no single value is in JSON
        alone.

    Raises:
        SegError: if the folder cannot be written to.
    """
    values = [{key: plain(value) for key, value in row.items()} for row in rows]
    everything = {"header": plain(header), "rows": values}
    text = json.dumps(everything, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A row of a confusion matrix is a line.
    text = re.sub(r"\[\n\s+(\d+(?:,\n\s+\d+)*)\n\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    paths = folder / "metrics.json", folder / "metrics.csv"
    single = [{key: value for key, value in row.items() if not isinstance(value, dict | list)} for row in values]
    contents = dict(zip(paths, (text, _sheet(single)), strict=True))
    by_class = [
        {"stage": row["stage"], "split": row["split"], "class": name, "iou": plain(iou)}
        | {"pixels_of_target": target, "pixels_of_prediction": prediction, "pixels_right": right}
        for row in rows
        for name, iou, target, prediction, right in class_figures(row)
    ]
    if by_class:
        contents[folder / "classes.csv"] = _sheet(by_class)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            with atomic_path(path, synced=path.suffix == ".json") as tmp:
                tmp.write_text(content, encoding="utf-8", newline="")
    except OSError as error:
        raise SegError(f"{folder}: metrics cannot be written ({error.strerror}): use another") from error
    return paths


def _sheet(rows: Sequence[Row]) -> str:
    return str(pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n"))


def plain(value: Any) -> Any:
    """What JSON knows, and nothing that only Python's dialect of it knows."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def headline(rows: Sequence[Row]) -> Row:
    """The figures that a sweep compares: of the last step that decides every pixel, on trainval.

    Where no trainval image has ground truth that shows an object it is the test split.

    Args:
        rows: the stage table.

    Raises:
        SegError: if nothing was measured.
    """
    if not rows:
        raise SegError("nothing was measured: no image that gets a mask has ground truth")
    rows = [row for row in rows if measures(row)] or rows
    split = "trainval" if any(row["split"] == "trainval" for row in rows) else "test"
    chosen = [row for row in rows if row["split"] == split]
    row = decisive_row(chosen)
    keys = ("miou", "iou_background", "iou_foreground", "images", "stage", "split")
    return {key: row[key] for key in keys} | {"masks_used": row.get("masks_used")}
