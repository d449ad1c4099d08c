"""Pictures: masks and scores over photos, a panel of images by step, the curves of the trainings.

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
from seg.models.mask_files import voc_palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RGB = tuple[int, int, int]

SCORE_MAP = "inferno"  # dark to bright in even steps: reads the same in grey and to the colour-blind
BLOCK = 1_000_000  # pixels that are worked on at a time


class Key(NamedTuple):
    """What masks' codes mean, and in what colour they are drawn: both by code."""

    colours: Mapping[int, RGB]
    names: Mapping[int, str]

    @property
    def legend(self) -> list[tuple[int, str, str]]:
        """Code, name and ``#rrggbb``, in order."""
        return [(code, name, "#{:02x}{:02x}{:02x}".format(*self.colours[code])) for code, name in self.names.items()]


#: Of masks of the foreground alone. No pet is magenta: it stands out from ginger fur as well as from grass.
FOREGROUND = Key(
    {0: (38, 84, 160), 1: (240, 30, 120), BORDER: (250, 215, 50), UNKNOWN: (150, 150, 150)},
    {0: "background", 1: "foreground", BORDER: "border", UNKNOWN: "undecided"},
)


def class_key(names: Sequence[str]) -> Key:
    """The key of classes in Pascal VOC's colours; ``names`` are those of the codes from 0, the background, on."""
    palette = [(r, g, b) for r, g, b in voc_palette().tolist()]
    last = {BORDER: palette[255], UNKNOWN: FOREGROUND.colours[UNKNOWN]}
    colours = dict(enumerate(palette[: len(names)])) | last
    return Key(colours, dict(enumerate(names)) | {BORDER: "border", UNKNOWN: "undecided"})


def overlay(
    photo: NDArray[np.uint8], mask: NDArray[np.uint8], alpha: float = 0.6, key: Key = FOREGROUND
) -> NDArray[np.uint8]:
    """The mask's colours over the photo; undecided pixels are grey with diagonal lines.

    Args:
        photo: ``uint8 (H, W, 3)``. mask: ``uint8 (H, W)``, codes of ``key``.
        alpha: weight of the colour in [0, 1]; background gets half of it, so that the object stands out.

    Returns:
        ``uint8 (H, W, 3)``.

    Raises:
        ValueError: if the shapes do not fit, or on another code.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or mask.shape != photo.shape[:2]:
        raise ValueError(f"photo {photo.shape} and mask {mask.shape} have to be (H, W, 3) and (H, W)")
    if unknown := set(np.unique(mask).tolist()) - set(key.colours):
        raise ValueError(f"mask holds the codes {sorted(unknown)}, which have no colours")
    colour, weight = np.zeros((256, 3), np.float32), np.full(256, alpha, np.float32)
    colour[list(key.colours)] = list(key.colours.values())
    weight[0] = alpha / 2
    period = max(6, min(mask.shape) // 20)  # the same hatching, however large the picture
    out = np.empty_like(photo)
    # So many rows at a time: a photo of 80 megapixels would take gigabytes of intermediate results.
    step = max(1, BLOCK // max(1, mask.shape[1]))
    for top in range(0, len(mask), step):
        part, codes = photo[top : top + step], mask[top : top + step]
        undecided = codes == UNKNOWN
        paint, share = colour[codes], weight[codes][..., None]
        rows, columns = np.indices(codes.shape)
        paint[undecided & ((rows + top + columns) % period < max(1, period // 4))] = 70
        under = np.where(undecided[..., None], part.mean(2, keepdims=True), part)
        out[top : top + step] = np.rint(under * (1 - share) + paint * share).astype(np.uint8)
    return out


def score_overlay(photo: NDArray[np.uint8], score: NDArray[np.floating], alpha: float = 0.7) -> NDArray[np.uint8]:
    """A score map in fixed colours for 0 to 1 over the grey photo; unknown (NaN) stays grey.

    Args:
        photo: ``uint8 (H, W, 3)``. score: ``float (h, w)`` in [0, 1] of any size, upsampled bilinearly.
        alpha: weight of the colour in [0, 1].

    Returns:
        ``uint8 (H, W, 3)``.
    """
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
    # A mask of another size than the photo is still worth seeing; codes are never blended.
    fitted = Image.fromarray(array).resize(photo.shape[1::-1], Image.Resampling.NEAREST)
    return overlay(photo, np.asarray(fitted), key=key)


def panel(
    path: Path,
    rows: Sequence[Mapping[str, NDArray]],
    names: Sequence[str] = (),
    heading: str = "",
    key: Key = FOREGROUND,
) -> Path:
    """Write a grid of pictures as PNG: an image per row, a step per column.

    Args:
        path: the PNG to write; its folder is made.
        rows: per image its arrays by column, as :func:`picture` takes them; ``photo`` has to be there. The longest has
            all columns; what another lacks is a cell that says "none".
        names: what stands beside each row. heading: a line above all.
        key: the colours of masks. The legend has all of the foreground's, and of classes those that are drawn.

    Returns:
        ``path``.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = [*max(rows, key=len)]
    width = max(1.82 * len(columns) + 0.5, 5.4)
    masks = [array for row in rows for array in row.values() if array.ndim == 2 and array.dtype == np.uint8]
    found = {code for mask in masks for code in np.unique(mask).tolist()}
    entries = [(shorten(name, 25), rgb, code) for code, name, rgb in key.legend if key is FOREGROUND or code in found]
    entries += [(f"score {value:g}", to_hex(colormaps[SCORE_MAP](value)), 0) for value in (0.0, 0.5, 1.0)]
    patches = [
        Patch(facecolor=rgb, hatch="////" if code == UNKNOWN else "", label=f" {name}", edgecolor="#444444", lw=0.5)
        for name, rgb, code in entries
    ]
    widest = 57 + 6.2 * max(len(name) for name, *_ in entries)
    beside = max(1, min(len(entries), int(100 * width / widest)))
    lines = -(-len(entries) // beside)
    figure = Figure(figsize=(width, 1.75 * len(rows) + 0.8 + 0.2 * lines), dpi=100, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)  # type: ignore[union-attr, call-arg]
    figure.suptitle(heading, x=0.01, ha="left", fontsize=11, weight="bold", parse_math=False)
    cells = figure.subplots(len(rows), len(columns), squeeze=False)
    for r, row in enumerate(rows):
        for c, name in enumerate(columns):
            axes = cells[r, c]
            axes.set(xticks=[], yticks=[], facecolor="#f2f2f2", frame_on=name not in row, aspect="equal")
            axes.spines[:].set_color("#cccccc")
            if name in row:
                axes.imshow(picture(row["photo"], row[name], key), interpolation="antialiased")
            else:
                axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", color="#888888")
    for c, name in enumerate(columns):
        cells[0, c].set_title(shorten(name, 26), fontsize=10, parse_math=False)
    for r, name in enumerate(names):
        cells[r, 0].set_ylabel(name, fontsize=8.5, parse_math=False)
    legend = figure.legend(handles=patches, loc="outside lower left", ncols=beside, fontsize=8.5, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return _save(figure, path)


def curves(path: Path, history: Mapping[str, pd.DataFrame]) -> Path:
    """Write loss and metric curves as PNG: a column per network, losses above, metrics below.

    Args:
        path: the PNG to write; its folder is made.
        history: per network a table with ``epoch``, and columns of numbers; a name that contains "loss"
            goes above, every other but ``seconds`` below. An empty cell is a gap.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(3.6 * len(history) + 0.4, 5.2), dpi=110, layout="constrained")
    grid = figure.subplots(2, len(history), squeeze=False)
    for c, (name, table) in enumerate(history.items()):
        numbers = [str(key) for key in table.select_dtypes("number") if key not in ("epoch", "seconds")]
        losses = [key for key in numbers if "loss" in key]
        grid[0, c].set_title(name, fontsize=11, fontweight="bold", parse_math=False)
        for axes, keys, kind in (
            (grid[0, c], losses, "loss"),
            (grid[1, c], [k for k in numbers if k not in losses], "metric"),
        ):
            for key in keys:
                drawn = table[["epoch", key]].dropna()
                axes.plot(drawn["epoch"], drawn[key], marker="o", markersize=3.5, linewidth=1.6, label=key)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            if c == 0:
                axes.set_ylabel(kind)
            if keys:
                axes.legend(fontsize=8, frameon=False)
            else:
                axes.set_axis_off()
    return _save(figure, path)


def _save(figure: "Figure", path: Path) -> Path:
    """PNG in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, dpi="figure", format="png")
    return path
