"""The table of metrics by step: as text, JSON and CSV."""

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
    "boundary_iou": "boundary",
    "per_image_miou": "per image",
    "coverage": "coverage",
    "estimated_quality": "est. quality",
}


#: Marks of rows, by key: the first character is the mark.
MARKS = {
    "oracle": "* oracle: made with the ground truth of the images, which weak labels do not have",
    "trained_on_masks": "† trained on masks: a pretrained network in it has learnt ground-truth masks of other images",
}


def marks(row: Row) -> str:
    """The marks that follow the name of a row's step."""
    return "".join(f" {note[0]}" for key, note in MARKS.items() if row.get(key))


def stage_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The table with its headings, without empty columns.

    Args:
        rows: each with ``stage`` and ``split``, and the fields of `seg.methods.metrics.Metrics`. ``oracle`` and
            ``trained_on_masks`` mark the stage (:data:`MARKS`). If some row has ``iou_by_class``, the heading of
            ``iou_foreground`` is "classes".
    """
    frame = pd.DataFrame(rows).reindex(columns=list(_HEADINGS))
    frame["stage"] = [shorten(str(row["stage"]), 40) + marks(row) for row in rows]
    if not (frame["coverage"] < 1).any():
        frame = frame.drop(columns="coverage")
    for column in ("boundary_iou", "estimated_quality"):
        if frame[column].isna().all():
            frame = frame.drop(columns=column)
    several = {"iou_foreground": "classes"} if any("iou_by_class" in row for row in rows) else {}
    return frame.rename(columns=_HEADINGS | several)


def table_notes(rows: Sequence[Row]) -> list[str]:
    """Notes below the table, in lines: marks, what is not measured, the number of masks used."""
    lines = [note for key, note in MARKS.items() if any(row.get(key) for row in rows)]
    if empty := [str(s) for s in dict.fromkeys(row.get("split") for row in rows if not is_measured(row))]:
        lines.append(f"-: the ground truth of {' and '.join(empty)} shows no object, so nothing is measured there")
    if used := {str(row["stage"]): row["masks_used"] for row in rows if row.get("masks_used") is not None}:
        numbers = [f"{n} ({', '.join(s for s in used if used[s] == n)})" for n in sorted({*used.values()})]
        text = ", ".join(numbers) if len(numbers) > 1 else str(next(iter(used.values())))
        lines.append(f"masks used to choose thresholds and the like: {text}")
    return lines


def format_table(rows: Sequence[Row]) -> str:
    """The table and its notes as plain text; a missing value is "-"."""
    return "\n".join([frame_text(stage_frame(rows)), *table_notes(rows)]) if rows else "no stage was evaluated"


def frame_text(frame: pd.DataFrame) -> str:
    """A frame as text: names left-aligned, numbers right-aligned with four decimals, a dash for a missing value."""
    frame = frame.copy()
    for column in frame.select_dtypes(exclude="number"):
        width = frame[column].astype(str).str.len().max()
        frame[column] = frame[column].astype(str).str.ljust(width)
        frame = frame.rename(columns={column: f"{column:{width}}"})
    return frame.to_string(index=False, na_rep="-", float_format="{:.4f}".format, col_space=8)


def is_measured(row: Row) -> bool:
    """Whether a row has an mIoU; without any object in the ground truth it has none."""
    return row.get("miou") is not None and not math.isnan(row["miou"])


def decisive_row(rows: Sequence[Row]) -> Row:
    """The row of the last step that labels every pixel; if there is none, of the last step.

    A step that ignores pixels is measured on the others alone, which are easier.

    Args:
        rows: of the stage table, at least one.
    """
    return ([row for row in rows if row["coverage"] == 1] or rows)[-1]


def class_metrics(row: Row) -> pd.DataFrame:
    """Metrics of the background and each class in a row of the table; empty for foreground masks.

    Returns:
        ``class``; ``iou`` in [0, 1], nan where it is in neither ground truth nor prediction; and counts of pixels:
        in the ground truth, in the prediction, and in both.
    """
    if "iou_by_class" not in row:
        return pd.DataFrame()
    matrix, ious = np.asarray(row["matrix"], np.int64), {"background": row["iou_background"], **row["iou_by_class"]}
    pixels = {"target": matrix.sum(1), "prediction": matrix.sum(0)}
    counts = {f"pixels_of_{key}": count for key, count in pixels.items()} | {"pixels_right": np.diagonal(matrix)}
    return pd.DataFrame({"class": [*ious], "iou": [*ious.values()], **counts})


def class_frame(rows: Sequence[Row]) -> tuple[str, pd.DataFrame]:
    """A heading, and the IoU of each class for the decisive row; empty without classes."""
    row = decisive_row(rows) if rows else {}
    if (found := class_metrics(row)).empty:
        return "", found
    target = found["pixels_of_target"]
    frame = pd.DataFrame({"class": [shorten(name, 40) for name in found["class"]], "IoU": found["iou"]})
    frame["share of ground truth"] = target / max(1, target.sum())
    return f"{row['stage']}, {row['split']}, by class:", frame


def format_classes(rows: Sequence[Row]) -> str:
    """As :func:`class_frame`, as text; empty for foreground masks."""
    heading, frame = class_frame(rows)
    return "" if frame.empty else f"{heading}\n{frame_text(frame)}"


def format_unmeasured(masks_of: Mapping[str, Sized], qualities: Mapping[str, float], picture: Path | None) -> str:
    """The table when no image has ground truth: the number of masks, the estimated quality, and where to look.

    Args:
        masks_of: masks by step. qualities: estimated quality on trainval by step, where known.
        picture: the panel, if one was drawn.
    """
    frame = pd.DataFrame({"stage": list(masks_of), "masks": [len(masks) for masks in masks_of.values()]})
    frame["est. quality"] = [qualities.get(name, math.nan) for name in masks_of]
    look = f"look at {picture}" if picture else "draw pictures with figures=true evaluation.panel=6"
    return f"{frame_text(frame)}\nnothing was measured: no image that gets a mask has ground truth; {look}"


def write_metrics(folder: Path, rows: Sequence[Row], header: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``metrics.json`` and ``metrics.csv``, and ``classes.csv`` if there are classes; each atomically.

    Args:
        folder: created if missing.
        rows: as for `format_table`; every key is kept, in order of first appearance.
        header: what holds for all rows (data set, border, resolution, ...); JSON only.

    Returns:
        The first two paths. JSON is ``{"header": ..., "rows": [...]}``; floats are written in full precision; nan is
        null in JSON and an empty cell in CSV. Lists and mappings are in JSON only.

    Raises:
        SegError: if the folder cannot be written to.
    """
    values = [plain(row) for row in rows]
    scalars = [{key: value for key, value in row.items() if not isinstance(value, dict | list)} for row in values]
    tables = {folder / "metrics.csv": pd.DataFrame(scalars, dtype=object)}
    by_class = {(row["stage"], row["split"]): found for row in rows if not (found := class_metrics(row)).empty}
    if by_class:
        tables[folder / "classes.csv"] = pd.concat(by_class, names=["stage", "split"]).droplevel(2).reset_index()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "metrics.json", {"header": plain(header), "rows": values}, synced=True)
        for path, table in tables.items():
            with atomic_path(path) as tmp:
                table.to_csv(tmp, index=False, lineterminator="\n")
    except OSError as error:
        raise SegError(f"{folder}: metrics cannot be written ({error.strerror}); use another folder") from error
    return folder / "metrics.json", folder / "metrics.csv"


def plain(value: Any) -> Any:
    """A value as strict JSON: no nan or infinity, nothing of numpy; other objects as text."""
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
    """The metrics that a sweep compares: of the decisive row on trainval; on test if trainval has no ground truth.

    Args:
        rows: the stage table.

    Raises:
        SegError: if nothing was measured.
    """
    if not rows:
        raise SegError("nothing was measured: no image that gets a mask has ground truth")
    rows = [row for row in rows if is_measured(row)] or rows
    split = "trainval" if any(row["split"] == "trainval" for row in rows) else "test"
    row = decisive_row([row for row in rows if row["split"] == split])
    keys = ("miou", "iou_background", "iou_foreground", "images", "stage", "split")
    return {key: row[key] for key in keys} | {"masks_used": row.get("masks_used")}
