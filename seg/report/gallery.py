"""The gallery of a report: a sample of images with every picture there is of each; and which to annotate next."""

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from PIL import Image

from seg.data.prepared import PreparedData
from seg.experiment import Step
from seg.masks import MaskSet
from seg.methods.metrics import Border, Confusion
from seg.report.page import data_uri
from seg.report.pictures import FOREGROUND, Key, class_key, picture
from seg.store import Runtime

#: Images at most, and characters that all their pictures may take.
MOST_IMAGES, MOST_CHARACTERS = 80, 7_500_000
#: Pixels of a picture's longer side, of one to annotate next, and how many of these there are.
SIDE, THUMB, NEXT = 256, 160, 20
#: Pixels of the side at which masks are compared, and images at a time: what is held at once does not grow.
COMPARED_SIDE, AT_ONCE = 112, 64


@dataclass(frozen=True)
class Card:
    """One image of the report.

    Attributes:
        id, classes, split: of the image. width, height: of its pictures, in pixels, as the original's proportions.
        pictures: by column a data URI, of those that there are.
        ious: by mask the IoU of the foreground with the ground truth, of classes the mean of those that either has;
            None where nothing can be said.
        disagreement: of its masks, in [0, 1].
    """

    id: str
    classes: tuple[str, ...]
    split: str
    width: int
    height: int
    pictures: dict[str, str]
    ious: dict[str, float | None] = field(default_factory=dict)
    disagreement: float = 0.0

    @property
    def label(self) -> str:
        """Its classes in words."""
        return ", ".join(self.classes)


@dataclass(frozen=True)
class Gallery:
    """The sample: its cards, worst first by the last mask's IoU.

    Attributes:
        masks: those that have an IoU. total: images it was drawn from.
    """

    cards: list[Card]
    masks: list[str]
    total: int

    @property
    def measured(self) -> bool:
        """Whether any IoU is known."""
        return any(value is not None for card in self.cards for value in card.ious.values())


def shared_rows(masks_of: Mapping[str, MaskSet]) -> np.ndarray:
    """``int64 (n,)``: the rows of the images that every step has a mask of."""
    shared: np.ndarray = functools.reduce(np.intersect1d, (masks.rows for masks in masks_of.values()))
    return shared


def key_of(data: PreparedData) -> Key:
    """The colours of its masks."""
    return FOREGROUND if data.count == 1 else class_key(data.names)


def classes_of(data: PreparedData, row: int) -> tuple[str, ...]:
    """The names of the classes that are in an image; ``("no class",)`` for one without."""
    return tuple(data.as_read.classes[label] for label in data.as_read.label_sets[row]) or ("no class",)


def picture_cells(steps: Mapping[str, Step], masks_of: Mapping[str, MaskSet], row: int) -> dict[str, np.ndarray]:
    """What there is of one image, by column, the photo first and the ground truth last: as a panel's rows are."""
    data = next(iter(masks_of.values())).data
    cells = {"photo": np.asarray(data.images[row])}
    several = sum(step.kind == "scores" for step in steps.values()) > 1
    for name, masks in masks_of.items():
        position = np.searchsorted(masks.rows, [row])
        if steps[name].kind == "scores":
            cells[steps[name].plain_name if several else "score map"] = masks.scores.argmax(position)[0][0]
        else:
            cells[name] = masks.at(position)[0]
    return cells | ({"ground truth": data.target(np.asarray([row]))[0]} if data.has_target[row] else {})


def make_gallery(
    steps: Mapping[str, Step], masks_of: Mapping[str, MaskSet], border: Border, runtime: Runtime
) -> Gallery:
    """Draw the sample; nothing where there are no masks.

    Args:
        steps: the chain. masks_of: its masks by step. border: what the ground truth's border pixels count as.
        runtime: for progress.
    """
    if not masks_of:
        return Gallery([], [], 0)
    data = next(iter(masks_of.values())).data
    rows, masks = shared_rows(masks_of), [name for name, step in steps.items() if step.kind != "scores"]
    cards: list[Card] = []
    used = 0
    for row in runtime.bar(sample(data, rows, MOST_IMAGES), "pictures of the report"):
        cells = picture_cells(steps, masks_of, int(row))
        target = cells.get("ground truth")
        ious = {name: None if target is None else _iou(cells[name], target, border, data.count) for name in masks}
        card = _card(data, int(row), cells, SIDE, ious=ious)
        used += sum(map(len, card.pictures.values()))
        if used > MOST_CHARACTERS:
            break
        cards.append(card)
    iou = {card.id: card.ious[masks[-1]] for card in cards} if masks else {}
    cards.sort(key=lambda card: 2 if (value := iou.get(card.id)) is None else value)
    return Gallery(cards, masks, len(rows))


def sample(data: PreparedData, rows: np.ndarray, most: int) -> np.ndarray:
    """Some of ``rows``, as even as can be over split, class (of several the rarest), and whether there is ground truth.

    Returns:
        ``int64 (n,)`` with n at most ``most``, one of every group first: a part from the front is as even.
    """
    # Shuffled, as neighbours in a list may be alike; from a seed, as a report that is written again is the same.
    drawn = np.random.default_rng(0).permutation(rows)
    count = data.as_read.is_labelled[drawn].sum(0)
    rarest = np.asarray([min(data.as_read.label_sets[row], key=count.__getitem__, default=-1) for row in drawn])
    turn = pd.Series(drawn).groupby([data.is_test[drawn], data.has_target[drawn], rarest]).cumcount()
    return drawn[np.argsort(turn, kind="stable")][:most]


def _card(
    data: PreparedData,
    row: int,
    cells: Mapping[str, np.ndarray],
    side: int,
    ious: dict[str, float | None] | None = None,
    disagreement: float = 0.0,
) -> Card:
    tall, wide = (int(x) for x in data.sizes[row])
    scale = min(side, data.side) / max(tall, wide)
    shape = max(1, round(wide * scale)), max(1, round(tall * scale))
    pictures = {}
    for name, array in cells.items():
        image = Image.fromarray(picture(cells["photo"], array, key_of(data))).resize(shape, Image.Resampling.BICUBIC)
        image.save(file := io.BytesIO(), format="JPEG", quality=82, optimize=True)
        pictures[name] = data_uri(file.getvalue(), ".jpg")
    split = "test" if data.is_test[row] else "trainval"
    return Card(data.ids[row], classes_of(data, row), split, *shape, pictures, ious or {}, disagreement)


def _iou(mask: np.ndarray, target: np.ndarray, border: Border, classes: int) -> float | None:
    confusion = Confusion(classes)
    confusion.add(mask, target, border)
    values = confusion.per_image_iou[0, 1:]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


# -- what to annotate next: the images of which the masks of a run disagree most; no ground truth is needed for it


def disagreement(masks: Sequence[np.ndarray]) -> np.ndarray:
    """One minus the mean, over the pairs of masks, of the foreground's IoU; two classes are no agreement.

    Args:
        masks: at least two, ``uint8 (b, H, W)`` of 0, 1 or ``1 + class``, and 255; a pair counts where both decide, and
            agrees where neither sees a foreground.

    Returns:
        ``float64 (b,)`` in [0, 1].
    """
    out = np.zeros(len(masks[0]))
    pairs = [*combinations(masks, 2)]
    for one, other in pairs:
        known = (one != 255) & (other != 255)
        both = ((one > 0) & (one == other) & known).sum((1, 2))
        either = (((one > 0) | (other > 0)) & known).sum((1, 2))
        out += 1 - np.where(either > 0, both / np.maximum(either, 1), 1)
    return out / len(pairs)


def rank(masks_of: Mapping[str, MaskSet], used: np.ndarray, runtime: Runtime) -> list[tuple[int, float]]:
    """Trainval images by how much their masks disagree, most first.

    Args:
        masks_of: different ones, by step. used: ``int64``, rows whose ground truth is used already.
        runtime: for progress.

    Returns:
        Row and disagreement; nothing where there are not two masks to compare.
    """
    if len(masks_of) < 2:
        return []
    data = next(iter(masks_of.values())).data
    rows = np.setdiff1d(shared_rows(masks_of), used)
    rows = rows[~data.is_test[rows]]
    side = min(data.side, COMPARED_SIDE)
    values = np.zeros(len(rows))
    for start in runtime.bar(range(0, len(rows), AT_ONCE), "what to annotate next"):
        part = rows[start : start + AT_ONCE]
        masks = [m.at(np.searchsorted(m.rows, part), (side, side)) for m in masks_of.values()]
        values[start : start + AT_ONCE] = disagreement(masks)
    order = np.argsort(-values, kind="stable")
    return [(int(rows[i]), float(values[i])) for i in order]


def next_cards(masks_of: Mapping[str, MaskSet], ranked: Sequence[tuple[int, float]]) -> list[Card]:
    """The first of the list with their photos, and the share of the masks that say foreground (``votes``)."""
    out = []
    for row, value in ranked[:NEXT]:
        data = next(iter(masks_of.values())).data
        masks = np.stack([m.at(np.searchsorted(m.rows, [row]))[0] for m in masks_of.values()])
        known = masks != 255
        seen = ((masks > 0) & known).sum(0)
        votes = np.where(known.any(0), seen / np.maximum(known.sum(0), 1), np.nan).astype(np.float32)
        cells = {"photo": np.asarray(data.images[row]), "votes": votes}
        out.append(_card(data, row, cells, THUMB, disagreement=value))
    return out
