"""Oxford-IIIT Pet: what the reader of its layout lives with and what it refuses; its identity."""

import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from seg.data.dataset import Dataset
from seg.data.pets import Labels, OxfordPet
from seg.errors import SegError

XML = (
    "<annotation><filename>{name}.jpg</filename><size><width>40</width><height>30</height></size>{objects}</annotation>"
)
OBJECT = "<object><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
TRAINVAL = {"Abyssinian_1": 1, "Abyssinian_2": 1, "american_bulldog_7": 2, "beagle_3": 5}
TEST = {"Abyssinian_9": 1, "american_bulldog_1": 2, "beagle_30": 5}


def write_list(path: Path, images: dict[str, int]) -> None:
    path.write_text("".join(f"{name} {class_id} 1 1\n" for name, class_id in images.items()))


def write_xml(layout: Path, name: str, *boxes: tuple[float, ...]) -> Path:
    path = layout / "annotations/xmls" / f"{name}.xml"
    path.write_text(XML.format(name=name, objects="".join(OBJECT.format(*box) for box in boxes)))
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A whole little data set: class ids 1, 2 and 5, one box, a trimap for every image."""
    layout = tmp_path / "root/oxford-iiit-pet"
    for part in ("images", "annotations/trimaps", "annotations/xmls"):
        (layout / part).mkdir(parents=True)
    for name in (*TRAINVAL, *TEST):
        Image.new("RGB", (40, 30), "red").save(layout / f"images/{name}.jpg")
        Image.new("L", (40, 30), 2).save(layout / f"annotations/trimaps/{name}.png")
    write_list(layout / "annotations/trainval.txt", TRAINVAL)
    write_list(layout / "annotations/test.txt", TEST)
    write_xml(layout, "Abyssinian_1", (1, 2, 40, 30))
    return layout


def read(root: Path, labels: Labels = "breed") -> Dataset:
    return OxfordPet(root=str(root), labels=labels).load(root, None)  # type: ignore[arg-type]


def append(layout: Path, name: str, text: str) -> None:
    with (layout / "annotations" / name).open("a") as file:
        file.write(text)


def test_records_classes_and_labels(layout: Path) -> None:
    data = read(layout.parent)
    assert data.classes == ("Abyssinian", "american_bulldog", "beagle")
    assert [(r.id, *r.labels, r.split) for r in data.records] == [
        ("Abyssinian_1", 0, "trainval"),
        ("Abyssinian_2", 0, "trainval"),
        ("american_bulldog_7", 1, "trainval"),
        ("beagle_3", 2, "trainval"),
        ("Abyssinian_9", 0, "test"),
        ("american_bulldog_1", 1, "test"),
        ("beagle_30", 2, "test"),
    ]
    first = data.records[0]
    assert first.boxes == ((1, 2, 40, 30),)
    assert first.image == layout / "images/Abyssinian_1.jpg"
    assert first.trimap == layout / "annotations/trimaps/Abyssinian_1.png"
    assert data.warnings == Counter({"trainval images without boxes": 3})
    assert data.examples == {"trainval images without boxes": ("Abyssinian_2", "american_bulldog_7", "beagle_3")}


def test_species_in_place_of_breeds(layout: Path) -> None:
    for split, images in (("trainval", TRAINVAL), ("test", TEST)):
        lines = (f"{name} {i} {1 if name[0].isupper() else 2} 1\n" for name, i in images.items())
        (layout / f"annotations/{split}.txt").write_text("".join(lines))
    breeds, data = read(layout), read(layout, labels="species")
    assert data.classes == ("cat", "dog")
    assert [r.labels[0] for r in data.records] == [0, 0, 1, 1, 0, 1, 1]
    assert [r.image for r in data.records] == [r.image for r in breeds.records] and data.warnings == breeds.warnings
    # Of one species alone there is one class; dogs that come first are still the second.
    for path in layout.glob("annotations/*t*.txt"):
        path.write_text("".join(x for x in path.read_text().splitlines(True) if not x.startswith("Abyssinian")))
    assert read(layout, labels="species").classes == ("dog",)


def test_an_image_of_both_splits_stays_in_test_only(layout: Path) -> None:
    append(layout, "trainval.txt", "Abyssinian_9 1 1 1\nbeagle_3 5 1 1\n")
    data = read(layout)
    assert [r.split for r in data.records if r.id == "Abyssinian_9"] == ["test"] and len(data.records) == 7
    assert data.examples["images listed in both splits (kept in test only)"] == ("Abyssinian_9",)


@pytest.mark.parametrize("line", ["beagle_4 five 1 1", "beagle 5 1 1", "beagle_4 5 3 1"])
def test_bad_lines(layout: Path, line: str) -> None:
    append(layout, "trainval.txt", line + "\n")
    with pytest.raises(SegError, match=rf"trainval.txt line 5: '{line}' is not 'class_number class-id") as error:
        read(layout, labels="species")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["beagle_4 2 1 1", "pug_4 5 1 1"])
def test_class_ids_that_contradict_each_other(layout: Path, line: str) -> None:
    append(layout, "test.txt", line + "\n")
    with pytest.raises(SegError, match="a breed has two class ids, or a class id two breeds; correct"):
        read(layout)


def test_all_problems_at_once(layout: Path) -> None:
    for number in range(8):
        append(layout, "trainval.txt", f"bad line {number}\n")
    with pytest.raises(SegError, match=rf"^8 problems in {layout}: .*trainval.txt line 5: .*; and 3 more$"):
        read(layout)


@pytest.mark.real
def test_real_data() -> None:
    root = Path(os.environ.get("SEG_DATA", Path(__file__).parents[2] / "../shared"))
    if not (root / "oxford-iiit-pet").is_dir():
        pytest.skip(f"no real data at {root}; set SEG_DATA to the folder that holds oxford-iiit-pet/")
    data = read(root)
    assert Counter(r.split for r in data.records) == {"trainval": 3680, "test": 3669}
    assert sum(r.trimap is not None for r in data.records) == 598
    assert sum(bool(r.boxes) for r in data.records) == 296
    assert all(r.split == "trainval" for r in data.records if r.boxes)
    assert len(data.classes) == 37
    assert data.classes[0] == "Abyssinian"
    assert data.classes[36] == "yorkshire_terrier"
    assert all(r.id.startswith(data.classes[r.labels[0]] + "_") for r in data.records)
    species = read(root, labels="species")
    assert species.classes == ("cat", "dog") and species.warnings == data.warnings
    # The official lists write cats' breeds with a capital.
    assert all((r.labels == (0,)) == r.id[0].isupper() for r in species.records)
