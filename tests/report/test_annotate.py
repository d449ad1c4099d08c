"""What to annotate next: the images of which the masks disagree most."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from seg.data.prepared import Pool, PreparedData
from seg.experiment import Step
from seg.masks import MaskSet, Threshold
from seg.report.annotate import AT_ONCE, different, disagreement, doubts, rank, write_list
from seg.store import Runtime
from seg.supervision.bbox import BoxScores
from seg.supervision.mask import read_ids
from seg.supervision.scores import ScoreMaps


def strip(width: int, of: int = 8) -> np.ndarray:
    """A mask whose left ``width`` columns are foreground."""
    mask = np.zeros((1, of, of), np.uint8)
    mask[:, :, :width] = 1
    return mask


def test_disagreement_is_one_less_the_mean_iou_of_the_pairs() -> None:
    assert disagreement([strip(4), strip(4)]).tolist() == [0]
    assert disagreement([strip(2), strip(8)]) == pytest.approx([1 - 2 / 8])
    assert disagreement([strip(2), strip(4), strip(8)]) == pytest.approx([1 - (2 / 4 + 2 / 8 + 4 / 8) / 3])
    assert disagreement([strip(0), strip(0)]).tolist() == [0]  # both see nothing
    assert disagreement([strip(0), strip(1)]).tolist() == [1]
    several = [np.concatenate([strip(4), strip(2)]), np.concatenate([strip(4), strip(8)])]
    assert disagreement(several) == pytest.approx([0, 0.75])


def test_what_one_of_them_leaves_open_does_not_count() -> None:
    open_right = strip(2)
    open_right[:, :, 4:] = 255
    assert disagreement([open_right, strip(8)]) == pytest.approx([1 - 2 / 4])


def test_two_classes_are_no_agreement() -> None:
    other = strip(4) * 2
    other[:, :, :1] = 1
    assert disagreement([strip(4), other]) == pytest.approx([1 - 1 / 4])
    assert disagreement([other, other]).tolist() == [0]


def masks_of(data: PreparedData, widths: np.ndarray) -> MaskSet:
    """Foreground on the left of every image, so many of 8 columns wide."""
    values = (np.arange(8) < widths[:, None, None]) & np.ones((1, 8, 1), bool)
    return MaskSet(ScoreMaps.of_foreground(data, np.arange(len(data)), values.astype(np.float16)), 0.5, 0.5)


def test_the_list_is_in_the_order_of_disagreement(data: PreparedData, tmp_path: Path, runtime: Runtime) -> None:
    rng = np.random.default_rng(0)
    widths = rng.permutation(np.arange(len(data))) % 8 + 1
    masks = {"seeds": masks_of(data, np.full(len(data), 8)), "prediction": masks_of(data, widths)}
    free = np.flatnonzero(~data.is_test)
    ranked = rank(masks, free[:3], runtime)
    rows = [row for row, _ in ranked]
    assert sorted(rows) == free[3:].tolist()  # no test image, and none whose truth is used
    assert widths[rows].tolist() == sorted(widths[rows])
    assert [value for _, value in ranked] == pytest.approx([1 - widths[row] / 8 for row in rows], abs=0.05)
    # The file is a list of masks.list, in this order.
    path = write_list(tmp_path / "annotate_next.txt", data, ranked)
    assert read_ids(path) == [data.ids[row] for row in rows]
    shown = doubts(masks, ranked[:4])
    assert [one.id for one in shown] == [data.ids[row] for row in rows[:4]]
    assert all(one.photo.startswith("data:image/jpeg") and one.votes != one.photo for one in shown)
    assert len(data) <= AT_ONCE and rank({"seeds": masks["seeds"]}, free, runtime) == []


def test_the_list_names_all_classes_of_an_image(data: PreparedData, tmp_path: Path) -> None:
    several = dataclasses.replace(data, label_sets=[(0, 1), (), *data.label_sets[2:]])
    path = write_list(tmp_path / "annotate_next.txt", several, [(0, 0.5), (1, 0.25)])
    both = ", ".join(data.classes)
    assert path.read_text().splitlines()[1:] == [f"{data.ids[0]}\t0.5000\t{both}", f"{data.ids[1]}\t0.2500\tno class"]
    assert read_ids(path) == data.ids[:2]
    masks = {"seeds": masks_of(several, np.full(len(data), 8)), "prediction": masks_of(several, np.arange(len(data)))}
    assert [one.label for one in doubts(masks, [(0, 0.5), (1, 0.25)])] == [both, "no class"]


def test_no_more_masks_are_made_at_once_than_fit(
    data: PreparedData, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seg.report.annotate.AT_ONCE", 5)
    asked: list[int] = []
    at = MaskSet.at

    def counted(self: MaskSet, positions: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        asked.append(len(positions))
        return at(self, positions, size)

    widths = np.arange(len(data)) % 8 + 1
    masks = {"seeds": masks_of(data, widths[::-1].copy()), "prediction": masks_of(data, widths)}
    whole = rank(masks, np.zeros(0, np.int64), runtime)
    monkeypatch.setattr(MaskSet, "at", counted)
    assert rank(masks, np.zeros(0, np.int64), runtime) == whole and max(asked) == 5


def test_equal_masks_have_one_vote(pool: Pool, data: PreparedData) -> None:
    one, other = (Threshold(scores=BoxScores(pool=pool), threshold=t) for t in (0.5, 0.6))
    steps = {name: Step(kind="seeds", masks=m) for name, m in (("scores", one), ("seeds", one), ("prediction", other))}
    masks = dict.fromkeys(steps, masks_of(data, np.full(len(data), 8)))
    assert [*different(steps, masks)] == ["scores", "prediction"]
