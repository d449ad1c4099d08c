"""The picture of a sweep: a heat map over two swept keys, a line over one, small multiples over more."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
        rows: as :class:`seg.sweep.results.Results` reads them; a failed job is an empty cell.
        swept: the swept keys; the last two with an order of their own are the axes.
        best: the row to mark.

    Returns:
        ``path``, or None if nothing was swept.
    """
    from matplotlib.figure import Figure

    axes_keys = choose_axes(rows, swept)
    if not axes_keys:
        return None
    others = [key for key in swept if key not in axes_keys]
    panels: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        panels.setdefault(tuple(row[key] for key in others), []).append(row)
    figures = {name: [number(row["miou"]) for row in part] for name, part in panels.items()}
    ranked = sorted(panels, key=lambda name: -max((x for x in figures[name] if not np.isnan(x)), default=0))
    shown = [name for name in panels if name in ranked[:MOST_PANELS]]
    values = np.asarray([number(row["miou"]) for row in rows])
    limits = (float(np.nanmin(values)), float(np.nanmax(values)))
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    x_values, y_values = (ordered(rows, axes_keys[-1]), ordered(rows, axes_keys[0]))
    width = max(4.5, 0.55 * len(x_values) + 2)
    height = max(3.5, 0.32 * len(y_values) + 1.4) if len(axes_keys) == 2 else 4
    figure = Figure(figsize=(width * columns, height * lines), dpi=110, facecolor="white", layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, shown, strict=False):
        mark = best if tuple(best[key] for key in others) == name else None
        if len(axes_keys) == 2:
            image = _heat_map(axes, panels[name], axes_keys, (y_values, x_values), limits, mark)
        else:
            _line(axes, panels[name], axes_keys[0], mark)
        axes.set_title(", ".join(f"{k}={v}" for k, v in zip(others, name, strict=True)), fontsize=10, parse_math=False)
    if len(axes_keys) == 2:
        figure.colorbar(image, ax=grid.ravel().tolist(), label="mIoU", shrink=0.9)
    chosen = " ".join(f"{key}={best[key]}" for key in swept)
    dropped = len(panels) - len(shown)
    more = f"; {dropped} panels not shown" if dropped else ""
    figure.suptitle(
        f"{best['stage']}, {best['split']}: best {chosen} ({number(best['miou']):.4f}){more}",
        fontsize=10,
        parse_math=False,
    )
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png")
    return path


def choose_axes(rows: Sequence[Row], swept: Sequence[str]) -> list[str]:
    """One or two keys: epoch and threshold where they are swept, else those with most values."""
    count = {key: len({row[key] for row in rows}) for key in swept}
    ranked = sorted(swept, key=lambda key: (key not in ("epoch", "threshold"), -count[key]))[:2]
    return [key for key in swept if key in ranked]


def ordered(rows: Sequence[Row], key: str) -> list[str]:
    """The values of a key, numbers by size."""
    return sorted({row[key] for row in rows}, key=sortable)


def _heat_map(
    axes: "Axes",
    rows: Sequence[Row],
    keys: Sequence[str],
    values: tuple[Sequence[str], Sequence[str]],
    limits: tuple[float, float],
    best: Mapping[str, Any] | None,
) -> Any:
    from matplotlib.patches import Rectangle

    y_values, x_values = values
    table = np.full((len(y_values), len(x_values)), np.nan)
    for row in rows:
        table[y_values.index(row[keys[0]]), x_values.index(row[keys[1]])] = number(row["miou"])
    image = axes.imshow(table, aspect="auto", origin="lower", cmap="viridis", vmin=limits[0], vmax=limits[1])
    axes.set_xticks(range(len(x_values)), x_values, rotation=90 if len(x_values) > 12 else 0, parse_math=False)
    axes.set_yticks(range(len(y_values)), y_values, parse_math=False)
    axes.set_xlabel(keys[1])
    axes.set_ylabel(keys[0])
    if table.size <= MOST_WRITTEN:
        middle = (limits[0] + limits[1]) / 2
        for (y, x), value in np.ndenumerate(table):
            text = "-" if np.isnan(value) else f"{value:.3f}"
            colour = "black" if np.isnan(value) or value > middle else "white"
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
    if best is not None:
        corner = (x_values.index(best[keys[1]]) - 0.5, y_values.index(best[keys[0]]) - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2))
    return image


def _line(axes: "Axes", rows: Sequence[Row], key: str, best: Mapping[str, Any] | None) -> None:
    names = ordered(rows, key)
    by_name = {row[key]: number(row["miou"]) for row in rows}
    places = [number(name) for name in names]
    if any(np.isnan(places)):
        places = list(range(len(names)))
        axes.set_xticks(places, names, rotation=30, parse_math=False)
    axes.plot(places, [by_name[name] for name in names], marker="o", markersize=4, linewidth=1.5)
    if best is not None:
        axes.plot(
            places[names.index(best[key])], number(best["miou"]), "o", markersize=11, mfc="none", mec="red", mew=3
        )
    axes.set_xlabel(key)
    axes.set_ylabel("mIoU")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
