"""The figure of a sweep: mIoU as a heat map over two swept keys, or a line over one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from seg.files import atomic_path
from seg.sweep.results import Row, number, sortable

#: Cells beyond which the values in them would not be legible.
MOST_WRITTEN = 400


def draw_sweep(path: Path, rows: Sequence[Row], swept: Sequence[str], best: Row) -> Path:
    """Draw mIoU over what was swept; over more than two keys, the best of the others.

    Args:
        path: the PNG.
        rows: as :func:`seg.sweep.results.average_seeds` returns them; a failed job is an empty cell.
        swept: their keys, one at least. best: the row to mark.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    keys = list(swept[:2])  # epoch and threshold, if these are swept
    frame = pd.DataFrame(rows).assign(miou=[number(row["miou"]) for row in rows])
    values = [sorted(frame[key].unique(), key=sortable) for key in keys]
    table = frame.groupby(keys)["miou"].max()
    width = max(4.5, 0.55 * len(values[-1]) + 2)
    height = max(3.5, 0.32 * len(values[0]) + 1.4) if len(keys) == 2 else 4
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
    axes = figure.subplots()
    at = [value.index(best[key]) for key, value in zip(keys, values, strict=True)]
    axes.set_xticks(range(len(values[-1])), values[-1], rotation=90 if len(values[-1]) > 12 else 0, parse_math=False)
    if len(keys) == 2:
        cells = table.unstack().reindex(index=values[0], columns=values[1]).to_numpy()
        image = axes.imshow(cells, aspect="auto", origin="lower", cmap="viridis")
        axes.set_yticks(range(len(values[0])), values[0], parse_math=False)
        axes.set(xlabel=keys[1], ylabel=keys[0])
        middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
        for (y, x), value in np.ndenumerate(cells) if cells.size <= MOST_WRITTEN else ():
            text, colour = (
                ("-", "black") if np.isnan(value) else (f"{value:.3f}", "black" if value > middle else "white")
            )
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
        axes.add_patch(Rectangle((at[1] - 0.5, at[0] - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2))
        figure.colorbar(image, label="mIoU", shrink=0.9)
    else:
        axes.plot(range(len(values[0])), table.reindex(values[0]), marker="o", markersize=4, linewidth=1.5)
        axes.plot(at[0], number(best["miou"]), "o", markersize=11, mfc="none", mec="red", mew=3)
        axes.set(xlabel=keys[0], ylabel="mIoU")
        axes.grid(alpha=0.3)
    title = f"{best['stage']}, {best['split']}: best {' '.join(f'{key}={best[key]}' for key in swept)}"
    title += f" ({number(best['miou']):.4f}" + (f", mean of {best['seeds']} seeds)" if "seeds" in best else ")")
    axes.set_title(title, fontsize=10, parse_math=False, wrap=True)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png")
    return path
