"""``report.html`` of a run, and the panel of example images."""

import base64
import functools
import io
import mimetypes
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from seg.config.process import command, given_overrides
from seg.data.prepared import PreparedData
from seg.errors import SegError
from seg.evaluation.table import class_frame, stage_frame, table_notes
from seg.experiment import Experiment, Step
from seg.files import atomic_path
from seg.format import duration
from seg.masks import MaskSet
from seg.methods.metrics import Border, Confusion
from seg.report.pictures import FOREGROUND, Key, class_key, panel, picture
from seg.version import __version__

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
    cfg, store, rows = experiment.cfg, experiment.store, experiment.rows
    data, curves = store.get(experiment.pool).data, folder / "curves.png"
    heading, classes = class_frame(rows)
    values: dict[str, Any] = {
        "title": experiment.source.title,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "seconds": time.perf_counter() - experiment.started,
        "device": str(store.runtime.device),
        "command": command(given_overrides(), folders=False),
        "figures": stage_frame(rows) if rows else None,
        "notes": [*table_notes(rows), *experiment.worse()],
        "border": cfg.evaluation.border,
        "resolution": cfg.evaluation.resolution,
        "true_masks": len(store.get(experiment.target)) if experiment.target is not None else 0,
        "heading": heading,
        "classes": classes,
        "cards": make_cards(experiment.steps, masks, cfg.evaluation.border),
        "total": len(shared_rows(masks)),
        "legend": key_of(data).legend,
        "curves": data_uri(curves.read_bytes(), ".png") if curves.is_file() else None,
    }
    return write_page(folder / "report.html", values)


def data_uri(content: bytes, suffix: str) -> str:
    """A picture (``.png`` or ``.jpg``) as a data URI."""
    return f"data:{mimetypes.types_map[suffix]};base64,{base64.b64encode(content).decode()}"


def write_page(path: Path, values: Mapping[str, Any]) -> Path:
    """Fill the template ``run.html`` and write it atomically. Raises SegError if it cannot be written."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def table(frame: pd.DataFrame) -> Markup:
        return Markup(frame.to_html(index=False, border=0, justify="left", float_format="{:.4f}".format, na_rep="–"))

    folder = FileSystemLoader(Path(__file__).parent / "templates")
    made = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"duration": duration, "table": table}
    text = made.get_template("run.html").render(version=__version__, **values).encode(errors="replace")
    try:
        with atomic_path(path) as tmp:
            tmp.write_bytes(text)
    except OSError as error:
        raise SegError(f"{path}: cannot be written ({error.strerror}); choose another hydra.run.dir=") from error
    return path


def draw_panel(path: Path, experiment: Experiment, masks: Mapping[str, MaskSet]) -> Path | None:
    """Draw some images, evenly spread: of test with ground truth, else of trainval with ground truth, else any.

    Returns:
        ``path``, or None without images.
    """
    shared, count = shared_rows(masks), experiment.cfg.evaluation.panel
    if count == 0 or len(shared) == 0:
        return None
    data = next(iter(masks.values())).data
    with_target = shared[data.has_target[shared]]
    rows = next(rows for rows in (with_target[data.is_test[with_target]], with_target, shared) if len(rows))
    rows = spread(rows, count)
    names = [f"{data.ids[row][-25:]}\n{label_of(data, row)[:25]}" for row in rows]
    return panel(path, [picture_cells(experiment.steps, masks, row) for row in rows], names, data.title, key_of(data))


def shared_rows(masks_of: Mapping[str, MaskSet]) -> np.ndarray:
    """``int64 (n,)``: rows of the images of which every step has a mask."""
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
    """A panel's row for one image: the photo, every step, and the ground truth if there is one."""
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
    """Cards of a sample of images, sorted by the last mask's IoU, worst first.

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
    for row in spread(shared_rows(masks_of), min(MOST_IMAGES, MOST_PICTURES // (len(masks_of) + 2))).tolist():
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


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of the rows, evenly spread over the list."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def _iou(mask: np.ndarray, target: np.ndarray, border: Border, classes: int) -> float:
    confusion = Confusion(classes)
    confusion.add(mask, target, border)
    ious = confusion.per_image_iou[0, 1:]
    return float(ious[~np.isnan(ious)].mean()) if not np.isnan(ious).all() else float("nan")
