"""What a data set is to the rest of the program: an ordered list of records."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["trainval", "test"]
Box = tuple[float, float, float, float]
#: How a truth's file is coded, see :func:`seg.data.decode.decode_trimap`.
Codes = Literal["trimap", "binary", "ids"]


@dataclass(frozen=True)
class Record:
    """One image and every label it came with.

    Attributes:
        id: file stem, unique in the data set.
        image: path of the image file (whatever its extension says, Pillow decides what it is).
        label: class index in ``[0, len(classes))``.
        split: ``trainval`` (may be trained on) or ``test`` (is only evaluated).
        trimap: path of the truth, or None.
        boxes: ``(xmin, ymin, xmax, ymax)`` in pixels of the original image, as many as it has.
        codes: how ``trimap`` is coded; the official codes are ``trimap``.
    """

    id: str
    image: Path
    label: int
    split: Split
    trimap: Path | None = None
    boxes: tuple[Box, ...] = ()
    codes: Codes = "trimap"


@dataclass(frozen=True)
class Dataset:
    """An ordered data set with the peculiarities that were met while reading it.

    Attributes:
        classes: class names by label.
        records: ordered by split (trainval first), then as listed.
        quirks: how often each peculiarity was met, by a sentence that names it.
        is_toy: whether the pictures are drawn; its peculiarities are then no news.
        examples: up to a few names for each sentence of ``quirks``, for the log.
        folder: what the images' names are told relative to; None for their bare names.
    """

    classes: tuple[str, ...]
    records: tuple[Record, ...]
    quirks: Counter[str] = field(default_factory=Counter)
    is_toy: bool = False
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    folder: Path | None = None

    def file_names(self) -> dict[str, str]:
        """By image id, the name of its file for people and for exports, with ``/`` between folders."""
        return {
            r.id: r.image.relative_to(self.folder).as_posix() if self.folder else r.image.name for r in self.records
        }
