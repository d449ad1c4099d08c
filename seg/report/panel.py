"""What a run draws: a panel of images by step, the curves of its trainings."""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from seg.data.prepared import PreparedData
from seg.experiment import Step
from seg.masks import MaskSet
from seg.report.pictures import FOREGROUND, Key, class_key, curves, panel
from seg.store import Store
from seg.train import Training


def shared_rows(masks_of: Mapping[str, MaskSet]) -> np.ndarray:
    """``int64 (n,)``: the rows of the images that every step has a mask of."""
    shared: np.ndarray = functools.reduce(np.intersect1d, (masks.rows for masks in masks_of.values()))
    return shared


def key_of(data: PreparedData) -> Key:
    """The colours of its masks."""
    return FOREGROUND if data.count == 1 else class_key(data.names)


def classes_of(data: PreparedData, row: int) -> tuple[str, ...]:
    """The names of the classes that are in an image; ``("no class",)`` for one without."""
    return tuple(data.as_read.classes[label] for label in data.as_read.label_sets[row]) or ("no class",)


def picture_cells(steps: Mapping[str, Step], masks_of: Mapping[str, MaskSet], row: int) -> dict[str, np.ndarray]:
    """What there is of one image, by column, the photo first and the truth last: as a panel's rows are."""
    data = next(iter(masks_of.values())).data
    cells = {"photo": np.asarray(data.images[row])}
    several = sum(step.kind == "scores" for step in steps.values()) > 1
    for name, masks in masks_of.items():
        position = np.searchsorted(masks.rows, [row])
        if steps[name].kind == "scores":
            cells[steps[name].plain_name if several else "score map"] = masks.scores.argmax(position)[0][0]
        else:
            cells[name] = masks.at(position)[0]
    return cells | ({"truth": data.truth(np.asarray([row]))[0]} if data.has_truth[row] else {})


def draw_panel(path: Path, steps: Mapping[str, Step], masks_of: Mapping[str, MaskSet], count: int) -> Path | None:
    """A panel of some images: photo, score map, seeds, refined masks, prediction, truth.

    Test images with a truth, evenly spread over the list; else trainval's. Where no image has a truth, both splits',
    and no column for it.

    Args:
        path: the PNG. steps: the chain. masks_of: its masks by step. count: how many images; 0 draws nothing.

    Returns:
        ``path``, or None if there was nothing to draw.
    """
    if count == 0 or not masks_of:
        return None
    data = next(iter(masks_of.values())).data
    shared = shared_rows(masks_of)
    if len(shared) == 0:
        return None
    with_truth = shared[data.has_truth[shared]]
    rows = next(rows for rows in (with_truth[data.is_test[with_truth]], with_truth, shared) if len(rows))
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    pictures = [picture_cells(steps, masks_of, row) for row in rows]
    names = [(data.ids[row], ", ".join(classes_of(data, row))) for row in rows]
    # Rows differ in nothing but the truth, which some may lack.
    return panel(path, pictures, [*max(pictures, key=len)], names, data.title, key_of(data))


def draw_curves(path: Path, trainings: Mapping[str, Training], store: Store) -> Path | None:
    """Loss and metric by epoch of every training, or None if there was none."""
    histories = {name: stage.history(store) for name, stage in trainings.items()}
    histories = {name: frame for name, frame in histories.items() if len(frame)}
    return curves(path, histories) if histories else None
