"""Drawn scenes of two animals: what is in them, read back by the reader of VOC's layout."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.dataset import Dataset
from seg.data.toy.coats import BREEDS
from seg.data.toy.drawing import extent
from seg.data.toy.pairs import UNKNOWN, breeds_of, class_mask, draw_toy_scenes
from seg.data.voc_layout import find_voc
from seg.data.voc_records import read_voc
from seg.errors import SegError

IMAGES, NAMES = 36, 4


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    draw_toy_scenes(out, images=IMAGES, breeds=NAMES, size=64, seed=3)
    return out


@pytest.fixture(scope="module")
def data(toy: Path) -> Dataset:
    return read_voc(find_voc(toy))


def _digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes_and_a_larger_set_begins_with_the_smaller_one(toy: Path, tmp_path: Path) -> None:
    draw_toy_scenes(tmp_path / "small", images=12, breeds=NAMES, size=64, seed=3)
    draw_toy_scenes(tmp_path / "other", images=12, breeds=NAMES, size=64, seed=4)
    large, small, other = (_digest(p) for p in (toy, tmp_path / "small", tmp_path / "other"))
    pictures = [name for name in small if name.endswith((".jpg", ".png", ".xml"))]
    assert len(pictures) == 36 and all(large[name] == small[name] for name in pictures)
    assert all(small[name] != other[name] for name in pictures if name.endswith(".jpg"))


def test_what_is_in_the_pictures(data: Dataset) -> None:
    assert data.classes == tuple(breed.name for breed in BREEDS[:NAMES])
    assert set(data.quirks) <= {"images without an object"}
    assert Counter(r.split for r in data.records) == {"trainval": 24, "test": 12}
    assert [r.labels for r in data.records] == [
        tuple(sorted(breeds_of(int(r.id.removeprefix("scene_")) - 1, NAMES, 3))) for r in data.records
    ]
    counts = Counter(len(breeds_of(number, NAMES, 0)) for number in range(2000))
    assert {n: round(20 * count / 2000) for n, count in counts.items()} == {0: 2, 1: 5, 2: 13}


@pytest.mark.parametrize("breeds", [2, 3, len(BREEDS)])
def test_every_breed_is_learnt_however_few_pictures_there_are(breeds: int) -> None:
    for seed in range(50):
        assert {b for number in range(breeds) for b in breeds_of(number, breeds, seed)} == set(range(breeds))


def test_masks_boxes_and_labels_agree(data: Dataset) -> None:
    for record in data.records:
        assert record.trimap is not None
        mask = np.asarray(Image.open(record.trimap))
        assert Image.open(record.trimap).mode == "P" and mask.shape == Image.open(record.image).size[::-1]
        assert {code - 1 for code in set(np.unique(mask)) - {0, UNKNOWN}} == set(record.labels)
        of = record.box_labels or record.labels * len(record.boxes)
        for box, label in zip(record.boxes, of, strict=True):
            left, top, right, bottom = extent(mask == label + 1)
            assert box == (left, top, right + 1, bottom + 1)
        # An object and the background have an unknown rim between them.
        known = mask != UNKNOWN
        touching = (mask[:, 1:] != mask[:, :-1]) & known[:, 1:] & known[:, :-1]
        assert not touching.any()


def test_the_later_animal_is_in_front() -> None:
    first, second = np.zeros((1, 6), bool), np.zeros((1, 6), bool)
    first[0, :4], second[0, 2:5] = True, True
    none = np.zeros((1, 6), bool)
    rim = none.copy()
    rim[0, 2] = True
    assert class_mask((1, 6), [first, second], [none, rim]).tolist() == [[1, 1, UNKNOWN, 2, 2, 0]]
    assert class_mask((1, 6), [first, second], [rim, none]).tolist() == [[1, 1, 2, 2, 2, 0]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"breeds": 9}, "toy_scenes: breeds=9"), ({"images": 11}, r"data\.images=12"), ({"size": 20}, "size=20")],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(SegError, match=message):
        draw_toy_scenes(tmp_path / "toy", **({"images": 12, "breeds": 4, "size": 64, "seed": 0} | wrong))
    assert not (tmp_path / "toy").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SegError, match="toy_scenes: cannot write"):
        draw_toy_scenes(tmp_path / "file", images=12, breeds=4, size=64, seed=0)
