"""The stage table: on the terminal for people, as JSON and CSV for programs."""

import math
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seg.errors import SegError
from seg.files import atomic_path, write_json
from seg.format import shorten

Row = Mapping[str, Any]

#: Fields of a row, and their headings.
_HEADINGS = {
    "stage": "stage",
    "split": "split",
    "images": "images",
    "miou": "mIoU",
    "iou_background": "bg",
    "iou_foreground": "fg",
    "per_image_miou": "per image",
    "coverage": "coverage",
    "estimated_quality": "est. quality",
}


def format_table(rows: Sequence[Row]) -> str:
    """The figures by stage as plain text.

    Args:
        rows: each with ``stage`` and ``split``, and the fields of `seg.methods.metrics.Metrics`; what a row
            lacks, or what is nan, is "-". Coverage and estimate are columns if some row has them. A true
            ``oracle`` marks the stage, and a note under the table says what that means; another one tells their
            ``masks_used``. With an ``iou_by_class`` in some row ``iou_foreground`` is headed as the classes' mean.

    Returns:
        the lines, without one at the end.
    """
    if not rows:
        return "no stage was evaluated"
    frame = pd.DataFrame(rows).reindex(columns=list(_HEADINGS))
    frame["stage"] = [f"{shorten(str(row['stage']), 40)}{' *' if row.get('oracle') else ''}" for row in rows]
    if not (frame["coverage"] < 1).any():
        frame = frame.drop(columns="coverage")
    frame = frame.drop(columns=[] if any("estimated_quality" in row for row in rows) else "estimated_quality")
    several = {"iou_foreground": "classes"} if any("iou_by_class" in row for row in rows) else {}
    lines = [_text(frame.rename(columns=_HEADINGS | several))]
    if any(row.get("oracle") for row in rows):
        lines.append("* oracle: made with the ground truth of the images, which weak labels do not have")
    if empty := [str(s) for s in dict.fromkeys(row.get("split") for row in rows if not measures(row))]:
        lines.append(f"-: the ground truth of {' and '.join(empty)} shows no object, so nothing is measured there")
    if used := {str(row["stage"]): row["masks_used"] for row in rows if row.get("masks_used") is not None}:
        numbers = [
            f"{number} ({', '.join(s for s in used if used[s] == number)})" for number in sorted({*used.values()})
        ]
        text = ", ".join(numbers) if len(numbers) > 1 else str(next(iter(used.values())))
        lines.append(f"masks used to choose thresholds and the like: {text}")
    return "\n".join(lines)


def _text(frame: pd.DataFrame) -> str:
    """A frame as text: names to the left, figures to the right with four decimals, a dash for what is missing."""
    frame = frame.copy()
    for column in frame.select_dtypes(exclude="number"):
        width = frame[column].astype(str).str.len().max()
        frame[column] = frame[column].astype(str).str.ljust(width)
        frame = frame.rename(columns={column: f"{column:{width}}"})
    return frame.to_string(index=False, na_rep="-", float_format="{:.4f}".format, col_space=8)


def measures(row: Row) -> bool:
    """Whether a row has an mIoU: where the ground truth shows no object there is none."""
    return row.get("miou") is not None and not math.isnan(row["miou"])


def decisive_row(rows: Sequence[Row]) -> Row:
    """The row of the last step that decides every pixel; of the last step, where none does.

    A step with an ignored band is measured where it decides, which the band can make as easy as it likes.

    Args:
        rows: of the stage table, at least one.
    """
    return ([row for row in rows if row["coverage"] == 1] or rows)[-1]


def class_figures(row: Row) -> pd.DataFrame:
    """Of background and each class in one row of the stage table; empty for a row of the foreground alone.

    Returns:
        ``class``; ``iou`` in [0, 1], nan where it is in neither ground truth nor prediction; and pixels that are
        counted, of the ground truth, of the prediction, and of both.
    """
    if "iou_by_class" not in row:
        return pd.DataFrame()
    matrix = np.asarray(row["matrix"], np.int64)
    return pd.DataFrame(
        {
            "class": ["background", *row["iou_by_class"]],
            "iou": [row["iou_background"], *row["iou_by_class"].values()],
            "pixels_of_target": matrix.sum(1),
            "pixels_of_prediction": matrix.sum(0),
            "pixels_right": np.diagonal(matrix),
        }
    )


def format_classes(rows: Sequence[Row]) -> str:
    """The IoU of each class, of the last step that decides every pixel; empty for masks of the foreground alone."""
    row = decisive_row(rows) if rows else {}
    found = class_figures(row)
    if found.empty:
        return ""
    target = found["pixels_of_target"]
    frame = pd.DataFrame({"class": [shorten(name, 40) for name in found["class"]], "IoU": found["iou"]})
    frame["share of ground truth"] = target / max(1, target.sum())
    return f"{row['stage']}, {row['split']}, by class:\n{_text(frame)}"


def without_figures(masks_of: Mapping[str, Sized], qualities: Mapping[str, float], picture: Path | None) -> str:
    """What stands in the table's place where no image has ground truth: how many masks there are, and where to look.

    Args:
        masks_of: by step. qualities: by step the estimated quality of trainval's, as far as it is known.
        picture: the panel, if one was drawn.
    """
    frame = pd.DataFrame({"stage": list(masks_of), "masks": [len(masks) for masks in masks_of.values()]})
    frame["est. quality"] = [qualities.get(name, math.nan) for name in masks_of]
    look = f"look at {picture}" if picture else "draw pictures with figures=true evaluation.panel=6"
    return f"{_text(frame)}\nnothing was measured: no image that gets a mask has ground truth; {look}"


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
    values = [plain(row) for row in rows]
    single = [{key: value for key, value in row.items() if not isinstance(value, dict | list)} for row in values]
    tables = {folder / "metrics.csv": pd.DataFrame(single, dtype=object)}
    by_class = {(row["stage"], row["split"]): found for row in rows if not (found := class_figures(row)).empty}
    if by_class:
        tables[folder / "classes.csv"] = pd.concat(by_class, names=["stage", "split"]).droplevel(2).reset_index()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "metrics.json", {"header": plain(header), "rows": values}, synced=True)
        for path, table in tables.items():
            with atomic_path(path) as tmp:
                table.to_csv(tmp, index=False, lineterminator="\n")
    except OSError as error:
        raise SegError(f"{folder}: metrics cannot be written ({error.strerror}): use another") from error
    return folder / "metrics.json", folder / "metrics.csv"


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
    row = decisive_row([row for row in rows if row["split"] == split])
    keys = ("miou", "iou_background", "iou_foreground", "images", "stage", "split")
    return {key: row[key] for key in keys} | {"masks_used": row.get("masks_used")}
