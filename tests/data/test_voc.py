"""VOC's layout: what is read, counted and refused; what tools write in it."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg.data.dataset import Dataset
from seg.data.prepared import Prepared, PreparedData
from seg.data.voc import Voc, read_classes
from seg.errors import SegError
from seg.store import Store

Writer = Callable[..., Path]
FIRST = "2007_000000"


def layout(root: Path) -> Path:
    return root / "VOCdevkit/VOC2012"


def read(store: Store, root: Path, **said: Any) -> Dataset:
    made: Dataset = store.get(Voc(root=str(root), **said))
    return made


def labels(data: Dataset) -> list[tuple[int, ...]]:
    return [record.labels for record in data.records]


def names(root: Path, *classes: str) -> None:
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))


def write_list(root: Path, name: str, lines: list[str]) -> None:
    (layout(root) / f"ImageSets/Segmentation/{name}.txt").write_text("".join(f"{line}\n" for line in lines))


def listed(root: Path, name: str) -> list[str]:
    return (layout(root) / f"ImageSets/Segmentation/{name}.txt").read_text().split()


def write_mask(path: Path, *codes: int) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.repeat(np.asarray(codes, np.uint8), 60 * 40 // len(codes)).reshape(40, 60)).save(path)


def xml(root: Path, stem: str = FIRST) -> Path:
    return layout(root) / f"Annotations/{stem}.xml"


def rename(root: Path, old: str, new: str) -> None:
    for path in (layout(root) / "Annotations").iterdir():
        path.write_text(path.read_text().replace(f"<name>{old}</name>", f"<name>{new}</name>"))


def refused(store: Store, root: Path, match: str, **said: Any) -> str:
    with pytest.raises(SegError, match=match) as error:
        read(store, root, **said)
    assert "\n" not in str(error.value)
    return str(error.value)


ALL = [(0, 1), (1,), (0,), (0, 1), (), (1,), (0, 1), (1,), (0,)]


@pytest.mark.parametrize("labels_from", ["auto", "xml", "masks"])
def test_labels_boxes_and_splits(new_store: Store, voc: Writer, labels_from: str) -> None:
    data = read(new_store, voc(), labels_from=labels_from)
    assert data.classes == ("apple", "pear") and data.target_is_classes
    assert labels(data) == ALL  # those of difficult objects too
    assert [r.split for r in data.records] == ["trainval"] * 6 + ["test"] * 3
    both, one, none = data.records[0], data.records[1], data.records[4]
    assert both.boxes == ((5, 10, 25, 30), (33, 10, 53, 30)) and both.box_labels == (0, 1)
    assert one.boxes == ((33, 10, 53, 30),) and one.box_labels == ()  # all of its one class
    assert none.boxes == () and none.has_target and none.codes == "classes"
    assert dict(data.warnings) == {"images without an object": 1}


def test_masks_are_read_by_index_and_their_border_is_unknown(new_store: Store, voc: Writer) -> None:
    data: PreparedData = new_store.get(Prepared(source=Voc(root=str(voc())), size=64))
    assert data.target_is_classes and data.label_sets == ALL and data.box_labels[0] == [0, 1]
    target = data.original_target(0)
    assert target[20, 15] == 1 and target[20, 43] == 2 and target[9, 15] == 255 and target[0, 0] == 0
    assert set(np.unique(data.target(np.asarray([4])))) == {0}


def test_the_folder_may_be_named_at_each_depth_and_the_key_is_its_content(voc: Writer, tmp_path: Path) -> None:
    root = voc()
    keys = {Voc(root=str(place)).key for place in (root, root / "VOCdevkit", layout(root))}
    assert len(keys) == 1
    flat = tmp_path / "flat"
    shutil.copytree(layout(root), flat)
    shutil.copy(root / "classes.txt", flat)
    assert {Voc(root=str(flat)).key} == keys
    names(root, "apple", "plum")
    assert Voc(root=str(root)).key not in keys
    assert Voc(root=str(flat), labels_from="masks").key not in keys


def test_without_xml_the_masks_say_it_and_one_by_one(new_store: Store, voc: Writer) -> None:
    root = voc()
    xml(root).unlink()
    data = read(new_store, root)
    assert labels(data) == ALL
    assert data.warnings["images without XML (labels from their mask)"] == 1
    assert not data.records[0].boxes
    shutil.rmtree(layout(root) / "Annotations")
    data = read(new_store, root)
    assert labels(data) == ALL and dict(data.warnings) == {"images without an object": 1}


def test_trainaug_takes_the_masks_of_sbd_and_leaves_the_test_images_their_own(new_store: Store, voc: Writer) -> None:
    root = voc()
    stems = listed(root, "train")
    for stem in [*stems[:4], *listed(root, "val")]:
        write_mask(layout(root) / f"SegmentationClassAug/{stem}.png", 0, 1, 2)
    # As some write it, with the paths of image and mask.
    lines = [f"/JPEGImages/{stem}.jpg /SegmentationClassAug/{stem}.png" for stem in stems[:5]]
    write_list(root, "trainaug", lines)
    data = read(new_store, root, train_list="trainaug")
    folders = [r.trimap.parent.name for r in data.records if r.trimap]
    assert folders == ["SegmentationClassAug"] * 4 + ["SegmentationClass"] * 4
    detail = Voc(root=str(root), train_list="trainaug").detail(new_store)
    assert "8 images of 2 classes" in detail and f"test images in {layout(root)}/ImageSets/Segmentation/val" in detail
    assert {r.trimap.parent.name for r in read(new_store, root).records if r.trimap} == {"SegmentationClass"}


def test_warnings(new_store: Store, voc: Writer) -> None:
    root = voc()
    stems = listed(root, "train")
    write_list(root, "train", [*stems, stems[1], "gone"])
    write_mask(layout(root) / "SegmentationClass/unlisted.png", 0, 1)
    shutil.copy(layout(root) / f"JPEGImages/{FIRST}.jpg", layout(root) / "JPEGImages/unlisted.jpg")
    for stem in stems[2:4]:
        (layout(root) / f"SegmentationClass/{stem}.png").unlink()
    xml(root, stems[3]).unlink()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    plum = f"<object><name>plum</name>{box}</object></annotation>"
    xml(root).write_text(xml(root).read_text().replace("</annotation>", plum))
    data = read(new_store, root)
    assert dict(data.warnings) == {
        "images listed twice in a split (kept once)": 1,
        "listed images that are missing": 1,
        "images that no list names (not used)": 1,
        "boxes of a class that is not among their image's labels (not used)": 1,
        "images without XML or a usable mask (not used)": 1,
        "images without an object": 1,
        "images without a mask": 1,
    }
    assert [r.id for r in data.records if r.split == "trainval"] == [s for s in stems if s != stems[3]]


def test_labels_and_masks_that_disagree_are_counted_where_they_are_decoded(
    new_store: Store, voc: Writer, manifest: Callable[[Path], dict[str, Any]]
) -> None:
    root = voc()
    write_mask(layout(root) / f"SegmentationClass/{FIRST}.png", 0, 1, 7)
    prepared = Prepared(source=Voc(root=str(root)), size=64)
    data: PreparedData = new_store.get(prepared)
    assert data.label_sets[0] == (0, 1)
    write_mask(layout(root) / "SegmentationClass/2007_000001.png", 0, 1, 2)
    other = Prepared(source=Voc(root=str(root)), size=64)
    new_store.get(other)
    lacks = "images with a label that their mask does not have (both used)"
    shows = "images whose mask has a class that is not among their labels (both used)"
    strange = "masks with values of no class (7; unknown there)"
    warnings = [manifest(new_store.folder(stage))["notes"]["warnings"] for stage in (prepared, other)]
    assert [(q.get(lacks), q.get(shows), q.get(strange)) for q in warnings] == [(1, None, 1), (1, 1, 1)]


@pytest.mark.parametrize("text", ["background\n", "apple\nbackground\npear\n", "apple\npear\napple\n"])
def test_lists_of_classes_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(SegError, match="must hold the name of each class once, a line each"):
        read_classes(tmp_path / "classes.txt")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"train_list": "trainaug"}, r"data\.train_list=trainaug: no file .*there are train, trainval, val"),
        ({"masks": "Masks"}, r"data\.masks=Masks: no such folder .*"),
        ({"classes": "none.txt"}, r"data\.classes=none\.txt: no such file"),
    ],
)
def test_what_is_not_there(new_store: Store, voc: Writer, said: dict[str, Any], message: str) -> None:
    refused(new_store, voc(), message, **said)


@pytest.mark.parametrize(
    "write",
    [
        lambda stem: f"{stem} -1",
        lambda stem: f"data\\obj\\{stem}.JPG",
        lambda stem: f"JPEGImages/{stem}.jpg SegmentationClass/{stem}.png",
    ],
)
def test_lines_of_lists(new_store: Store, voc: Writer, write: Callable[[str], str]) -> None:
    root = voc()
    write_list(root, "train", [write(stem) for stem in listed(root, "train")])
    data = read(new_store, root)
    assert labels(data) == ALL and dict(data.warnings) == {"images without an object": 1}


@pytest.mark.parametrize("place", ["Segmentation", "Main"])
def test_of_a_single_list_a_share_is_drawn(new_store: Store, voc: Writer, place: str) -> None:
    root = voc()
    stems = listed(root, "trainval")
    shutil.rmtree(layout(root) / "ImageSets")
    (layout(root) / f"ImageSets/{place}").mkdir(parents=True)
    (layout(root) / f"ImageSets/{place}/default.txt").write_text("\n".join(stems))
    data = read(new_store, root, test_share=0.3)
    assert Counter(r.split for r in data.records) == {"trainval": 6, "test": 3}
    source = Voc(root=str(root), test_share=0.3)
    assert "test images drawn (test_share=0.3)" in source.detail(new_store)
    assert source.key != Voc(root=str(root), test_share=0.2).key
    none = read(new_store, root, train_list="default", test_list=None)
    assert {r.split for r in none.records} == {"trainval"}


def in_colour(root: Path, colours: dict[int, tuple[int, int, int]]) -> None:
    for path in (layout(root) / "SegmentationClass").iterdir():
        codes = np.asarray(Image.open(path))
        rgb = np.zeros((*codes.shape, 3), np.uint8)
        for code, colour in colours.items():
            rgb[codes == code] = colour
        Image.fromarray(rgb).save(path)


LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\napple:250,50,83::\npear:51,221,255::\n"
CVAT = {1: (250, 50, 83), 2: (51, 221, 255), 255: (224, 224, 192)}
PALETTE = {1: (128, 0, 0), 2: (0, 128, 0), 255: (224, 224, 192)}


@pytest.mark.parametrize(("colours", "labelmap"), [(CVAT, LABELMAP), (PALETTE, "")])
def test_colour_masks(new_store: Store, voc: Writer, colours: dict[int, tuple[int, int, int]], labelmap: str) -> None:
    root = voc()
    in_colour(root, colours)
    shutil.rmtree(layout(root) / "Annotations")
    if labelmap:
        (layout(root) / "labelmap.txt").write_text(labelmap)
    data: PreparedData = new_store.get(Prepared(source=Voc(root=str(root)), size=64))
    assert data.classes == ("apple", "pear")
    target = data.original_target(0)
    assert [target[20, x] for x in (15, 43)] == [1, 2] and target[9, 15] == 255 and target[0, 0] == 0
    assert data.label_sets == ALL


def test_masks_of_0_and_255_are_refused_and_those_of_255_not_used(new_store: Store, voc: Writer) -> None:
    root = voc()
    shutil.rmtree(layout(root) / "Annotations")
    write_mask(layout(root) / f"SegmentationClass/{FIRST}.png", 255)
    assert len(read(new_store, root).records) == 8
    for path in (layout(root) / "SegmentationClass").iterdir():
        write_mask(path, 0, 255)
    refused(new_store, root, r"none of 9 masks shows a class.*data=image_folder data\.mask_codes=binary")


@pytest.mark.parametrize(
    ("old", "new", "box"),
    [
        ("<xmax>25<", "<xmax>61<", (5, 10, 60, 30)),
        ("<name>apple<", "<name> apple <", (5, 10, 25, 30)),
        ("<width>60</width><height>40</height>", "<width>0</width><height>0</height>", (5, 10, 25, 30)),
        ("<annotation>", "\n <?xml version='1.0'?><annotation>", (5, 10, 25, 30)),
    ],
)
def test_xml_of_tools(new_store: Store, voc: Writer, old: str, new: str, box: tuple[float, ...]) -> None:
    root = voc()
    text = xml(root).read_text()
    assert old in text
    xml(root).write_text(text.replace(old, new))
    data = read(new_store, root)
    assert data.records[0].boxes == (box, (33, 10, 53, 30)) and labels(data) == ALL


@pytest.mark.parametrize(("orientation", "size"), [(6, (60, 40)), (1, (30, 20))])
def test_boxes_of_an_image_of_another_size_are_not_used(
    new_store: Store, voc: Writer, orientation: int, size: tuple[int, int]
) -> None:
    root, exif = voc(), Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(layout(root) / f"JPEGImages/{FIRST}.jpg", exif=exif)
    data = read(new_store, root)
    assert not data.records[0].boxes and data.records[1].boxes and labels(data) == ALL
    assert data.warnings["images of another size than their boxes' file says (boxes not used)"] == 1


def of_other_classes(root: Path) -> None:
    shutil.rmtree(layout(root) / "Annotations")
    for path in (layout(root) / "SegmentationClass").iterdir():
        write_mask(path, 0, 1, 3)


def with_other_masks(root: Path) -> None:
    for path in (layout(root) / "SegmentationClass").iterdir():
        path.rename(path.with_stem(f"{path.stem}_mask"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda root: rename(root, "apple", "aple"),
            r"the XML has aple, .*no object of apple",
        ),
        (
            of_other_classes,
            r"9 of 9 masks .* have codes of no class: .*000000\.png: 3; there are 2 classes, .*txt",
        ),
        (
            lambda root: write_list(root, "train", ["2007_000001", "2007_000004"]),
            r"no trainval image of 'apple', which test images have; add some",
        ),
        (lambda root: shutil.rmtree(layout(root) / "ImageSets"), r"missing: a list in ImageSets/Segmentation"),
        (with_other_masks, r"no mask has the name of a listed image, for example '2007_00000\d_mask'"),
    ],
)
def test_data_that_are_refused(new_store: Store, voc: Writer, change: Callable[[Path], None], said: str) -> None:
    root = voc()
    change(root)
    refused(new_store, root, said)


def test_masks_decide_over_xml_where_labels_come_from_them(new_store: Store, voc: Writer) -> None:
    root = voc()
    (layout(root) / "SegmentationClass/2007_000001.png").write_bytes(b"no picture")
    write_mask(layout(root) / f"SegmentationClass/{FIRST}.png", 0, 1)
    data = read(new_store, root, labels_from="masks")
    assert len(data.records) == 8
    assert data.records[0].labels == (0,) and data.records[0].boxes == ((5, 10, 25, 30),)
    assert data.warnings["masks that cannot be read or are unknown everywhere (image not used)"] == 1
    assert data.warnings["boxes of a class that is not among their image's labels (not used)"] == 1


@pytest.mark.real
def test_msrc(new_store: Store) -> None:
    root = Path(os.environ.get("SEG_DATA", Path(__file__).parents[2] / "../shared")) / "msrc"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set SEG_DATA to the folder that holds msrc/")
    data = read(new_store, root)
    assert len(data.classes) == 15 and data.classes[0] == "cow" and data.classes[14] == "boat"
    assert Counter(r.split for r in data.records) == {"trainval": 291, "test": 150}
    assert all(r.has_target and not r.boxes for r in data.records)
    trained = [r for r in data.records if r.split == "trainval"]
    assert Counter(min(2, len(r.labels)) for r in trained) == {0: 50, 1: 212, 2: 29}
    count = Counter(label for r in trained for label in r.labels)
    assert (min(count.values()), max(count.values()), len(count)) == (10, 27, 15)
    assert dict(data.warnings) == {"images without an object": 78}
    every = read(new_store, root, masks="SegmentationClassAll")
    assert len(every.classes) == 21 and every.classes[:2] == ("building", "grass")
    assert len(every.records) == 441 and all(r.labels for r in every.records) and not every.warnings
    # The objects are the same in both, by name.
    named = [{every.classes[label] for label in r.labels} & {*data.classes} for r in every.records]
    assert named == [{data.classes[label] for label in r.labels} for r in data.records]
