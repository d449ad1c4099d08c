"""``report.html`` of a run: what was run, how good it is, what it looks like, what it cost; and the panel."""

import functools
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from seg.config.process import command, given_overrides
from seg.data.prepared import PreparedData
from seg.evaluation.table import MARKS, Row, class_metrics, decisive_row, marks
from seg.experiment import Experiment, Step
from seg.format import duration, size
from seg.masks import MaskSet
from seg.methods.metrics import Border, Confusion
from seg.report.page import NAME, data_uri, embedded, write_page
from seg.report.pictures import FOREGROUND, SCORE_MAP, Key, class_key, panel, picture
from seg.store.manifest import size_of

#: Images and pictures at most, and pixels of a picture's longer side: they bound the size of the page.
MOST_IMAGES, MOST_PICTURES, SIDE = 80, 400, 256


def write_run_page(folder: Path, experiment: Experiment, masks: Mapping[str, MaskSet]) -> Path:
    """Write the report of a run that was built and measured.

    Args:
        folder: the run's; ``curves.png`` is taken from it. experiment: with its rows. masks: the steps' by name.

    Returns:
        The path of the page.

    Raises:
        SegError: if it cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    cfg, store = experiment.cfg, experiment.store
    data, overrides, rows = store.get(experiment.pool).data, given_overrides(), experiment.rows
    values: dict[str, Any] = {
        "title": experiment.source.title,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "seconds": time.perf_counter() - experiment.started,
        "device": str(store.runtime.device),
        "command": command(overrides, folders=False),
        "is_known": bool(overrides),
        "figures": figures_of(rows, data.count > 1),
        "marks": [note for key, note in MARKS.items() if any(row.get(key) for row in rows)],
        "border": cfg.evaluation.border,
        "resolution": cfg.evaluation.resolution,
        "true_masks": len(store.get(experiment.target)) if experiment.target is not None else 0,
        "qualities": [
            {"stage": name, "split": split}
            | {key.replace("_", " "): getattr(one, key) for key in ("quality", "agreement", "edges", "false_positives")}
            for name, found in experiment.qualities.items()
            for split, one in found.items()
        ],
        "worse": experiment.worse(),
        "classes": class_tables(rows),
        "cards": make_cards(experiment.steps, masks, cfg.evaluation.border),
        "total": len(shared_rows(masks)),
        "legend": key_of(data).legend,
        "scale": ", ".join(to_hex(colormaps[SCORE_MAP](i / 8)) for i in range(9)),
        "training": embedded(folder / "curves.png"),
        "costs": costs(experiment),
    }
    return write_page(folder / NAME, "run.html", values)


def figures_of(rows: Sequence[Row], several: bool) -> list[dict[str, Any]]:
    """The stage table under the headings of the page; ``several`` classes have a mean IoU."""
    headings = {
        "split": "split",
        "images": "images",
        "miou": "mIoU",
        "iou_background": "IoU background",
        "iou_foreground": "IoU classes" if several else "IoU foreground",
        "pixel_accuracy": "pixel accuracy",
        "per_image_miou": "per-image mIoU",
        "coverage": "coverage",
        "masks_used": "masks used to choose",
    }
    marked = [row["stage"] + marks(row) for row in rows]
    return [{"stage": mark} | {h: row[k] for k, h in headings.items()} for mark, row in zip(marked, rows, strict=True)]


def class_tables(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Of the last step that labels every pixel; None for masks of the foreground alone.

    Returns:
        ``stage`` and ``split`` of the row; ``ious``, a row per class; ``confusion``, a frame of percentages: of the
        ground truth's pixels of a row's class those that the masks say are of a column's, rows in the same order.
    """
    row: Row = decisive_row(rows) if rows else {}
    found = class_metrics(row)
    if found.empty:
        return None
    names, matrix = found["class"], np.asarray(row["matrix"], np.int64)
    pixels = found[["pixels_of_target", "pixels_of_prediction"]]
    pixels.columns = ["share of the ground truth", "share of the masks"]
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    texts = np.where(shares >= 0.5, np.char.mod("%.0f", shares), "")
    return {
        "stage": row["stage"],
        "split": row["split"],
        "ious": pd.concat([found[["class", "iou"]], pixels / max(1, matrix.sum())], axis=1),
        "confusion": pd.DataFrame(texts, index=names, columns=names.tolist()).rename_axis(None),
    }


def costs(experiment: Experiment) -> list[dict[str, Any]]:
    """The stored products that a run needed, each once, upstream first, with the time and the bytes that they took."""
    store = experiment.store
    stages = {stage.id: stage for stage in experiment.stages() if stage.stored and store.manifest(stage) is not None}
    return [
        {
            "product": name,
            "what": stage.what,
            "time": duration((store.manifest(stage) or {}).get("seconds")),
            "size": size(size_of(store.folder(stage))),
        }
        for name, stage in stages.items()
    ]


# -- pictures


def draw_panel(path: Path, experiment: Experiment, masks: Mapping[str, MaskSet]) -> Path | None:
    """A panel of some images: test images with a ground truth, evenly spread over the list; else trainval's, else any.

    Returns:
        ``path``, or None if there was nothing to draw.
    """
    shared, count = shared_rows(masks), experiment.cfg.evaluation.panel
    if count == 0 or len(shared) == 0:
        return None
    data = next(iter(masks.values())).data
    with_target = shared[data.has_target[shared]]
    rows = next(rows for rows in (with_target[data.is_test[with_target]], with_target, shared) if len(rows))
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    names = [f"{data.ids[row][-25:]}\n{label_of(data, row)[:25]}" for row in rows]
    return panel(path, [picture_cells(experiment.steps, masks, row) for row in rows], names, data.title, key_of(data))


def shared_rows(masks_of: Mapping[str, MaskSet]) -> np.ndarray:
    """``int64 (n,)``: the rows of the images that every step has a mask of."""
    rows = [masks.rows for masks in masks_of.values()]
    shared: np.ndarray = functools.reduce(np.intersect1d, rows) if rows else np.zeros(0, np.int64)
    return shared


def key_of(data: PreparedData) -> Key:
    """The colours of its masks."""
    return FOREGROUND if data.count == 1 else class_key(data.names)


def label_of(data: PreparedData, row: int) -> str:
    """The names of the classes that are in an image."""
    return ", ".join(data.as_read.classes[label] for label in data.as_read.label_sets[row]) or "no class"


def picture_cells(steps: Mapping[str, Step], masks_of: Mapping[str, MaskSet], row: int) -> dict[str, np.ndarray]:
    """What there is of one image, by column, the photo first and the ground truth last: as a panel's rows are."""
    data = next(iter(masks_of.values())).data
    cells = {"photo": np.asarray(data.images[row])}
    several = sum(step.kind == "scores" for step in steps.values()) > 1
    for name, masks in masks_of.items():
        position = np.searchsorted(masks.rows, [row])
        if steps[name].kind == "scores":
            cells[steps[name].plain_name if several else "score map"] = masks.scores.argmax(position)[0][0]
        else:
            cells[name] = masks.at(position)[0]
    return cells | ({"ground truth": data.target(np.asarray([row]))[0]} if data.has_target[row] else {})


def make_cards(steps: Mapping[str, Step], masks_of: Mapping[str, MaskSet], border: Border) -> list[dict[str, Any]]:
    """A sample of images, worst first by the last mask's IoU.

    Args:
        steps: the chain. masks_of: its masks by step. border: what the ground truth's border pixels count as.

    Returns:
        Of each image ``id``, ``label``, ``split``, ``pictures`` (data URIs by column) and ``ious`` by mask: of the
        foreground, of several classes the mean of those that mask or ground truth has; empty without ground truth.
    """
    if not masks_of:
        return []
    data = next(iter(masks_of.values())).data
    cards = []
    for row in sample(data, shared_rows(masks_of), min(MOST_IMAGES, MOST_PICTURES // (len(masks_of) + 2))).tolist():
        cells = picture_cells(steps, masks_of, row)
        masks = {name: cells[name] for name, step in steps.items() if step.kind != "scores"}
        ious = {}
        if "ground truth" in cells:
            found = {name: _iou(mask, cells["ground truth"], border, data.count) for name, mask in masks.items()}
            ious = {name: iou for name, iou in found.items() if not np.isnan(iou)}
        height, width = data.sizes[row]
        scale = min(SIDE, data.side) / max(height, width)
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        pictures = {}
        for name, array in cells.items():
            image = Image.fromarray(picture(cells["photo"], array, key_of(data))).resize(shape)
            image.save(file := io.BytesIO(), format="JPEG", quality=82, optimize=True)
            pictures[name] = data_uri(file.getvalue(), ".jpg")
        card = {"id": data.ids[row], "label": label_of(data, row), "split": "test" if data.is_test[row] else "trainval"}
        cards.append(card | {"ious": ious, "pictures": pictures, "iou": ious.get(next(reversed(masks), ""), 2)})
    return sorted(cards, key=lambda card: card["iou"])


def sample(data: PreparedData, rows: np.ndarray, most: int) -> np.ndarray:
    """Some of ``rows``, as even as can be over split, class (of several the rarest), and whether there is ground truth.

    Returns:
        ``int64 (n,)`` with n at most ``most``, one of every group first.
    """
    # Shuffled, as neighbours in a list may be alike; from a seed, as a report that is written again is the same.
    drawn = np.random.default_rng(0).permutation(rows)
    count = data.as_read.is_labelled[drawn].sum(0)
    rarest = np.asarray([min(data.as_read.label_sets[row], key=count.__getitem__, default=-1) for row in drawn])
    turn = pd.Series(drawn).groupby([data.is_test[drawn], data.has_target[drawn], rarest]).cumcount()
    return drawn[np.argsort(turn, kind="stable")][:most]


def _iou(mask: np.ndarray, target: np.ndarray, border: Border, classes: int) -> float:
    confusion = Confusion(classes)
    confusion.add(mask, target, border)
    ious = confusion.per_image_iou[0, 1:]
    return float(ious[~np.isnan(ious)].mean()) if not np.isnan(ious).all() else float("nan")
