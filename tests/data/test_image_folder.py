"""Own photos as a source."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg.data.dataset import Dataset
from seg.data.decode import decode_trimap
from seg.data.image_folder import ImageFolder
from seg.data.prepared import Prepared, PreparedData
from seg.errors import SegError
from seg.store import Store

Photos = Callable[..., Path]


def source(root: Path, **options: Any) -> ImageFolder:
    return ImageFolder(root=str(root), **options)


def dataset(root: Path, **options: Any) -> Dataset:
    made: Dataset = source(root, **options).load(Path(), None)  # type: ignore[arg-type]
    return made


def mask(path: Path, value: int = 255, size: tuple[int, int] = (40, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(size, np.uint8)
    array[10:30, 20:45] = value
    Image.fromarray(array).save(path)
    return path


def test_labels_come_from_the_folders(photos: Photos) -> None:
    data = dataset(photos(classes=("dog", "cat", "ape")))
    assert data.classes == ("ape", "cat", "dog") and len(data.records) == 15 and not data.is_toy
    assert all(r.id.startswith(data.classes[r.labels[0]]) for r in data.records)
    splits = [r.split for r in data.records]
    assert splits == ["trainval"] * 12 + ["test"] * 3
    assert {r.labels for r in data.records[12:]} == {(0,), (1,), (2,)}
    assert data.file_names()["cat1"] == "cat/cat1.png"
    assert all(r.trimap is None and r.boxes == () for r in data.records)


def test_a_list_names_the_test_images(photos: Photos, tmp_path: Path) -> None:
    root, listed = photos(), tmp_path / "test.txt"
    listed.write_text("# held back\ncat1.png\n\ncat/cat2.png\ndog3\n")
    data = dataset(root, test_list=str(listed))
    assert {r.id for r in data.records if r.split == "test"} == {"cat1", "cat2", "dog3"}
    listed.write_text("cat1\ncta2.png\n")
    with pytest.raises(SegError, match=r"test.txt line 2: 'cta2.png' is no image of"):
        dataset(root, test_list=str(listed))
    listed.write_text("\n".join(f"cat{i}" for i in range(1, 6)))
    with pytest.raises(SegError, match="names all images of 'cat'; leave some"):
        dataset(root, test_list=str(listed))
    listed.write_text("# none yet\n\n")
    with pytest.raises(SegError, match=r"test.txt: names no image; .* data.test_share=0"):
        dataset(root, test_list=str(listed))


def test_masks_by_stem_by_folder_and_by_id(photos: Photos, new_store: Store, tmp_path: Path) -> None:
    root = photos()
    mask(root / "masks/cat1.png")
    mask(root / "masks/dog/dog2.png", 1)
    mask(root / "masks/stranger.png")
    mask(root / "masks/cat3.png", size=(80, 120))
    data = dataset(root)
    assert {r.id: r.trimap for r in data.records if r.trimap} == {
        "cat1": root / "masks/cat1.png",
        "dog2": root / "masks/dog/dog2.png",
        "cat3": root / "masks/cat3.png",
    }
    assert (
        data.quirks["masks of images that are not there (not used)"] == 1 and data.quirks["images without a mask"] == 7
    )
    prepared: PreparedData = new_store.get(Prepared(source=source(root), size=32))
    row = prepared.row_of["dog2"]
    expected = np.zeros((40, 60), np.uint8)
    expected[10:30, 20:45] = 1
    np.testing.assert_array_equal(prepared.original_truth(row), expected)
    np.testing.assert_array_equal(prepared.original_truth(prepared.row_of["cat1"]), expected)
    assert prepared.original_truth(prepared.row_of["cat3"]).shape == (40, 60)
    assert prepared.has_truth.sum() == 3
    notes = (new_store.manifest(Prepared(source=source(root), size=32)) or {})["notes"]
    assert notes["quirks"]["masks of another size than their image, resized"] == 1
    # The same somewhere else.
    key, elsewhere = source(root).key, str(tmp_path / "truth")
    shutil.move(root / "masks", elsewhere)
    assert source(root, masks=elsewhere).key == key != source(root).key
    assert {r.id for r in dataset(root, masks=elsewhere).records if r.trimap} == {"cat1", "dog2", "cat3"}


def test_masks_that_fit_nothing_or_twice(photos: Photos) -> None:
    root = photos()
    mask(root / "masks/x.png")
    with pytest.raises(SegError, match=r"none of its 1 masks is of an image that is used; 'x.png'"):
        dataset(root)
    mask(root / "masks/cat1.png")
    mask(root / "masks/cat/cat1.png")
    with pytest.raises(SegError, match="two masks of one image"):
        dataset(root)


def test_masks_in_the_forms_that_tools_write(photos: Photos) -> None:
    root, shape = photos(), np.zeros((40, 60), np.uint8)
    shape[10:30, 20:45] = 255
    grey = Image.fromarray(shape)
    forms = {"1.png": "1", "2.bmp": "RGB", "3.png": "RGBA", "4.tif": "L", "5.gif": "L"}
    (root / "Masks").mkdir()
    for name, mode in forms.items():
        grey.convert(mode).save(root / f"Masks/cat{name.replace('.', '_segm.')}")
    data = dataset(root)
    masks = {record.id: record.trimap for record in data.records if record.trimap}
    assert {path.name[3:] for path in masks.values()} == {name.replace(".", "_segm.") for name in forms}
    for path in masks.values():
        np.testing.assert_array_equal(decode_trimap(path, (40, 60), "binary")[0], shape > 0)
    black = Image.new("L", grey.size)
    for form, said in (
        (Image.merge("RGBA", [black, black, black, grey]), "with its shape in the alpha channel"),
        (grey.convert("RGB").quantize(2), "a palette with white as 0 and black as 1"),
    ):
        form.save(path := root / "form.png")
        with pytest.raises(SegError, match=said):
            decode_trimap(path, (40, 60), "binary")


def write_boxes(root: Path, form: str) -> Path:
    if form == "csv":
        path = root / "boxes.csv"
        path.write_text("file,xmin,ymin,xmax,ymax\ncat/cat1.png,20,10,45,30\ndog1.png,0,0,60.6,40\nx.png,1,2,3,4\n")
    elif form == "json":
        path = root / "boxes.json"
        images = [{"id": i, "file_name": f"set/{n}"} for i, n in enumerate(("cat/cat1.png", "dog1.png", "x.png"))]
        rows = [(0, [20, 10, 25, 20]), (1, [0, 0, 60.6, 40]), (2, [1, 2, 2, 2])]
        path.write_text(json.dumps({"images": images, "annotations": [{"image_id": i, "bbox": b} for i, b in rows]}))
    else:
        path = root / "boxes"
        path.mkdir()
        for name, box in (("cat1", (20, 10, 45, 30)), ("dog1", (0, 0, 60.6, 40)), ("x", (1, 2, 3, 4))):
            sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            (path / f"{name}.xml").write_text(f"<annotation><object><bndbox>{sides}</bndbox></object></annotation>")
    return path


@pytest.mark.parametrize("form", ["csv", "json", "voc"])
def test_boxes_in_three_forms(photos: Photos, form: str) -> None:
    root = photos()
    write_boxes(root, form)
    data = dataset(root)
    # What sticks out by less than a pixel is cut off.
    assert {r.id: r.boxes for r in data.records if r.boxes} == {"cat1": ((20, 10, 45, 30),), "dog1": ((0, 0, 60, 40),)}
    assert data.examples["boxes of images that are not there (not used)"] == (
        {"csv": "x.png", "json": "set/x.png", "voc": "x"}[form],
    )


def test_boxes_outside_of_their_image_or_of_none(photos: Photos, tmp_path: Path) -> None:
    root, path = photos(), tmp_path / "b.csv"
    path.write_text("cat1.png,0,0,62,40\n")
    with pytest.raises(SegError, match=r"b.csv line 1: box outside of its 60 x 40 image \(xmin=0 .*xmax=62"):
        dataset(root, boxes_from=str(path))
    path.write_text("a.png,0,0,6,4\n")
    with pytest.raises(SegError, match="none of its 1 boxes is of an image that is used"):
        dataset(root, boxes_from=str(path))


def test_stems_that_clash(photos: Photos) -> None:
    root = photos()
    shutil.copy(root / "cat/cat1.png", root / "dog/cat1.png")
    mask(root / "masks/cat/cat1.png")
    mask(root / "masks/dog_cat1.png")
    data = dataset(root)
    truths = {r.id: r.trimap for r in data.records if r.trimap}
    assert truths == {"cat_cat1": root / "masks/cat/cat1.png", "dog_cat1": root / "masks/dog_cat1.png"}
    mask(root / "masks/cat1.png")
    with pytest.raises(SegError, match=r"'cat1\.png' is the name of 2 images; write class/file"):
        dataset(root)


def test_the_content_is_the_identity_wherever_it_lies(photos: Photos, tmp_path: Path) -> None:
    root = photos()
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    cache = str(tmp_path / "cache.json")
    key = source(root).key
    assert source(copy, title="other", cache=cache).key == key == source(copy, cache=cache).key
    assert source(root, masks=False).key == key
    keys = {key, source(root, test_share=0.4).key, source(root, split_seed=1).key}
    assert len(keys) == 3
    assert source(root, test_share=0, split_seed=1).key == source(root, test_share=0).key not in keys
    # Every one of these is other data.
    for change in (
        lambda: (copy / "cat").rename(copy / "lion"),
        lambda: (copy / "dog/dog1.png").rename(copy / "dog/dog9.png"),
        lambda: write_boxes(copy, "voc"),
        lambda: mask(copy / "masks/dog2.png"),
        lambda: mask(copy / "masks/dog2.png", 1),
        lambda: (copy / "dog/dog3.png").write_bytes((copy / "dog/dog4.png").read_bytes()),
    ):
        change()
        keys.add(source(copy, cache=cache).key)
    keys.add(source(copy, cache=cache, mask_codes="ids").key)
    listed = tmp_path / "test.txt"
    for text in ("dog2\n", "dog3\n"):
        listed.write_text(text)
        keys.add(source(copy, cache=cache, test_list=str(listed)).key)
    assert len(keys) == 3 + 6 + 1 + 2


@pytest.mark.parametrize("option", ["masks", "boxes_from", "test_list"])
def test_a_key_is_never_that_of_a_file_that_is_not_there(photos: Photos, option: str) -> None:
    with pytest.raises(SegError, match=rf"data\.{option}=none.csv: no such file|no such folder"):
        _ = source(photos(), **{option: "none.csv"}).key


def test_with_a_cache_the_files_are_hashed_once(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = photos(), tmp_path / "cache.json"
    key = source(root, cache=str(cache)).key
    monkeypatch.setattr(Path, "read_bytes", lambda p: p.open("rb").read() if p == cache else pytest.fail(str(p)))
    assert source(root, cache=str(cache)).key == key


def test_refusals_are_the_same_line_for_the_key_and_the_check(tmp_path: Path, new_store: Store) -> None:
    for made, said in ((ImageFolder(), "give data.root=DIR"), (source(tmp_path / "none"), "no such folder")):
        for refused in (lambda made=made: made.check(new_store), lambda made=made: made.key):
            with pytest.raises(SegError, match=said):
                refused()
    with pytest.raises(SegError, match=r"data\.masks=true: give the folder"):
        source(tmp_path, masks=True)


def test_the_detail_says_what_was_found(photos: Photos, new_store: Store) -> None:
    root = photos(classes=("cat",))
    said = source(root).detail(new_store)
    assert said == ": 5 images of 1 class, no masks, no boxes, test images drawn (test_share=0.2)"
    write_boxes(root, "csv")
    mask(root / "masks/cat2.png")
    said = source(root).detail(new_store)
    assert f"mask files for 1 in {root / 'masks'}" in said and f"boxes for 1 in {root / 'boxes.csv'}" in said


# -- several classes ------------------------------------------------------------------------------------

LABELS = """file,labels
apple1.png,apple
apple2.png,apple;pear
pear1.png, pear ; apple
pear2.png,pear
none.png,
"""


@pytest.fixture
def fruits(photos: Photos) -> Path:
    """Photos in one folder of which some show two fruits, some one, one none, and one is not named."""
    root = photos(classes=("apple", "pear"), images=2)
    for path in [*root.glob("*/*.png")]:
        path.rename(root / path.name)
    shutil.rmtree(root / "apple"), shutil.rmtree(root / "pear")
    for name in ("none", "unnamed"):
        Image.new("RGB", (60, 40)).save(root / f"{name}.png")
    (root / "labels.csv").write_text(LABELS)
    return root


def test_a_file_of_labels(fruits: Path, new_store: Store) -> None:
    data = dataset(fruits, test_share=0)
    assert data.classes == ("apple", "pear")
    assert {r.id: r.labels for r in data.records} == {
        "apple1": (0,), "apple2": (0, 1), "pear1": (0, 1), "pear2": (1,), "none": ()
    }  # fmt: skip
    assert data.quirks == {
        "images that the file of labels does not name (not used)": 1,
        "images without a label (background alone)": 1,
    }
    assert data.examples["images that the file of labels does not name (not used)"] == ("unnamed",)
    assert f"5 images of 2 classes (labels in {fruits / 'labels.csv'})" in source(fruits).detail(new_store)
    prepared: PreparedData = new_store.get(Prepared(source=source(fruits, test_share=0), size=32))
    assert dict(zip(prepared.ids, prepared.label_sets, strict=True))["pear1"] == (0, 1)
    # Elsewhere, and with the photos in folders that mean nothing.
    (fruits / "train").mkdir()
    (fruits / "apple1.png").rename(fruits / "train/apple1.png")
    elsewhere = shutil.move(fruits / "labels.csv", fruits.parent / "mine.csv")
    moved = dataset(fruits, labels_from=str(elsewhere), test_share=0)
    assert {r.id: r.labels for r in moved.records} == {r.id: r.labels for r in data.records}
    assert moved.file_names()["apple1"] == "train/apple1.png"


def test_the_folders_count_where_the_labels_are_left_out(photos: Photos) -> None:
    root = photos()
    key = source(root).key
    (root / "labels.csv").write_text("cat1,a;b\ncat2,a\ndog1,b\ndog2,b\n")
    assert dataset(root).classes == ("a", "b") and len(dataset(root).records) == 4
    assert dataset(root, labels_from=False).classes == ("cat", "dog")
    assert source(root, labels_from=False).key == key != source(root).key


def test_test_images_of_labelled_data(fruits: Path, tmp_path: Path) -> None:
    more = "".join(f"more{i}.png,{('apple', 'pear', 'apple;pear', '')[i % 4]}\n" for i in range(20))
    for i in range(20):
        Image.new("RGB", (60, 40)).save(fruits / f"more{i}.png")
    (fruits / "labels.csv").write_text(LABELS + more)
    assert sum(r.split == "test" for r in dataset(fruits).records) == 5
    listed = tmp_path / "test.txt"
    listed.write_text("apple2\nnone.png\n")
    data = dataset(fruits, test_list=str(listed))
    assert [r.id for r in data.records if r.split == "test"] == ["apple2", "none"]
    (fruits / "labels.csv").write_text(LABELS)
    listed.write_text("apple2\npear1\npear2\n")
    with pytest.raises(SegError, match="names all images of 'pear'; leave some of each class"):
        dataset(fruits, test_list=str(listed))


def test_lines_of_one_image_add_up_and_other_columns_are_not_read(fruits: Path) -> None:
    (fruits / "labels.csv").write_text(
        "Image,sharp,Label\napple1.png,0,apple\nset/apple2.png,1,pear\napple2.png,1,apple\ngone.png,1,plum\n"
    )
    data = dataset(fruits, test_share=0)
    assert {r.id: r.labels for r in data.records} == {"apple1": (0,), "apple2": (0, 1)}
    assert data.quirks["labels of images that are not there (not used)"] == 1
    # What the codes of masks mean does not depend on which images are there.
    assert data.classes == ("apple", "pear", "plum") and data.examples["classes without an image"] == ("plum",)


@pytest.mark.parametrize(
    "text",
    [
        "id,breed\n{0},{1}\n{2},{3}\n",
        "\ufeffimage_id,label\r\n{0},{1}\r\n\r\n{2},{3}\r\n\r\n",
        "sep=;\nfile;labels\n{0};{1}\n{2};apple|pear\n",
        "file;labels\n{0};{1}\n{2};{3}\n",
        "file\tlabels\n{0}\t{1}\n{2}\t{3}\n",
        "filename, apple, pear\n{0}, 1, 0\n{2}, 1, 1\n",
        ",Image Name,apple,pear\n0,{0},1.0,0.0\n1,{2},1.0,1.0\n",
        '"file","label"\n"{0}","{1}"\n"{2}","{3}"\n',
        "{0},{1}\n{2},{3}",
        "id,tags\n{0},['{1}']\n{2},\"['apple', 'pear']\"\n",
        "path,class,checked\nC:\\data\\{0},{1},no\nhttps://example.org/x/{2},{3},yes\n",
    ],
)
def test_tables_of_labels_as_tools_write_them(fruits: Path, text: str) -> None:
    named = ("apple1.png", "apple", "apple2.PNG", '"apple;pear"' if "file;" in text else "apple;pear")
    (fruits / "labels.csv").write_text(text.format(*named).replace('""', '"'), encoding="utf-8", newline="")
    data = dataset(fruits, test_share=0)
    assert data.classes == ("apple", "pear")
    assert {r.id: r.labels for r in data.records} == {"apple1": (0,), "apple2": (0, 1)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "apple1.png,apple,pear\n",
            r"labels.csv line 1: 'apple1.png,apple,pear' has 3 columns, not 2; several",
        ),
        ("file,labels\napple1.png,apple,pear\n", r"labels.csv line 2: .* has 3 columns, not 2"),
        (
            "file,apple,pear\napple1.png,1,2\n",
            r"line 1: no column is called labels, and the others do not hold 0 and 1",
        ),
        ("name of,kind\napple1.png,apple\n", r"line 1: 'name of,kind' names no image and is no heading .* file,labels"),
        ('apple1.png,"apple, pear"\npear2.png,pear\n', r"line 1: 'apple, pear': are these several labels\?"),
        (",apple\n", r"labels.csv line 1: names no file"),
        (
            "none.png,Background\n",
            r"line 1: background is no class; leave the labels of an image",
        ),
        ("", r"labels.csv: names no class"),
        ("apple1.png,\n", r"labels.csv: names no class"),
        ("gone.png,apple\n", r"labels.csv: none of its 1 labels is of an image .*; 'gone.png', say, is none"),
        ("".join(f"apple1.png,{i}\n" for i in range(254)), r"254 classes, and masks have codes for 253"),
    ],
)
def test_labels_that_are_refused(fruits: Path, text: str, said: str) -> None:
    (fruits / "labels.csv").write_text(text)
    with pytest.raises(SegError, match=said) as error:
        dataset(fruits)
    assert "\n" not in str(error.value)


def test_a_file_of_labels_that_is_not_there(fruits: Path) -> None:
    with pytest.raises(SegError, match=r"data\.labels_from=none.csv: no such file"):
        dataset(fruits, labels_from="none.csv")
    with pytest.raises(SegError, match=r"data\.labels_from=true: give a CSV"):
        source(fruits, labels_from=True)
    with pytest.raises(SegError, match=r"its 6 images lie in no folder; .* or write their classes into labels.csv"):
        dataset(fruits, labels_from=False)


def test_boxes_with_classes(fruits: Path) -> None:
    boxes = fruits / "boxes.csv"
    heading = "file,xmin,ymin,xmax,ymax,class\n"
    boxes.write_text(
        f"{heading}apple2.png,1,2,30,40,pear\napple2.png,5,5,9,9,apple\npear2,0,0,60.5,9\nunnamed,1,1,2,2\n"
    )
    data = dataset(fruits, test_share=0)
    records = {r.id: (r.boxes, r.box_labels) for r in data.records if r.boxes}
    assert records == {"apple2": (((1, 2, 30, 40), (5, 5, 9, 9)), (1, 0)), "pear2": (((0, 0, 60, 9),), ())}
    assert data.quirks["boxes of images that are not there (not used)"] == 1
    for line, said in (
        ("apple2.png,1,2,3,4,plum", r"boxes.csv line 2: a box of 'plum', which is no class of the data"),
        ("apple1.png,1,2,3,4,pear", r"boxes.csv line 2: a box of 'pear', which is no label of its image"),
        ("apple2.png,1,2,3,4,", r"boxes.csv line 2: a box without a class in an image of 2 labels; say whose"),
        ("none.png,1,2,3,4,", r"boxes.csv line 2: a box without a class in an image of none"),
    ):
        boxes.write_text(f"{heading}{line}\n")
        with pytest.raises(SegError, match=said):
            dataset(fruits)


def test_classes_of_boxes_mean_nothing_in_a_folder_of_a_class(photos: Photos) -> None:
    root = photos()
    (root / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax,class\ncat1.png,1,2,30,40,head\n")
    assert dataset(root).records[0].box_labels == ()


def test_masks_that_name_classes(fruits: Path, new_store: Store) -> None:
    array = np.zeros((40, 60), np.uint8)
    array[5:10], array[20:30], array[35:, :5] = 1, 2, 255
    (fruits / "masks").mkdir()
    Image.fromarray(array).save(fruits / "masks/apple2.png")
    array[0, 0] = array[0, 1] = 3
    Image.fromarray(array).save(fruits / "masks/pear1.png")
    made = Prepared(source=source(fruits, mask_codes="classes", test_share=0), size=32)
    prepared: PreparedData = new_store.get(made)
    assert prepared.truth_is_classes and prepared.has_truth.sum() == 2
    told = dataclasses.replace(prepared, task="classes")
    rows = [prepared.row_of[name] for name in ("apple2", "pear1")]
    truths = [told.original_truth(row) for row in rows]
    np.testing.assert_array_equal(truths[1][1:], array[1:])
    assert truths[0][0, 0] == 0 and truths[1][0, 0] == truths[1][0, 1] == 255  # there is no third class
    assert set(np.unique(prepared.original_truth(rows[0])).tolist()) == {0, 1, 255}
    notes = (new_store.manifest(made) or {})["notes"]
    assert notes["quirks"]["masks with values that are no class (3; unknown there)"] == 1
    keys = {source(fruits, mask_codes=codes).key for codes in ("classes", "ids", "binary")}
    assert len(keys) == 3


def test_masks_that_name_classes_in_folders_of_classes(photos: Photos, new_store: Store) -> None:
    root = photos()
    mask(root / "masks/dog1.png", 2)
    prepared: PreparedData = new_store.get(Prepared(source=source(root, mask_codes="classes"), size=32))
    row = prepared.row_of["dog1"]
    assert prepared.label_sets[row] == (1,)
    assert dataclasses.replace(prepared, task="classes").original_truth(row).max() == 2
