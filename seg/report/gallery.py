"""The gallery: a sample of images with every picture there is of each, small enough to travel in one file."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

from seg.data.prepared import PreparedData
from seg.evaluation.metrics import Border, Confusion
from seg.experiment import Step
from seg.masks import MaskSet
from seg.report.page import data_uri
from seg.report.panel import classes_of, key_of, picture_cells, shared_rows
from seg.report.pictures import picture
from seg.store import Runtime

#: Images at most, and characters that all their pictures may take.
MOST_IMAGES = 80
MOST_CHARACTERS = 7_500_000
#: Pixels of a picture's longer side, and JPEG's quality.
SIDE, QUALITY = 256, 82


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    Attributes:
        id, classes, split: of the image. width, height: of its pictures, in pixels, as the original's proportions.
        pictures: by column a data URI, of those that there are.
        ious: by mask the IoU of the foreground with the truth, of classes the mean of those that either has; None where
            nothing can be said.
        codes: by column of masks that tell classes apart, the codes that are in it.
    """

    id: str
    classes: tuple[str, ...]
    split: str
    width: int
    height: int
    pictures: dict[str, str]
    ious: dict[str, float | None]
    codes: dict[str, list[int]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its classes in words."""
        return ", ".join(self.classes)


@dataclass(frozen=True)
class Gallery:
    """The sample: its cards, worst first by the last mask's IoU.

    Attributes:
        columns: what can be shown, in order. masks: those that have an IoU. total: images it was drawn from.
    """

    cards: list[Card]
    columns: list[str]
    masks: list[str]
    total: int

    @property
    def classes(self) -> list[str]:
        """Those of its images, by name; one of several classes is an image of each."""
        return sorted({name for card in self.cards for name in card.classes})

    @property
    def measured(self) -> bool:
        """Whether any IoU is known."""
        return any(value is not None for card in self.cards for value in card.ious.values())


def make_gallery(
    steps: Mapping[str, Step], masks_of: Mapping[str, MaskSet], border: Border, runtime: Runtime
) -> Gallery:
    """Draw the sample; nothing where there are no masks.

    Args:
        steps: the chain. masks_of: its masks by step.
        border: what the truth's border pixels count as. runtime: for progress.
    """
    if not masks_of:
        return Gallery([], [], [], 0)
    data = next(iter(masks_of.values())).data
    rows, masks = shared_rows(masks_of), [name for name, step in steps.items() if step.kind != "scores"]
    cards: list[Card] = []
    used = 0
    for row in runtime.bar(sample(data, rows, MOST_IMAGES), "pictures of the report"):
        card = _card(data, int(row), picture_cells(steps, masks_of, int(row)), masks, border)
        used += sum(map(len, card.pictures.values()))
        if used > MOST_CHARACTERS:
            break
        cards.append(card)
    columns = [*max((card.pictures for card in cards), key=len, default={})]
    iou = {card.id: card.ious[masks[-1]] for card in cards} if masks else {}
    cards.sort(key=lambda card: 2 if (value := iou.get(card.id)) is None else value)
    return Gallery(cards, columns, masks, len(rows))


def sample(data: PreparedData, rows: np.ndarray, most: int) -> np.ndarray:
    """Some of ``rows``, as even as can be over split, class (of several the rarest), and whether there is a truth.

    Returns:
        ``int64 (n,)`` with n at most ``most``, one of every group first: a part from the front is as even.
    """
    # Shuffled, as neighbours in a list may be alike; from a seed, as a report that is written again is the same.
    drawn = np.random.default_rng(0).permutation(rows)
    count = data.as_read.is_labelled[drawn].sum(0)
    rarest = np.asarray([min(data.as_read.label_sets[row], key=count.__getitem__, default=-1) for row in drawn])
    turn = pd.Series(drawn).groupby([data.is_test[drawn], data.has_truth[drawn], rarest]).cumcount()
    return drawn[np.argsort(turn, kind="stable")][:most]


def _card(data: PreparedData, row: int, cells: Mapping[str, np.ndarray], masks: Sequence[str], border: Border) -> Card:
    photo, truth = cells["photo"], cells.get("truth")
    shape = shape_of(data, row)
    key = key_of(data)
    pictures = {name: encode(picture(photo, array, name, key), shape) for name, array in cells.items()}
    ious = {name: None if truth is None else _iou(cells[name], truth, border, data.count) for name in masks}
    split = "test" if data.is_test[row] else "trainval"
    coded = {n: np.unique(a).tolist() for n, a in cells.items() if a.ndim == 2 and a.dtype == np.uint8}
    codes = coded if data.count > 1 else {}
    return Card(data.ids[row], classes_of(data, row), split, *shape, pictures, ious, codes)


def shape_of(data: PreparedData, row: int, side: int = SIDE) -> tuple[int, int]:
    """Width and height of a picture of an image: its own proportions, and ``side`` pixels at most."""
    tall, wide = (int(x) for x in data.sizes[row])
    scale = min(side, data.side) / max(tall, wide)
    return max(1, round(wide * scale)), max(1, round(tall * scale))


def encode(pixels: np.ndarray, shape: tuple[int, int]) -> str:
    """``uint8 (H, W, 3)`` as the data URI of a JPEG of this width and height."""
    image = Image.fromarray(pixels).resize(shape, Image.Resampling.BICUBIC)
    image.save(file := io.BytesIO(), format="JPEG", quality=QUALITY, optimize=True)
    return data_uri(file.getvalue(), ".jpg")


def _iou(mask: np.ndarray, truth: np.ndarray, border: Border, classes: int) -> float | None:
    confusion = Confusion(classes)
    confusion.add(mask, truth, border)
    values = confusion.per_image_iou[0, 1:]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None
