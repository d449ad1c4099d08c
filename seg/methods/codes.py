"""Codes of masks: 0 is background, classes are from 1 on. Colours of mask files."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: 254: the border between object and background in ground truth. 255: no ground truth, no decision, or ignored.
BORDER, UNKNOWN = 254, 255


def voc_palette() -> "npt.NDArray[np.uint8]":
    """The 256 colours of Pascal VOC's masks, ``uint8 (256, 3)``: the index's bits, dealt to red, green, blue."""
    import numpy as np

    index, channel, bit = np.ogrid[:256, :3, :8]
    return ((((index >> (3 * bit + channel)) & 1) << (7 - bit)).sum(axis=2)).astype(np.uint8)
