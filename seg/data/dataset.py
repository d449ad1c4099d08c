"""A data set: an ordered list of records."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seg.methods.codes import BORDER as BORDER
from seg.methods.codes import UNKNOWN as UNKNOWN

Split = Literal["trainval", "test"]
Box = tuple[float, float, float, float]
#: Coding of ground truth files, see :func:`seg.data.decode.decode_trimap`.
Codes = Literal["trimap", "binary", "ids", "classes"]
#: Codes (as for ``classes``) by the colours (red, green, blue) of RGB masks.
Colours = dict[tuple[int, int, int], int]
#: Whether masks separate the foreground from the background only, or also the classes.
Task = Literal["foreground", "classes"]

#: The largest number of classes: codes 1 to 253 of a mask.
MOST_CLASSES = BORDER - 1
#: Name of the one class of ``task=foreground``.
FOREGROUND = "foreground"


@dataclass(frozen=True)
class Region:
    """A region of an image, from an annotation file.

    Attributes:
        code: ``1 + class``, or 255 for unknown (a crowd).
        polygons: outlines ``x0, y0, x1, y1, ...`` in pixels.
        runs: or COCO's uncompressed RLE: lengths of runs down the columns, background first.
    """

    code: int
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Record:
    """One image with its labels.

    Attributes:
        id: file stem, unique in the data set.
        image: path of the image file.
        labels: the classes in the image, ascending indices in ``[0, len(classes))``.
        split: ``trainval`` (for training) or ``test`` (only evaluated).
        trimap: path of the ground truth, or None.
        boxes: ``(xmin, ymin, xmax, ymax)`` in pixels of the original image.
        codes: coding of ``trimap``; Oxford-IIIT Pet's is ``trimap``.
        box_labels: the class of each box; () if all are of the image's one class.
        regions: instead of ``trimap``: the regions of the ground truth; () without an object, None for no ground truth.
        colours: the codes by colour, if ``trimap`` is an RGB image.
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
        """Whether the image has ground truth."""
        return self.trimap is not None or self.regions is not None


@dataclass(frozen=True)
class Dataset:
    """An ordered data set with the warnings of reading it.

    Attributes:
        classes: class names by label.
        records: ordered by split (trainval first), then as listed.
        warnings: count by message.
        examples: a few names for each message, for the log.
        folder: the images' names are relative to it; None for bare file names.
    """

    classes: tuple[str, ...]
    records: tuple[Record, ...]
    warnings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def target_is_classes(self) -> bool:
        """Whether the ground truth has a class per pixel, not only foreground and background."""
        return any(r.regions is not None or (r.trimap is not None and r.codes == "classes") for r in self.records)

    def file_names(self) -> dict[str, str]:
        """File name by image id, for logs and exports, with ``/`` between folders."""
        return {
            r.id: r.image.relative_to(self.folder).as_posix() if self.folder else r.image.name for r in self.records
        }
