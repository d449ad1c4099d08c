"""COCO's instances as a source: what it reads, counts and refuses."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg.data.coco import Coco
from seg.data.dataset import Dataset, Region
from seg.data.layout import MissingDataError
from seg.data.prepared import Prepared, PreparedData
from seg.errors import SegError
from seg.store import Store

Layout = Callable[..., Path]
Entries = list[dict[str, Any]]
OTHER_SIZE = "images of another size than their JSON says (only labels used; save photos upright)"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools


def source(root: Path, **options: Any) -> Coco:
    return Coco(root=str(root), **options)


def dataset(root: Path, **options: Any) -> Dataset:
    made: Dataset = source(root, **{"test_share": 0} | options).load(Path(), None)  # type: ignore[arg-type]
    return made


def added(*more: dict[str, Any]) -> Callable[[Entries], Entries]:
    """A change of a list of entries: these as well."""
    return lambda entries: [*entries, *more]


def first(**changes: Any) -> Callable[[Entries], Entries]:
    """A change of a list of entries: of the first."""
    return lambda entries: [entries[0] | changes, *entries[1:]]


def thing(category: int, box: tuple[int, int, int, int], image: int = 100, **more: Any) -> dict[str, Any]:
    """An annotation whose outline is its box ``(xmin, ymin, xmax, ymax)``."""
    x, y, right, low = box
    outline = [[x, y, right, y, right, low, x, low]]
    return {
        "image_id": image, "category_id": category, "bbox": [x, y, right - x, low - y], "segmentation": outline
    } | more  # fmt: skip


def test_classes_are_categories_in_the_order_of_their_ids(coco: Layout) -> None:
    data = dataset(coco(annotations=added(thing(7, (0, 0, 10, 10)))))
    assert data.classes == ("person", "car", "cup") and data.target_is_classes and not data.warnings
    one, two = data.records[:2]
    assert (one.id, one.labels, one.box_labels) == ("000", (0, 2), (0, 2))
    assert one.boxes == ((20, 10, 45, 30), (0, 0, 10, 10))
    assert (two.id, two.labels, two.box_labels, two.boxes) == ("001", (1,), (), ((20, 10, 45, 30),))
    assert two.regions == (Region(2, ((20, 10, 45, 10, 45, 30, 20, 30),)),)
    assert data.file_names()["000"] == "000.png"
    drawn = dataset(coco("many", count=10), test_share=0.3)
    assert [r.split for r in drawn.records] == ["trainval"] * 7 + ["test"] * 3


def test_train_and_val_side_by_side(coco: Layout) -> None:
    root = coco(part="train2017", count=4)
    coco(part="val2017", count=2)
    data = dataset(root)
    assert Counter(r.split for r in data.records) == {"trainval": 4, "test": 2}
    assert data.records[0].id == "train2017_000" and data.records[-1].image == root / "val2017/001.png"
    # The same photo in both is of the test images alone.
    both = root / "annotations/instances_val2017.json"
    data = dataset(root, test_photos="train2017", test_instances=str(both))
    assert Counter(r.split for r in data.records) == {"trainval": 2, "test": 2}
    assert data.warnings["images listed in both splits (kept in test only)"] == 2


def test_chosen_categories_and_the_rest_is_background(coco: Layout) -> None:
    root = coco(annotations=added(thing(7, (0, 0, 10, 10))))
    data = dataset(root, classes=["cup", "person"])
    assert data.classes == ("person", "cup")
    assert [r.labels for r in data.records] == [(0, 1), (), (1,), (0,), (), (1,)]
    assert data.records[1].regions == () and data.records[1].has_target
    assert data.warnings == {"images without an object (all background)": 2}
    with pytest.raises(SegError, match=r"data.classes: 'dog' is no category of .*; there are person, car, cup$"):
        dataset(root, classes=["dog"])
    assert source(root, classes=["cup"]).key != source(root).key
    assert source(root, classes=["cup", "person"]).key == source(root, classes=["person", "cup"]).key


def test_crowds_are_unknown_below_what_lies_on_them_and_no_label(coco: Layout, new_store: Store) -> None:
    crowd = {"size": [40, 60], "counts": [0, 1200, 1200]}  # the left half
    things = [thing(3, (0, 0, 30, 40), segmentation=crowd, iscrowd=1), thing(1, (20, 10, 45, 30))]
    root = coco(count=1, annotations=lambda _: [*things, thing(7, (25, 15, 30, 20)), thing(3, (0, 0, 9, 9), ignore=1)])
    made = dataset(root)
    assert made.records[0].labels == (0, 2) and made.records[0].boxes == ((20, 10, 45, 30), (25, 15, 30, 20))
    assert made.warnings["crowd regions (unknown)"] == 2
    data: PreparedData = new_store.get(Prepared(source=source(root), size=64))
    expected = np.zeros((40, 60), np.uint8)
    expected[:, :30] = 255
    expected[10:30, 20:45] = 1
    expected[15:20, 25:30] = 3
    np.testing.assert_array_equal(data.original_target(0), expected)
    detail = source(coco("some", annotations=first(iscrowd=1))).detail(new_store)
    assert detail.startswith(": 6 images of 3 classes in ")
    assert detail.endswith("val2017.json, masks for 5, boxes for 5, test images drawn (test_share=0.2)")
    # RLE that tools write with iscrowd 1: objects, all of them.
    data_of_crowds = dataset(
        coco("all", annotations=lambda old: [a | {"iscrowd": 1, "segmentation": crowd} for a in old])
    )
    assert all(r.labels and r.boxes and r.regions and r.regions[0].code != 255 for r in data_of_crowds.records)
    assert any("every annotation has iscrowd 1" in counted for counted in data_of_crowds.warnings)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"images": lambda old: old[:-1], "annotations": lambda old: old[:-1]}, "photos that no JSON lists (not used)"),
        ({"images": lambda old: old[:-1]}, "annotations of images that are not listed (not used)"),
        ({"annotations": lambda old: old[1:]}, "images without an object (all background)"),
        ({"annotations": first(bbox=[20, 10, 0, 20])}, "points, lines, objects without an area (only labels used)"),
        ({"annotations": first(segmentation=[[1, 1, 70, 1, 9, 9]])}, "outlines that extend beyond their image (cut)"),
        ({"annotations": first(segmentation=[])}, "images with an object without an outline (no ground truth)"),
        ({"images": first(width=61)}, OTHER_SIZE),
        ({"categories": added({"id": 9, "name": "kite"})}, "classes without a trainval image"),
        ({"categories": added({"id": 9, "name": "Background"}), "annotations": first(category_id=9)},
         "categories that are the background (no class)"),
    ],
)  # fmt: skip
def test_what_is_unusual_is_counted(coco: Layout, changes: dict[str, Any], warning: str) -> None:
    data = dataset(coco(**changes))
    assert data.warnings[warning] == 1 and data.examples[warning]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": first(category_id=2)}, r"annotation 0: category_id 2 is not among the file's categories"),
        ({"annotations": added(3)}, r"annotation 6: needs image_id"),
        ({"annotations": first(segmentation={"size": [60, 40], "counts": [2400]})},
         r"annotation 0: its RLE has the size \(60, 40\), and its image \(40, 60\)"),
        ({"images": first(file_name="gone.png")}, r"1 of the 6 images that it lists are not in .*val2017 \(gone.png\)"),
        ({"images": first(file_name="there/001.png")}, r"lists there/001.png and 001.png, and only 001.png is in"),
        ({"images": lambda old: [i | {"width": 99} for i in old]},
         r"none of its objects can be used; images of another size .*: 6"),
        ({"categories": lambda _: []}, r"it has no categories, or others"),
        ({"categories": added({"id": 8, "name": "cup"}), "annotations": first(category_id=8)},
         r"the categories 7 and 8 are both called 'cup' and used; rename one"),
    ],
)  # fmt: skip
def test_what_is_refused_is_one_line(coco: Layout, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SegError, match=message) as error:
        dataset(coco(**changes))
    assert "\n" not in str(error.value)


def test_where_nothing_is_found(coco: Layout, tmp_path: Path, new_store: Store) -> None:
    with pytest.raises(SegError, match=r"data=coco: give data.root=DIR"):
        Coco().check(new_store)
    with pytest.raises(MissingDataError, match=r"none: no such folder"):
        dataset(tmp_path / "none")
    with pytest.raises(MissingDataError, match=r"no annotations/instances_\*.json; give the JSON with data.instances"):
        dataset(tmp_path)
    root = coco()
    for name in ("a", "b"):
        (root / f"annotations/instances_{name}.json").write_text("{}")
    with pytest.raises(SegError, match=r"holds .*instances_a.json, .*; say which with data.instances"):
        dataset(root)
    with pytest.raises(SegError, match=r"data.test_instances=no.json: no such file"):
        dataset(root, test_instances="no.json")
    with pytest.raises(SegError, match=r"data.photos=no: no such folder"):
        dataset(root, instances="annotations/instances_val2017.json", photos="no")


def test_names_of_photos_as_tools_write_them(coco: Layout) -> None:
    root = coco(count=2)
    instances = root / "annotations/instances_val2017.json"
    text = instances.read_text()
    for name in (
        "/home/me/set\\\\000.png", "images\\\\000.png", "/data/upload/1/0a1b2c3d-000.png", "./000.png", "000.PNG",
        "%3000.png", "/data/local-files/?d=my/000.png", "http://localhost:8080/data/000.png",
    ):  # fmt: skip
        instances.write_text(text.replace('"000.png"', f'"{name}"'))
        assert [r.id for r in dataset(root).records] == ["000", "001"]
    # In other Unicode composition, and deeper.
    instances.write_text(text.replace('"000.png"', '"caf\\u00e9.png"'))
    (root / "val2017/deep").mkdir()
    (root / "val2017/000.png").rename(root / "val2017/deep/cafe\u0301.png")
    assert {r.image.name for r in dataset(root).records} == {"cafe\u0301.png", "001.png"}
    # As Label Studio writes the name of a photo that was uploaded; of two such the one that is written.
    instances.write_text(text.replace('"000.png"', '"/data/upload/1/0a1b2c3d-My_photo_1.png"'))
    (root / "val2017/deep/cafe\u0301.png").rename(root / "val2017/My photo (1).png")
    assert {r.image.name for r in dataset(root).records} == {"My photo (1).png", "001.png"}
    alike = ["My photo (1).png", "My_photo_1.png", "my photo 1.png"]
    for name in alike[1:]:
        shutil.copy(root / "val2017/001.png", root / "val2017" / name)
    for name in alike:
        instances.write_text(text.replace('"000.png"', f'"/home/me/{name}"'))
        assert {r.image.name for r in dataset(root).records} == {name, "001.png"}
    # Quoted, beside a photo whose name is what is left without the percent sign.
    (root / "val2017/my photo 1.png").rename(root / "val2017/my20photo201.png")
    instances.write_text(text.replace('"000.png"', '"/data/local-files/?d=x/My%20photo%20(1).png"'))
    assert {r.image.name for r in dataset(root).records} == {"My photo (1).png", "001.png"}
    # Of two with one name, the one in the folder that is written.
    shutil.copy(root / "val2017/001.png", root / "val2017/deep/001.png")
    instances.write_text(text.replace('"000.png"', '"/home/me/deep/001.png"'))
    assert [r.id for r in dataset(root).records] == ["deep_001", "001"]
    # A mask named after its photo is not the photo.
    shutil.copy(root / "val2017/001.png", root / "val2017/a.jpg.png")
    instances.write_text(text.replace('"000.png"', '"a.jpg"'))
    with pytest.raises(MissingDataError, match=r"1 of the 2 images that it lists are not in .*a\.jpg"):
        dataset(root)


@pytest.mark.parametrize(
    "categories",
    [[{"id": 0, "name": "set"}], [{"id": 9, "name": "set"}, {"id": 1, "name": "person", "supercategory": "set"}],
     [{"id": 0, "name": "cup", "supercategory": "none"}]],
)  # fmt: skip
def test_what_is_no_class(coco: Layout, categories: Entries) -> None:
    ids = {entry["id"] for entry in categories}
    data = dataset(coco(categories=lambda old: [*(c for c in old if c["id"] not in ids), *categories]))
    assert data.classes == ("person", "car", "cup")
    assert data.warnings == {"categories without annotations that are a group or named twice (no class)": 1}
    assert [r.labels for r in data.records[:3]] == [(0,), (1,), (2,)]


def test_annotations_of_a_photo_that_exif_turns_are_not_used(coco: Layout) -> None:
    root, exif = coco(), Image.Exif()
    exif[0x0112] = 6
    with Image.open(path := root / "val2017/000.png") as image:
        image.save(path, exif=exif)
    data = dataset(root)
    assert data.warnings[OTHER_SIZE] == 1 and data.records[0].labels
    assert not data.records[0].boxes and not data.records[0].has_target


def test_exports_of_roboflow_are_found(coco: Layout) -> None:
    root = coco(part="train", count=4)
    coco(part="valid", count=1, annotations=lambda _: [])  # a small test part may show nothing
    for part in ("train", "valid"):
        (root / f"annotations/instances_{part}.json").rename(root / part / "_annotations.coco.json")
    assert [(r.split, len(r.labels)) for r in dataset(root).records] == [("trainval", 1)] * 4 + [("test", 0)]
    (root / "train/_annotations.coco.json").write_text((root / "valid/_annotations.coco.json").read_text())
    with pytest.raises(SegError, match=r"train/_annotations\.coco\.json: has no annotation"):
        dataset(root)


def test_the_content_is_the_identity(coco: Layout, tmp_path: Path) -> None:
    root, copy = coco(), tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    key = source(root).key
    (copy / "val2017/unlisted.png").write_bytes(b"x")
    assert source(copy, title="other", photos="val2017", cache=str(tmp_path / "cache.json")).key == key
    keys = {key, source(root, test_share=0.5).key, source(root, split_seed=1).key}
    Image.new("RGB", (60, 40)).save(copy / "val2017/000.png")
    keys.add(source(copy).key)
    json_file = copy / "annotations/instances_val2017.json"
    json_file.write_text(json_file.read_text() + " ")
    keys.add(source(copy).key)
    assert len(keys) == 5


@pytest.mark.real
def test_real_data(new_store: Store) -> None:
    root = Path(os.environ.get("SEG_DATA", Path(__file__).parents[2] / "../shared")) / "coco-mini"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set SEG_DATA to the folder that holds coco-mini/")
    data = dataset(root, test_share=0.2)
    assert len(data.records) == 79 and len(data.classes) == 80 and sum(r.split == "test" for r in data.records) == 16
    assert data.warnings["photos that no JSON lists (not used)"] == 10 and data.warnings["crowd regions (unknown)"] == 5
    regions = [region for r in data.records for region in r.regions or ()]
    assert sum(len(r.boxes) for r in data.records) == sum(region.code != 255 for region in regions) == 619
    prepared: PreparedData = new_store.get(Prepared(source=source(root), size=32))
    assert len(prepared) == 79 and prepared.has_target.all() and prepared.target_is_classes
    for row, labels in enumerate(prepared.label_sets):
        # What is hidden by what lies on it has no pixel; nothing else is there.
        assert set(np.unique(prepared.original_target(row)).tolist()) - {0, 255} <= {1 + label for label in labels}
