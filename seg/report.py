"""What a run shows: panels, curves, exported masks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from seg.export import export_masks
from seg.pictures import curves, panel
from seg.seeds import MaskSet
from seg.store import Store
from seg.train import Training

__all__ = ["draw_curves", "draw_panel", "export_masks"]


def draw_panel(path: Path, products: Mapping[str, MaskSet], count: int) -> Path | None:
    """A panel of some images: photo, score map, seeds, refined masks, prediction, truth.

    Test images where the products have some, evenly spread over the list; else trainval's. Where no image has a
    truth, both splits', and no column for it.

    Args:
        path: the PNG. products: masks by name. count: how many images; 0 draws nothing.

    Returns:
        ``path``, or None if there was nothing to draw.
    """
    if count == 0 or not products:
        return None
    first = next(iter(products.values()))
    data = first.data
    shared = first.rows
    for masks in products.values():
        shared = np.intersect1d(shared, masks.rows)
    test = shared[data.is_test[shared]]
    # Without any truth no split is better to judge by.
    rows = test if len(test) and data.has_truth[shared].any() else shared
    with_truth = rows[data.has_truth[rows]]
    rows = with_truth if len(with_truth) else rows
    if len(rows) == 0:
        return None
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    pictures, names = [], []
    columns = ["photo"]
    if any(k.startswith(("CAM", "Gaussian")) for k in products):
        columns.append("score map")
    columns += [k for k in products if not k.startswith(("CAM", "Gaussian"))]
    for row in rows:
        cells: dict[str, np.ndarray | None] = {"photo": np.asarray(data.images[row])}
        for name, masks in products.items():
            position = np.searchsorted(masks.rows, [row])
            if name.startswith(("CAM", "Gaussian")):
                cells["score map"] = masks.scores.at(position)[0]
            else:
                cells[name] = masks.at(position)[0]
        cells["truth"] = np.asarray(data.truth[row]) if data.has_truth[row] else None
        pictures.append(cells)
        names.append((data.ids[row], data.classes[data.labels[row]]))
    # A column of nothing but "none" says less than its absence.
    columns += ["truth"] if data.has_truth[rows].any() else []
    return panel(path, pictures, columns, names, heading=data.title)


def draw_curves(path: Path, trainings: Mapping[str, Training], store: Store) -> Path | None:
    """Loss and metric by epoch of every training, or None if there was none."""
    histories = {name: stage.history(store) for name, stage in trainings.items()}
    histories = {name: frame for name, frame in histories.items() if len(frame)}
    return curves(path, histories) if histories else None
