"""Which images to annotate next: those of which the products of a run disagree most. No truth is needed for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from seg.data.prepared import PreparedData
from seg.experiment import Experiment, Step
from seg.files import write_lines
from seg.masks import MaskSet
from seg.report.gallery import encode, shape_of
from seg.report.panel import classes_of, shared_rows
from seg.report.pictures import score_overlay
from seg.store import Runtime
from seg.supervision.mask import Truth

#: What the list is called in a run's folder, how many of its images the page shows, and at how many pixels.
NAME = "annotate_next.txt"
SHOWN, THUMB = 20, 160
#: Pixels of the side at which masks are compared, and images at a time: what is held at once does not grow with either.
SIDE, AT_ONCE = 112, 64


@dataclass(frozen=True)
class Doubt:
    """One image of the page.

    Attributes:
        id, label: of the image. disagreement: in [0, 1]. width, height: of its pictures, in pixels.
        photo, votes: data URIs; the votes are the share of the masks that say foreground, of whatever class.
    """

    id: str
    label: str
    disagreement: float
    width: int
    height: int
    photo: str
    votes: str


def annotate_next(folder: Path, experiment: Experiment, masks: Mapping[str, MaskSet]) -> tuple[list[Doubt], list[str]]:
    """Rank a run's trainval images, and write the list into its folder.

    Args:
        folder: the run's. experiment: built. masks: the steps' masks by name.

    Returns:
        What the page shows, and the steps that were compared. Without two steps of different masks there is nothing to
        compare, and neither a list.
    """
    store = experiment.store
    compared = different(experiment.steps, masks)
    used = [store.get(stage).rows for stage in experiment.stages() if isinstance(stage, Truth)]
    ranked = rank(compared, np.concatenate([np.zeros(0, np.int64), *used]), store.runtime)
    if ranked:
        write_list(folder / NAME, next(iter(compared.values())).data, ranked)
    return doubts(compared, ranked), [*compared]


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


def different(steps: Mapping[str, Step], masks_of: Mapping[str, MaskSet]) -> dict[str, MaskSet]:
    """The masks without those that are an earlier step's too, as seeds without a band are the scores at a threshold."""
    ids = [steps[name].masks.id for name in masks_of]
    return {name: masks for i, (name, masks) in enumerate(masks_of.items()) if ids[i] not in ids[:i]}


def rank(masks_of: Mapping[str, MaskSet], used: np.ndarray, runtime: Runtime) -> list[tuple[int, float]]:
    """Trainval images by how much their masks disagree, most first.

    Args:
        masks_of: different ones, by step. used: ``int64``, rows whose truth is used already. runtime: for progress.

    Returns:
        Row and disagreement; nothing where there are not two masks to compare.
    """
    if len(masks_of) < 2:
        return []
    data = next(iter(masks_of.values())).data
    rows = np.setdiff1d(shared_rows(masks_of), used)
    rows = rows[~data.is_test[rows]]
    side = min(data.side, SIDE)
    values = np.zeros(len(rows))
    for start in runtime.bar(range(0, len(rows), AT_ONCE), "what to annotate next"):
        part = rows[start : start + AT_ONCE]
        masks = [m.at(np.searchsorted(m.rows, part), (side, side)) for m in masks_of.values()]
        values[start : start + AT_ONCE] = disagreement(masks)
    order = np.argsort(-values, kind="stable")
    return [(int(rows[i]), float(values[i])) for i in order]


def write_list(path: Path, data: PreparedData, ranked: Sequence[tuple[int, float]]) -> Path:
    """All images in order, as ``labelled.list`` reads them: the id, and as notes the disagreement and the class."""
    lines = ["# image\tdisagreement\tclass"]
    lines += [f"{data.ids[row]}\t{value:.4f}\t{', '.join(classes_of(data, row))}" for row, value in ranked]
    write_lines(path, lines)
    return path


def doubts(masks_of: Mapping[str, MaskSet], ranked: Sequence[tuple[int, float]]) -> list[Doubt]:
    """The first of the list with their pictures."""
    out = []
    for row, value in ranked[:SHOWN]:
        data = next(iter(masks_of.values())).data
        photo = np.asarray(data.images[row])
        masks = np.stack([m.at(np.searchsorted(m.rows, [row]))[0] for m in masks_of.values()])
        known = masks != 255
        seen = ((masks > 0) & known).sum(0)
        votes = np.where(known.any(0), seen / np.maximum(known.sum(0), 1), np.nan).astype(np.float32)
        shape = shape_of(data, row, THUMB)
        pictures = [encode(picture, shape) for picture in (photo, score_overlay(photo, votes))]
        out.append(Doubt(data.ids[row], ", ".join(classes_of(data, row)), value, *shape, *pictures))
    return out
