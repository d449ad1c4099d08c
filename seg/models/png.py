"""A mask as PNG, in one of three kinds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PNGKind = Literal["png255", "png01", "palette"]

#: What tells beside indexed PNG what the indices mean.
CLASSES = "classes.txt"


def save_png(path: Path, mask: "npt.NDArray[np.uint8]", kind: PNGKind, label: int = 0) -> None:
    """Write one mask of the foreground as PNG.

    * ``png255``: 0 background, 255 foreground, 128 ignored. ``png01``: 0, 1, and 255 ignored.
    * ``palette``: as :func:`save_indexed`, with 0 background, 1 + label foreground, 255 ignored.

    Args:
        path: the file, whatever its ending. mask: ``uint8 (H, W)`` of 0, 1, 255. label: counts for ``palette`` alone.
    """
    import numpy as np
    from PIL import Image

    codes = np.full(256, 128 if kind == "png255" else 255, np.uint8)
    codes[[0, 1]] = 0, {"png255": 255, "png01": 1}.get(kind, label + 1)
    if kind == "palette":
        save_indexed(path, codes[mask])
    else:
        Image.fromarray(codes[mask]).save(path, format="PNG")


def save_indexed(path: Path, codes: "npt.NDArray[np.uint8]") -> None:
    """Write one mask as indexed PNG in Pascal VOC's way and colours, whose pixels are the codes.

    Args:
        path: the file, whatever its ending. codes: ``uint8 (H, W)``: 0 background, ``1 + class``, 255 ignored.
    """
    from PIL import Image

    image = Image.fromarray(codes).convert("P")
    image.putpalette(voc_palette().ravel().tolist())
    image.save(path, format="PNG")


def write_classes(path: Path, names: Sequence[str]) -> None:
    """Write a line for every index of indexed PNG: the number and its name.

    Args:
        path: the file. names: by code, ``background`` first.
    """
    lines = [f"{code} {' '.join(name.splitlines())}" for code, name in enumerate(names)]
    path.write_text("\n".join([*lines, "255 ignored"]) + "\n", encoding="utf-8")


def voc_palette() -> "npt.NDArray[np.uint8]":
    """The 256 colours of Pascal VOC's masks, ``uint8 (256, 3)``: the index's bits, dealt to red, green, blue."""
    import numpy as np

    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette
