"""The drawn data sets: their bytes, their files, and what is in the pictures."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import OxfordIIITPet

from seg.data.dataset import Dataset
from seg.data.toy.coats import BREEDS
from seg.data.toy.drawing import extent
from seg.data.toy.generate import (
    BACKGROUND,
    BORDER,
    PET,
    UNKNOWN,
    breeds_of,
    draw_toy_pets,
    draw_toy_scenes,
    layered,
)
from seg.data.voc import Voc, read_voc
from seg.errors import SegError

IMAGES, NAMES = 36, 4
Draw = Callable[..., None]


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy")
    draw_toy_pets(out, images=IMAGES, breeds=NAMES, size=72, seed=3)
    return out / "oxford-iiit-pet"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("scenes")
    draw_toy_scenes(out, images=IMAGES, breeds=NAMES, size=64, seed=3)
    return read_voc(Voc(root=str(out)))


def digests(draw: Draw, out: Path, images: int, seed: int) -> dict[str, str]:
    draw(out, images=images, breeds=4, size=48, seed=seed)
    files = (p for p in out.rglob("*") if p.suffix in (".jpg", ".png", ".xml"))
    return {p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def lines(pets: Path, name: str) -> list[list[str]]:
    return [line.split() for line in (pets / f"annotations/{name}.txt").read_text().splitlines()]


@pytest.mark.parametrize("draw", [draw_toy_pets, draw_toy_scenes])
def test_same_seed_same_bytes_and_a_larger_set_begins_with_the_smaller_one(draw: Draw, tmp_path: Path) -> None:
    large, small = digests(draw, tmp_path / "large", 14, 3), digests(draw, tmp_path / "small", 12, 3)
    other = digests(draw, tmp_path / "other", 12, 4)
    assert small.items() <= large.items() and small.keys() == other.keys()
    assert all(small[name] != other[name] for name in small if not name.endswith(".xml"))


@pytest.mark.parametrize("draw", [draw_toy_pets, draw_toy_scenes])
def test_what_cannot_be_drawn_is_refused(draw: Draw, tmp_path: Path) -> None:
    good = {"images": 12, "breeds": 4, "size": 64, "seed": 0}
    for wrong in ({"breeds": 1}, {"breeds": 9}, {"images": 11}, {"size": 20}):
        with pytest.raises(SegError, match="{}={}.* 2 to 8 breeds".format(*next(iter(wrong.items())))):
            draw(tmp_path / "toy", **(good | wrong))
    assert not (tmp_path / "toy").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SegError, match="cannot write"):
        draw(tmp_path / "file", **good)


def test_pets_are_in_the_official_layout(pets: Path) -> None:
    listed, trainval, test = (lines(pets, name) for name in ("list", "trainval", "test"))
    assert len(listed) == IMAGES and sorted(listed) == sorted(trainval + test)
    stems = {line[0] for line in listed}
    assert (
        {p.stem for p in (pets / "images").iterdir()} == {p.stem for p in pets.glob("annotations/trimaps/*")} == stems
    )
    assert {p.stem for p in (pets / "annotations/xmls").iterdir()} == {line[0] for line in trainval}
    names = sorted({stem.rsplit("_", 1)[0] for stem in stems}, key=str.lower)
    for stem, label, species, _ in listed:
        breed = stem.rsplit("_", 1)[0]
        assert species == ("1" if breed[0].isupper() else "2") and label == str(names.index(breed) + 1)
    for some in (trainval, test):
        assert {line[1] for line in some} == {str(i + 1) for i in range(NAMES)}
    data = OxfordIIITPet(pets.parent, split="test", target_types=["category", "segmentation"])  # torchvision reads it
    assert len(data) == len(test) and len(data.classes) == NAMES and data[0][1][0] == int(test[0][1]) - 1
    # Breeds are numbered from 1 within their species.
    assert {tuple(line[2:]) for line in listed} == {("1", "1"), ("1", "2"), ("1", "3"), ("2", "1")}


def test_trimaps_and_head_boxes_of_pets(pets: Path) -> None:
    shares = []
    for stem, _, species, _ in lines(pets, "list"):
        trimap = np.asarray(Image.open(pets / f"annotations/trimaps/{stem}.png"))
        assert trimap.shape == Image.open(pets / f"images/{stem}.jpg").size[::-1] and min(trimap.shape) == 72
        assert set(np.unique(trimap)) == {PET, BACKGROUND, BORDER}
        assert 0.04 < (trimap == PET).mean() < 0.6 and (trimap == BORDER).mean() < 0.25
        assert not ((trimap[:, 1:] == PET) & (trimap[:, :-1] == BACKGROUND)).any(), "no border between them"
        if not (file := pets / f"annotations/xmls/{stem}.xml").exists():
            continue
        root = ElementTree.parse(file).getroot()
        assert (root.findtext("size/height"), root.findtext("size/width")) == tuple(map(str, trimap.shape))
        assert root.findtext("filename") == f"{stem}.jpg"
        assert root.findtext("object/name") == {"1": "cat", "2": "dog"}[species]
        left, top, right, bottom = (int(side.text or "") for side in root.iterfind("object/bndbox/*"))
        rows, columns = np.nonzero(trimap != BACKGROUND)
        assert columns.min() <= left < right <= columns.max() and rows.min() <= top < bottom <= rows.max()
        assert (trimap[top : bottom + 1, left : right + 1] != BACKGROUND).mean() > 0.5
        shares.append((right - left) * (bottom - top) / (np.ptp(columns) * np.ptp(rows)))
    assert np.mean(shares) < 0.5, "boxes are of the head, not of the animal"


def test_what_is_in_the_scenes(scenes: Dataset) -> None:
    assert scenes.classes == tuple(breed.name for breed in BREEDS[:NAMES])
    assert set(scenes.warnings) <= {"images without an object"}
    assert Counter(r.split for r in scenes.records) == {"trainval": 24, "test": 12}
    for record in scenes.records:
        assert record.labels == tuple(sorted(breeds_of(int(record.id.removeprefix("scene_")) - 1, NAMES, 3)))
    counts = Counter(len(breeds_of(number, NAMES, 0)) for number in range(2000))
    assert {n: round(20 * count / 2000) for n, count in counts.items()} == {0: 2, 1: 5, 2: 13}
    for seed in range(50):  # every breed is learnt however few scenes there are
        assert {b for number in range(3) for b in breeds_of(number, 3, seed)} == {0, 1, 2}


def test_masks_boxes_and_labels_of_scenes_agree(scenes: Dataset) -> None:
    for record in scenes.records:
        assert record.trimap is not None
        mask = np.asarray(Image.open(record.trimap))
        assert Image.open(record.trimap).mode == "P" and mask.shape == Image.open(record.image).size[::-1]
        assert {code - 1 for code in set(np.unique(mask)) - {0, UNKNOWN}} == set(record.labels)
        for box, label in zip(record.boxes, record.box_labels or record.labels * len(record.boxes), strict=True):
            left, top, right, bottom = extent(mask == label + 1)
            assert box == (left, top, right + 1, bottom + 1)
        # An object and the background have an unknown rim between them.
        known = mask != UNKNOWN
        assert not ((mask[:, 1:] != mask[:, :-1]) & known[:, 1:] & known[:, :-1]).any()


def test_the_later_animal_is_in_front() -> None:
    first, second = np.zeros((1, 9), bool), np.zeros((1, 9), bool)
    first[0, :5], second[0, 3:7] = True, True
    u = UNKNOWN
    assert layered((1, 9), [first, second], 1.0).tolist() == [[1, 1, u, u, 2, 2, u, u, 0]]
