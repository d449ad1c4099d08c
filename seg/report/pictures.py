"""Pictures for people: a panel of images by stage, and the curves of the training runs.

Matplotlib is imported inside the functions, and without pyplot: a run that draws nothing does not wait for it,
and no display is needed or touched.
"""

import io
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
from seg.models.png import voc_palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RGB = tuple[int, int, int]

# No pet is magenta: the foreground has to stand out from ginger fur as well as from grass.
COLOURS: dict[int, RGB] = {0: (38, 84, 160), 1: (240, 30, 120), BORDER: (250, 215, 50), UNKNOWN: (150, 150, 150)}
NAMES = {0: "background", 1: "foreground", BORDER: "border", UNKNOWN: "undecided"}
SCORE_MAP = "inferno"  # dark to bright in even steps: reads the same in grey and to the colour-blind

CELL, GAP = 176, 6  # pixels
LEFT, TOP, BOTTOM = 46, 58, 64
LINE = 18  # of the legend, each below the first
DPI = 100
BLOCK = 1_000_000  # pixels that are worked on at a time
PALETTE_ABOVE = 1_400_000  # bytes of PNG


class Key(NamedTuple):
    """What masks' codes mean, and in what colour they are drawn.

    Attributes:
        colours: by code. names: by code.
    """

    colours: Mapping[int, RGB]
    names: Mapping[int, str]

    @property
    def legend(self) -> list[tuple[int, str, str]]:
        """Code, name and ``#rrggbb``, in order."""
        return [(code, name, "#{:02x}{:02x}{:02x}".format(*self.colours[code])) for code, name in self.names.items()]


#: Of masks of the foreground alone.
FOREGROUND = Key(COLOURS, NAMES)


def class_key(names: Sequence[str]) -> Key:
    """Classes in Pascal VOC's colours, which people know; the border in the one that VOC gives its own.

    Args:
        names: what the codes mean, from 0, background, on.
    """
    palette = [(r, g, b) for r, g, b in voc_palette().tolist()]
    last = {BORDER: NAMES[BORDER], UNKNOWN: NAMES[UNKNOWN]}
    colours = dict(enumerate(palette[: len(names)])) | {BORDER: palette[255], UNKNOWN: COLOURS[255]}
    return Key(colours, dict(enumerate(names)) | last)


def overlay(
    photo: NDArray[np.uint8], mask: NDArray[np.uint8], alpha: float = 0.6, key: Key = FOREGROUND
) -> NDArray[np.uint8]:
    """The mask's colours over the photo; undecided pixels are grey with diagonal lines.

    Args:
        photo: uint8 (H, W, 3).
        mask: uint8 (H, W): 0 background, 1 foreground, 254 border, 255 undecided or no truth; or the codes of ``key``.
        alpha: weight of the colour in [0, 1]; background gets half of it, so that the object stands out.
        key: what has which colour.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: if the shapes do not fit, or on another code.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or mask.shape != photo.shape[:2]:
        raise ValueError(f"photo {photo.shape} and mask {mask.shape} have to be (H, W, 3) and (H, W)")
    unknown = set(np.unique(mask).tolist()) - set(key.colours)
    if unknown:
        *most, last = map(str, key.colours)
        raise ValueError(f"mask holds the codes {sorted(unknown)}: only {', '.join(most)} and {last} have colours")
    colour, weight = np.zeros((256, 3), np.float32), np.full(256, alpha, np.float32)
    for code, rgb in key.colours.items():
        colour[code] = rgb
    weight[0] = alpha / 2
    period = max(6, min(mask.shape) // 20)  # the same hatching, however large the picture
    out = np.empty_like(photo)
    # So many rows at a time: a photo of 80 megapixels would take gigabytes of intermediate results.
    step = max(1, BLOCK // max(1, mask.shape[1]))
    for top in range(0, len(mask), step):
        part, codes = photo[top : top + step], mask[top : top + step]
        undecided = codes == 255
        paint, share = colour[codes], weight[codes][..., None]
        rows, columns = np.indices(codes.shape)
        hatched = undecided & ((rows + top + columns) % period < max(1, period // 4))
        paint[hatched] = 70
        under = np.where(undecided[..., None], part.mean(2, keepdims=True), part)
        out[top : top + step] = np.rint(under * (1 - share) + paint * share).astype(np.uint8)
    return out


def score_overlay(photo: NDArray[np.uint8], score: NDArray[np.floating], alpha: float = 0.7) -> NDArray[np.uint8]:
    """A score map in fixed colours for 0 to 1 over the grey photo; unknown (NaN) stays grey.

    Args:
        photo: uint8 (H, W, 3).
        score: float (h, w) in [0, 1] of any size; upsampled bilinearly, align_corners=False.
        alpha: weight of the colour in [0, 1].

    Returns:
        uint8 (H, W, 3).
    """
    import torch
    from matplotlib import colormaps

    tensor = torch.from_numpy(np.ascontiguousarray(score, np.float32))[None, None]
    large = torch.nn.functional.interpolate(tensor, photo.shape[:2], mode="bilinear", align_corners=False)
    values = large[0, 0].numpy()
    paint = colormaps[SCORE_MAP](np.clip(np.nan_to_num(values), 0, 1))[..., :3] * 255
    grey = photo.mean(2, keepdims=True)
    share = np.where(np.isnan(values), 0, alpha)[..., None]
    return np.rint(grey * (1 - share) + paint * share).astype(np.uint8)


def picture(photo: NDArray, array: NDArray, name: str, key: Key = FOREGROUND) -> NDArray[np.uint8]:
    """What is shown of one image in one column.

    Args:
        photo: uint8 (H, W, 3). array: the photo, a float (h, w) score map, or a uint8 (h, w) mask.
        name: what it is, for the error. key: the colours of masks.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: for an array of no known kind.
    """
    if array.ndim == 3:
        return array
    if array.ndim == 2 and np.issubdtype(array.dtype, np.floating):
        return score_overlay(photo, array)
    if array.ndim == 2 and array.dtype == np.uint8:
        # A mask of another size than the photo is still worth seeing; codes are never blended.
        fitted = Image.fromarray(array).resize(photo.shape[1::-1], Image.Resampling.NEAREST)
        return overlay(photo, np.asarray(fitted), key=key)
    raise ValueError(f"{name} is {array.dtype} {array.shape}: no photo, float map or uint8 mask")


def panel(
    path: Path,
    rows: Sequence[Mapping[str, NDArray | None]],
    columns: Sequence[str],
    names: Sequence[tuple[str, str]] = (),
    heading: str = "",
    key: Key = FOREGROUND,
) -> Path:
    """Write a grid of pictures as PNG: an image per row, a step per column.

    Args:
        path: the PNG to write; its folder is made.
        rows: per image its arrays by column. ``photo`` uint8 (H, W, 3) has to be there; a float (h, w)
            array is drawn as score map, a uint8 (h, w) one as mask (codes of ``key``);
            None or no entry is a cell that says "none".
        columns: the keys of ``rows`` to draw, in order; they are its titles.
        names: per row the image's id and its class, or what else has to stand beside it.
        heading: a line above all.
        key: the colours of masks. The legend has all of the foreground's, and of classes those that are drawn.

    Returns:
        ``path``.

    Raises:
        ValueError: without rows, without a photo, or with an array of no known kind.
    """
    from matplotlib.figure import Figure

    if not rows or not columns:
        raise ValueError("a panel needs at least one row and one column")
    shown = [array for row in rows for name in columns if (array := row.get(name)) is not None]
    entries = _entries(key, [array for array in shown if array.ndim == 2 and array.dtype == np.uint8])
    width, height = panel_size(len(rows), len(columns), entries)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.suptitle(
        heading, x=LEFT / width, y=1 - 10 / height, ha="left", va="top", fontsize=11, weight="bold", parse_math=False
    )
    x, y, w, h = cell_box(len(rows) - 1, len(columns) - 1)
    place = {"left": LEFT / width, "right": (x + w) / width, "top": 1 - TOP / height, "bottom": 1 - (y + h) / height}
    cells = figure.subplots(
        len(rows), len(columns), squeeze=False, gridspec_kw=place | {"wspace": GAP / CELL, "hspace": GAP / CELL}
    )
    for r, row in enumerate(rows):
        for c, name in enumerate(columns):
            axes, array = cells[r, c], row.get(name)
            axes.set(xticks=[], yticks=[], facecolor="#f2f2f2", frame_on=array is None)
            axes.spines[:].set_color("#cccccc")
            if array is None:
                axes.text(0.5, 0.5, "none", ha="center", va="center", fontsize=11, color="#888888")
            elif (photo := row.get("photo")) is None:
                raise ValueError(f"the row of a panel that shows {name} lacks its photo")
            else:
                axes.imshow(picture(photo, array, name, key), interpolation="antialiased")
    for c, name in enumerate(columns):
        cells[0, c].set_title(shorten(name, 26), fontsize=10, parse_math=False)
    for r, lines in enumerate(names):
        cells[r, 0].set_ylabel("\n".join(shorten(line, 25) for line in lines), fontsize=8.5, parse_math=False)
    _legend(figure, width, height, entries)
    return _save(figure, path)


Entries = Sequence[tuple[int, str, str]]


def _entries(key: Key, masks: Sequence[NDArray[np.uint8]]) -> Entries:
    """Of the legend: all of the foreground's, of classes those that masks have."""
    found = set(np.concatenate([np.unique(mask) for mask in masks])) if masks else set()
    return [
        (code, shorten(name, 25), colour) for code, name, colour in key.legend if key is FOREGROUND or code in found
    ]


def _legend(figure: "Figure", width: int, height: int, entries: Entries) -> None:
    """What the colours mean, at the foot."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=colour, hatch="////" if code == UNKNOWN else "", label=code, edgecolor="#444444", lw=0.5)
        for code, _, colour in entries
    ]
    columns = _legend_columns(width, entries)
    legend = figure.legend(handles=patches, loc=(LEFT / width, 14 / height), ncols=columns, fontsize=8.5, frameon=False)
    for text, (_, name, _) in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(name)  # a label that begins with _ would be left out
    if width >= 800:  # there is room beside the codes
        bar = figure.add_axes(((width - 260) / width, 30 / height, 250 / width, 10 / height))
        figure.colorbar(ScalarMappable(cmap=SCORE_MAP), bar, orientation="horizontal", ticks=[0, 0.5, 1])
        bar.tick_params(labelsize=8, length=2)
        bar.set_title("score", fontsize=8.5, pad=2)


def _legend_columns(width: int, entries: Entries) -> int:
    """How many entries of the legend are side by side, left of the colours of scores."""
    widest = 57 + 6.2 * max((len(name) for _, name, _ in entries), default=0)
    room = width - LEFT - (270 if width >= 800 else 0) + 24  # less the space between two
    return max(1, min(len(entries), int(room / widest)))


def panel_size(rows: int, columns: int, entries: Entries = FOREGROUND.legend) -> tuple[int, int]:
    """Width and height in pixels of the PNG that `panel` writes with these entries of the legend."""
    x, y, w, h = cell_box(rows - 1, columns - 1)
    width = max(x + w + GAP, 540)
    lines = -(-len(entries) // _legend_columns(width, entries))
    return width, y + h + BOTTOM + LINE * max(0, lines - 1)


def cell_box(row: int, column: int) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels of a cell in the PNG that `panel` writes."""
    return LEFT + column * (CELL + GAP), TOP + row * (CELL + GAP), CELL, CELL


def curves(path: Path, history: Mapping[str, pd.DataFrame]) -> Path:
    """Write loss and metric curves as PNG: a column per network, losses above, metrics below.

    Args:
        path: the PNG to write; its folder is made.
        history: per network a table with ``epoch``, and columns of numbers; a name that contains "loss"
            goes above, every other below. ``lr`` and ``seconds`` are left out. An empty cell is a gap.

    Returns:
        ``path``.

    Raises:
        ValueError: without networks, or if a table has no ``epoch``.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not history:
        raise ValueError("curves need the history of at least one network")
    figure = Figure(figsize=(3.6 * len(history) + 0.4, 5.2), dpi=110, layout="constrained")
    grid = figure.subplots(2, len(history), squeeze=False)
    for c, (name, table) in enumerate(history.items()):
        if "epoch" not in table:
            raise ValueError(f"the history of {name} has no column 'epoch'")
        numbers = [str(key) for key in table.select_dtypes("number") if key not in ("epoch", "lr", "seconds")]
        losses = [key for key in numbers if "loss" in key]
        others = [key for key in numbers if key not in losses]
        grid[0, c].set_title(name, fontsize=11, fontweight="bold", parse_math=False)
        for axes, keys, kind in ((grid[0, c], losses, "loss"), (grid[1, c], others, "metric")):
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
                axes.text(0.5, 0.5, f"no {kind}", transform=axes.transAxes, ha="center", color="#888888")
    return _save(figure, path)


def _save(figure: "Figure", path: Path) -> Path:
    """PNG in one step, with a palette of 256 colours if it would be large without."""
    figure.savefig(drawn := io.BytesIO(), dpi="figure")
    image = Image.open(drawn, formats=["PNG"]).convert("RGB")
    image.save(small := io.BytesIO(), format="PNG")
    if small.tell() > PALETTE_ABOVE:
        palette = image.quantize(256, Image.Quantize.MEDIANCUT)
        palette = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        palette.save(small := io.BytesIO(), format="PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as tmp:
        tmp.write_bytes(small.getvalue())
    return path
