"""The picture of a sweep: a heat map over two swept keys, a line over one, small multiples over more."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from seg.files import atomic_path
from seg.sweep.results import Row, number, sortable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Cells beyond which the values in them would not be legible.
MOST_WRITTEN = 400
#: Panels of a figure with small multiples; the best are kept.
MOST_PANELS = 12


def draw_sweep(path: Path, rows: Sequence[Row], swept: Sequence[str], best: Row) -> Path | None:
    """Draw mIoU over what was swept.

    Args:
        path: the PNG.
        rows: as :func:`seg.sweep.results.average_seeds` returns them; a failed job is an empty cell.
        swept: their keys; the last two with an order of their own are the axes.
        best: the row to mark.

    Returns:
        ``path``, or None if nothing was swept.
    """
    from matplotlib.figure import Figure

    keys = choose_axes(rows, swept)
    if not keys:
        return None
    others = [key for key in swept if key not in keys]
    frame = pd.DataFrame(rows).assign(miou=[number(row["miou"]) for row in rows])
    panels = dict(list(frame.groupby(others, sort=False))) if others else {(): frame}
    ranked = sorted(panels, key=lambda name: panels[name]["miou"].fillna(0).max(), reverse=True)[:MOST_PANELS]
    shown = {name: part for name, part in panels.items() if name in ranked}
    values = [sorted(frame[key].unique(), key=sortable) for key in keys]
    limits = frame["miou"].min(), frame["miou"].max()
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    width = max(4.5, 0.55 * len(values[-1]) + 2)
    height = max(3.5, 0.32 * len(values[0]) + 1.4) if len(keys) == 2 else 4
    figure = Figure(figsize=(width * columns, height * lines), dpi=110, facecolor="white", layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, (name, part) in zip(grid.flat, shown.items(), strict=False):
        mark = best if tuple(best[key] for key in others) == name else None
        if len(keys) == 2:
            image = _heat_map(axes, part.pivot(index=keys[0], columns=keys[1], values="miou"), values, limits, mark)
        else:
            _line(axes, part.set_index(keys[0])["miou"].loc[lambda x: sorted(x.index, key=sortable)], mark)
        axes.set_title(", ".join(f"{k}={v}" for k, v in zip(others, name, strict=True)), fontsize=10, parse_math=False)
    if len(keys) == 2:
        figure.colorbar(image, ax=grid.ravel().tolist(), label="mIoU", shrink=0.9)
    title = f"{best['stage']}, {best['split']}: best {' '.join(f'{key}={best[key]}' for key in swept)}"
    title += f" ({number(best['miou']):.4f}" + (f", mean of {best['seeds']} seeds)" if "seeds" in best else ")")
    if len(shown) < len(panels):
        title += f"; {len(panels) - len(shown)} panels not shown"
    figure.suptitle(title, fontsize=10, parse_math=False)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png")
    return path


def choose_axes(rows: Sequence[Row], swept: Sequence[str]) -> list[str]:
    """One or two keys: epoch and threshold where they are swept, else those with most values."""
    count = {key: len({row[key] for row in rows}) for key in swept}
    ranked = sorted(swept, key=lambda key: (key not in ("epoch", "threshold"), -count[key]))[:2]
    return [key for key in swept if key in ranked]


def _heat_map(
    axes: "Axes",
    table: pd.DataFrame,
    values: Sequence[Sequence[str]],
    limits: tuple[float, float],
    best: Row | None,
) -> Any:
    from matplotlib.patches import Rectangle

    rows, columns = values
    cells = table.reindex(index=list(rows), columns=list(columns)).to_numpy()
    image = axes.imshow(cells, aspect="auto", origin="lower", cmap="viridis", vmin=limits[0], vmax=limits[1])
    axes.set_xticks(range(len(columns)), columns, rotation=90 if len(columns) > 12 else 0, parse_math=False)
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set(xlabel=table.columns.name, ylabel=table.index.name)
    if cells.size <= MOST_WRITTEN:
        for (y, x), value in np.ndenumerate(cells):
            colour = "black" if np.isnan(value) or value > sum(limits) / 2 else "white"
            axes.text(
                x, y, "-" if np.isnan(value) else f"{value:.3f}", ha="center", va="center", fontsize=7, color=colour
            )
    if best is not None:
        corner = columns.index(best[str(table.columns.name)]) - 0.5, rows.index(best[str(table.index.name)]) - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2))
    return image


def _line(axes: "Axes", line: "pd.Series[float]", best: Row | None) -> None:
    places = [number(name) for name in line.index]
    if any(np.isnan(places)):
        places = list(range(len(line)))
        axes.set_xticks(places, list(line.index), rotation=30, parse_math=False)
    axes.plot(places, line, marker="o", markersize=4, linewidth=1.5)
    if best is not None:
        place = places[line.index.get_loc(best[str(line.index.name)])]
        axes.plot(place, number(best["miou"]), "o", markersize=11, mfc="none", mec="red", mew=3)
    axes.set(xlabel=line.index.name, ylabel="mIoU")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
