"""Pictures: masks and scores over photos, a panel of images by step, the curves of the trainings, calibration.

Matplotlib is imported inside the functions and used without pyplot: a run that draws nothing does not wait for it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from seg.data.dataset import BORDER, UNKNOWN
from seg.files import atomic_path
from seg.format import shorten
from seg.methods.calibration import Reliability
from seg.methods.codes import voc_palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RGB = tuple[int, int, int]

_STRIP = 256  # rows of a photo that are painted at a time: a whole large photo would take gigabytes

SCORE_MAP = "inferno"  # even in brightness: readable in grey and for the colour-blind


class Key(NamedTuple):
    """Names and colours of the codes in masks."""

    colours: Mapping[int, RGB]
    names: Mapping[int, str]

    @property
    def legend(self) -> list[tuple[int, str, str]]:
        """Code, name and ``#rrggbb``, in order."""
        return [(code, name, "#{:02x}{:02x}{:02x}".format(*self.colours[code])) for code, name in self.names.items()]


#: For masks of the foreground. Magenta stands out from fur and grass. Undecided is white: grey is one of VOC's colours.
FOREGROUND = Key(
    {0: (38, 84, 160), 1: (240, 30, 120), BORDER: (250, 215, 50), UNKNOWN: (255, 255, 255)},
    {0: "background", 1: "foreground", BORDER: "border", UNKNOWN: "undecided"},
)


def class_key(names: Sequence[str]) -> Key:
    """The key of classes in Pascal VOC's colours; ``names`` start with the background's."""
    palette = [(r, g, b) for r, g, b in voc_palette().tolist()]
    last = {BORDER: palette[255], UNKNOWN: FOREGROUND.colours[UNKNOWN]}
    colours = dict(enumerate(palette[: len(names)])) | last
    return Key(colours, dict(enumerate(names)) | {BORDER: "border", UNKNOWN: "undecided"})


def overlay(photo: NDArray[np.uint8], mask: NDArray, alpha: float = 0.6, key: Key = FOREGROUND) -> NDArray[np.uint8]:
    """The colours of a mask ``uint8 (H, W)`` over a photo ``uint8 (H, W, 3)``, with the weight ``alpha`` in [0, 1].

    Background gets half of it, so that the object stands out.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[list(key.colours)] = list(key.colours.values())
    weights = [round(255 * alpha * (0.5 if code == 0 else 1)) for code in range(256)]
    out = np.empty_like(photo)
    for rows in (slice(top, top + _STRIP) for top in range(0, len(photo), _STRIP)):
        strip = Image.fromarray(mask[rows])
        paint = strip.convert("P")
        paint.putpalette(colours.ravel().tolist())
        blend = Image.composite(paint.convert("RGB"), Image.fromarray(photo[rows]), strip.point(weights))
        out[rows] = np.asarray(blend)
    return out


def score_overlay(photo: NDArray[np.uint8], score: NDArray, alpha: float = 0.7) -> NDArray[np.uint8]:
    """A score map ``float (h, w)`` in [0, 1] in fixed colours over the grey photo; unknown (NaN) stays grey."""
    from matplotlib import colormaps

    from seg.nets.resize import upsample

    values = upsample(np.ascontiguousarray(score, np.float32)[None], photo.shape[:2])[0]
    paint = colormaps[SCORE_MAP](np.clip(np.nan_to_num(values), 0, 1))[..., :3] * 255
    share = np.where(np.isnan(values), 0, alpha)[..., None]
    return np.rint(photo.mean(2, keepdims=True) * (1 - share) + paint * share).astype(np.uint8)


def picture(photo: NDArray[np.uint8], array: NDArray, key: Key = FOREGROUND) -> NDArray[np.uint8]:
    """``uint8 (H, W, 3)`` of a photo ``(H, W, 3)``, a float ``(h, w)`` score map, or a ``uint8 (h, w)`` mask."""
    if array.ndim == 3:
        return array
    if np.issubdtype(array.dtype, np.floating):
        return score_overlay(photo, array)
    # Nearest neighbour: codes must not be blended.
    fitted = Image.fromarray(array).resize(photo.shape[1::-1], Image.Resampling.NEAREST)
    return overlay(photo, np.asarray(fitted), key=key)


def panel(
    path: Path, rows: Sequence[Mapping[str, NDArray]], names: Sequence[str], heading: str = "", key: Key = FOREGROUND
) -> Path:
    """Write a grid of pictures as PNG: an image per row, a step per column.

    Args:
        path: the PNG to write; its folder is made.
        rows: per image its arrays by column, as for :func:`picture`, ``photo`` among them. The longest row has all
            columns; missing cells stay empty.
        names: of the rows. heading: above the grid. key: the colours of masks.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = [*max(rows, key=len)]
    masks = [array for row in rows for array in row.values() if array.ndim == 2 and array.dtype == np.uint8]
    found = {code for mask in masks for code in np.unique(mask).tolist()}
    patches = [Patch(facecolor=rgb, label=f" {shorten(name, 25)}") for code, name, rgb in key.legend if code in found]
    width = max(1.82 * len(columns) + 0.5, 5.4)
    figure = Figure(figsize=(width, 1.75 * len(rows) + 1 + 0.05 * len(patches)), layout="constrained")
    figure.suptitle(heading, x=0.01, ha="left", fontsize=11, weight="bold", parse_math=False)
    cells = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, row, name in zip(cells, rows, names, strict=True):
        for one, column in zip(axes, columns, strict=True):
            one.set(xticks=[], yticks=[], frame_on=False)
            if column in row:
                one.imshow(picture(row["photo"], row[column], key), interpolation="antialiased")
        axes[0].set_ylabel(name, fontsize=8.5, parse_math=False)
    for axes, column in zip(cells[0], columns, strict=True):
        axes.set_title(shorten(column, 26), fontsize=10, parse_math=False)
    ncols = max(1, int(width / 1.6))
    legend = figure.legend(handles=patches, loc="outside lower left", ncols=ncols, fontsize=8.5, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return _save(figure, path)


def curves(path: Path, history: Mapping[str, pd.DataFrame]) -> Path:
    """Write loss and metric curves as PNG: a column per network, losses above, metrics below.

    Args:
        path: the PNG to write; its folder is made. history: per network a table with ``epoch`` and columns of numbers;
            ``seconds`` are left out.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(3.6 * len(history) + 0.4, 5.2), dpi=110, layout="constrained")
    grid = figure.subplots(2, len(history), squeeze=False)
    for column, (name, table) in zip(grid.T, history.items(), strict=True):
        numbers = table.set_index("epoch").select_dtypes("number").drop(columns="seconds", errors="ignore")
        losses = [key for key in numbers if "loss" in str(key)]
        column[0].set_title(name, fontsize=11, fontweight="bold", parse_math=False)
        for axes, part in zip(column, (numbers[losses], numbers.drop(columns=losses)), strict=True):
            for key in part:
                axes.plot(part[key].dropna(), marker="o", markersize=3.5, label=str(key))
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.grid(alpha=0.3)
            if len(part.columns):
                axes.legend(fontsize=8, frameon=False)
            else:
                axes.set_axis_off()
    return _save(figure, path)


def calibration(path: Path, split: str, found: Mapping[str, Reliability]) -> Path:
    """Draw the calibration of scores as PNG, a curve per step, with its expected calibration error (ECE).

    Args:
        path: the PNG to write; its folder is made. split: of the pixels. found: by step; at least one.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 5.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, one in found.items():
        axes.plot(one.score, one.share, marker="o", markersize=3.5, label=f"{shorten(name, 40)}, ECE {one.error:.3f}")
    axes.set(xlabel="score", ylabel="share of pixels of the class", xlim=(0, 1), ylim=(0, 1), title=f"{split} images")
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize=8).get_texts():
        text.set_parse_math(False)
    return _save(figure, path)


def _save(figure: "Figure", path: Path) -> Path:
    """PNG in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, dpi="figure", format="png")
    return path
