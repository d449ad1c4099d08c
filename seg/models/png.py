"""A mask as PNG, in one of three kinds."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PNGKind = Literal["png255", "png01", "palette"]


def save_png(path: Path, mask: "npt.NDArray[np.uint8]", kind: PNGKind, label: int = 0) -> None:
    """Write one mask as PNG.

    * ``png255``: 0 background, 255 foreground, 128 ignored. ``png01``: 0, 1, and 255 ignored.
    * ``palette``: indexed PNG in Pascal VOC's way and colours: 0 background, 1 + label foreground, 255 ignored.

    Args:
        path: the file, whatever its ending. mask: ``uint8 (H, W)`` of 0, 1, 255. label: counts for ``palette`` alone.
    """
    import numpy as np
    from PIL import Image

    codes = np.full(256, 128 if kind == "png255" else 255, np.uint8)
    codes[[0, 1]] = 0, {"png255": 255, "png01": 1}.get(kind, label + 1)
    image = Image.fromarray(codes[mask])
    if kind == "palette":
        image = image.convert("P")
        image.putpalette(voc_palette().ravel().tolist())
    image.save(path, format="PNG")


def voc_palette() -> "npt.NDArray[np.uint8]":
    """The 256 colours of Pascal VOC's masks, ``uint8 (256, 3)``: the index's bits, dealt to red, green, blue."""
    import numpy as np

    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette
