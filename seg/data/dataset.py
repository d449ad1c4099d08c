"""What a data set is to the rest of the program: an ordered list of records."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seg.methods.codes import BORDER as BORDER
from seg.methods.codes import UNKNOWN as UNKNOWN

Split = Literal["trainval", "test"]
Box = tuple[float, float, float, float]
#: How ground truth's file is coded, see :func:`seg.data.decode.decode_trimap`.
Codes = Literal["trimap", "binary", "ids", "classes"]
#: What the colours (red, green, blue) of RGB masks stand for: codes as of ``classes``.
Colours = dict[tuple[int, int, int], int]
#: What a mask tells apart: an object of any class from what is behind it, or the classes too.
Task = Literal["foreground", "classes"]

#: Classes of a data set at most: their masks' codes run from 1 to below those.
MOST_CLASSES = BORDER - 1
#: What the one class of ``task=foreground`` is called.
FOREGROUND = "foreground"


@dataclass(frozen=True)
class Region:
    """A part of an image that is of a class, as an annotation file draws it.

    Attributes:
        code: what the ground truth says there: ``1 + class``, or 255 where it says nothing (a crowd).
        polygons: outlines ``x0, y0, x1, y1, ...`` in pixels.
        runs: or lengths of runs down the columns, of what is not in the region first (COCO's uncompressed RLE).
    """

    code: int
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Record:
    """One image and every label it came with.

    Attributes:
        id: file stem, unique in the data set.
        image: path of the image file (whatever its extension says, Pillow decides what it is).
        labels: the classes that are in it, ascending indices in ``[0, len(classes))``; () for none of them.
        split: ``trainval`` (may be trained on) or ``test`` (is only evaluated).
        trimap: path of the ground truth, or None.
        boxes: ``(xmin, ymin, xmax, ymax)`` in pixels of the original image, as many as it has.
        codes: how ``trimap`` is coded; the official codes are ``trimap``.
        box_labels: the class of each box; () where all are of the image's one class.
        regions: instead of ``trimap``: what the ground truth is drawn from; () without an object, None for none.
        colours: the codes of an RGB ``trimap``, if it is coded in colours.
    """

    id: str
    image: Path
    labels: tuple[int, ...]
    split: Split
    trimap: Path | None = None
    boxes: tuple[Box, ...] = ()
    codes: Codes = "trimap"
    box_labels: tuple[int, ...] = ()
    regions: tuple[Region, ...] | None = None
    colours: Colours | None = None

    @property
    def has_target(self) -> bool:
        """Whether it came with a mask."""
        return self.trimap is not None or self.regions is not None


@dataclass(frozen=True)
class Dataset:
    """An ordered data set with the warnings of reading it.

    Attributes:
        classes: class names by label.
        records: ordered by split (trainval first), then as listed.
        warnings: count by message.
        examples: up to a few names for each sentence of ``warnings``, for the log.
        folder: the images' names are relative to it; None for their bare names.
    """

    classes: tuple[str, ...]
    records: tuple[Record, ...]
    warnings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def target_is_classes(self) -> bool:
        """Whether its ground-truth masks say of which class a pixel is, and not only that it is of an object."""
        return any(r.regions is not None or (r.trimap is not None and r.codes == "classes") for r in self.records)

    def file_names(self) -> dict[str, str]:
        """By image id, the name of its file for people and for exports, with ``/`` between folders."""
        return {
            r.id: r.image.relative_to(self.folder).as_posix() if self.folder else r.image.name for r in self.records
        }
