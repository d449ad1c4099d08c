"""A mask as PNG, in one of three kinds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seg.methods.codes import voc_palette

if TYPE_CHECKING:  # the command line reads PNGKind, and should not wait for these
    import numpy as np
    import numpy.typing as npt

PNGKind = Literal["png255", "png01", "palette"]

#: The file beside indexed PNG that names the indices.
CLASSES = "classes.txt"


def save_png(path: Path, mask: "npt.NDArray[np.uint8]", kind: PNGKind) -> None:
    """Write a foreground mask, ``uint8 (H, W)`` of 0, 1 and 255 (ignored), whatever the ending of the file.

    ``png255`` has 255 for foreground and 128 for ignored; ``png01`` and ``palette`` keep the codes.
    """
    import numpy as np
    from PIL import Image

    if kind == "palette":
        save_indexed(path, mask)
    else:
        codes = np.where(mask == 1, 255, np.where(mask == 0, 0, 128)) if kind == "png255" else mask
        Image.fromarray(codes.astype(np.uint8)).save(path, format="PNG")


def save_indexed(path: Path, codes: "npt.NDArray[np.uint8]") -> None:
    """Write codes ``uint8 (H, W)`` (0 background, ``1 + class``, 255 ignored) as indexed PNG in VOC's colours."""
    from PIL import Image

    image = Image.fromarray(codes).convert("P")
    image.putpalette(voc_palette().ravel().tolist())
    image.save(path, format="PNG")


def write_classes(path: Path, names: Sequence[str]) -> None:
    """Write a line for every index of indexed PNG: the number and its name, ``background`` first."""
    lines = [f"{code} {' '.join(name.splitlines())}" for code, name in enumerate(names)]
    path.write_text("\n".join([*lines, "255 ignored"]) + "\n", encoding="utf-8")
