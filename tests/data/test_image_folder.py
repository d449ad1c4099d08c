"""Own photos as a source."""

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
from seg.data.draw import draw_by_labels
from seg.data.image_folder import ImageFolder
from seg.data.prepared import Prepared, PreparedData
from seg.errors import SegError
from seg.store import Store

Photos = Callable[..., Path]
LABELS = "file,labels\napple1.png,apple\napple2.png,apple;pear\npear1.png, pear ; apple\npear2.png,pear\nnone.png,\n"
NOT_NAMED = "images that the file of labels does not name (not used)"


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


def source(root: Path, **options: Any) -> ImageFolder:
    return ImageFolder(root=str(root), **options)


def dataset(root: Path, **options: Any) -> Dataset:
    made: Dataset = source(root, **options).load(Path(), None)  # type: ignore[arg-type]
    return made


def labels(data: Dataset) -> dict[str, tuple[int, ...]]:
    return {record.id: record.labels for record in data.records}


def masks(data: Dataset) -> dict[str, Path]:
    return {record.id: record.trimap for record in data.records if record.trimap}


def mask(path: Path, value: int = 255, size: tuple[int, int] = (40, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(size, np.uint8)
    array[10:30, 20:45] = value
    Image.fromarray(array).save(path)
    return path


def test_labels_come_from_the_folders(photos: Photos, new_store: Store) -> None:
    root = photos(classes=("dog", "cat", "ape"))
    (root / "rare").mkdir()
    shutil.copy(root / "cat/cat1.png", root / "rare/rare1.png")
    data = dataset(root)
    assert data.classes == ("ape", "cat", "dog", "rare") and len(data.records) == 16 and not data.is_toy
    assert all(r.id.startswith(data.classes[r.labels[0]]) for r in data.records)
    # A share of each class, and never its only image.
    assert [r.split for r in data.records] == ["trainval"] * 13 + ["test"] * 3
    assert {r.labels for r in data.records[13:]} == {(0,), (1,), (2,)}
    assert data.file_names()["cat1"] == "cat/cat1.png"
    assert all(r.trimap is None and r.boxes == () for r in data.records)
    said = source(root).detail(new_store)
    assert said == ": 16 images of 4 classes, no masks, no boxes, test images drawn (test_share=0.2)"


def test_a_list_names_the_test_images(photos: Photos, tmp_path: Path) -> None:
    root, listed = photos(), tmp_path / "test.txt"
    listed.write_text("# held back\ncat1.png\n\ncat/cat2.png\ndog3\n")
    data = dataset(root, test_list=str(listed))
    assert {r.id for r in data.records if r.split == "test"} == {"cat1", "cat2", "dog3"}
    for text, said in (
        ("cat1\ncta2.png\n", r"test.txt line 2: 'cta2.png' is no image of"),
        ("\n".join(f"cat{i}" for i in range(1, 6)), "names all images of 'cat'; leave some"),
        ("# none yet\n\n", r"test.txt: names no image; .* data.test_share=0"),
    ):
        listed.write_text(text)
        with pytest.raises(SegError, match=said):
            dataset(root, test_list=str(listed))


def test_a_draw_leaves_some_images_of_each_class() -> None:
    own = {f"{i}.jpg": ((0,), (0, 1), (1,), ())[i % 4] for i in range(40)} | {"rare.jpg": (0, 2)}
    test = draw_by_labels(own, 0.2, 0)
    assert len(test) == 8 and "rare.jpg" not in test
    assert draw_by_labels(dict(reversed(own.items())), 0.2, 0) == test  # not by order
    assert draw_by_labels(own, 0.2, 1) != test
    assert len(draw_by_labels(own | {"new.jpg": (1,)}, 0.2, 0) - test) <= 1
    most = draw_by_labels(own, 0.99, 0)
    assert {label for name in own if name not in most for label in own[name]} == {0, 1, 2}
    # Not the last image of all, either, where none has a class.
    assert len(draw_by_labels({"a": (), "b": ()}, 0.9, 0)) == 1
    assert draw_by_labels({}, 0.5, 0) == draw_by_labels(own, 0, 0) == set()


# -- masks ------------------------------------------------------------------------------------------------


def test_masks_by_stem_by_folder_and_by_id(photos: Photos, new_store: Store, tmp_path: Path) -> None:
    root = photos()
    mask(root / "masks/cat1.png")
    mask(root / "masks/dog/dog2.png", 1)
    mask(root / "masks/stranger.png")
    mask(root / "masks/cat3.png", size=(80, 120))
    data, names = dataset(root), {"cat1": "cat1.png", "dog2": "dog/dog2.png", "cat3": "cat3.png"}
    assert masks(data) == {i: root / "masks" / name for i, name in names.items()}
    assert data.warnings == {"masks of images that are not there (not used)": 1, "images without a mask": 7}
    assert f"mask files for 3 in {root / 'masks'}," in source(root).detail(new_store)
    made = Prepared(source=source(root), size=32)
    prepared: PreparedData = new_store.get(made)
    expected = np.zeros((40, 60), np.uint8)
    expected[10:30, 20:45] = 1
    for name in ("dog2", "cat1"):
        np.testing.assert_array_equal(prepared.merged().original_target(prepared.row_of[name]), expected)
    assert prepared.original_target(prepared.row_of["cat3"]).shape == (40, 60) and prepared.has_target.sum() == 3
    notes = (new_store.manifest(made) or {})["notes"]
    assert notes["warnings"]["masks of another size than their image, resized"] == 1
    # The same somewhere else.
    key, elsewhere = source(root).key, str(tmp_path / "target")
    shutil.move(root / "masks", elsewhere)
    assert source(root, masks=elsewhere).key == key != source(root).key
    assert set(masks(dataset(root, masks=elsewhere))) == set(names)


def test_masks_that_fit_nothing_or_twice(photos: Photos) -> None:
    root = photos()
    mask(root / "masks/x.png")
    with pytest.raises(SegError, match=r"none of its 1 masks is of an image that is used; 'x.png', .*mask_suffix"):
        dataset(root)
    mask(root / "masks/cat1.png")
    mask(root / "masks/cat/cat1.png")
    with pytest.raises(SegError, match="two masks of one image"):
        dataset(root)


def test_masks_in_the_forms_that_tools_write(photos: Photos, new_store: Store) -> None:
    root, shape = photos(), np.zeros((40, 60), np.uint8)
    shape[10:30, 20:45] = 255
    grey = Image.fromarray(shape)
    forms = {"1_x.png": "1", "2_x.bmp": "RGB", "3_x.png": "RGBA", "4_x.tif": "L", "5_x.gif": "L"}
    (root / "Masks").mkdir()
    for name, mode in forms.items():
        grey.convert(mode).save(root / f"Masks/cat{name}")
    found = masks(dataset(root))
    assert found == {f"cat{name[0]}": root / f"Masks/cat{name}" for name in forms}
    assert f"mask files for 5 in {root / 'Masks'} (called *_x)" in source(root).detail(new_store)
    for path in found.values():
        np.testing.assert_array_equal(decode_trimap(path, (40, 60), "binary")[0], shape > 0)
    black = Image.new("L", grey.size)
    for form, said in (
        (Image.merge("RGBA", [black, black, black, grey]), "with its shape in the alpha channel"),
        (grey.convert("RGB").quantize(2), "a palette with white as 0 and black as 1"),
    ):
        form.save(path := root / "form.png")
        with pytest.raises(SegError, match=said):
            decode_trimap(path, (40, 60), "binary")


def test_stems_that_clash(photos: Photos) -> None:
    root = photos()
    shutil.copy(root / "cat/cat1.png", root / "dog/cat1.png")
    mask(root / "masks/cat/cat1.png")
    mask(root / "masks/dog_cat1.png")
    assert masks(dataset(root)) == {
        "cat_cat1": root / "masks/cat/cat1.png", "dog_cat1": root / "masks/dog_cat1.png"
    }  # fmt: skip
    mask(root / "masks/cat1.png")
    with pytest.raises(SegError, match=r"'cat1\.png' is the name of 2 images; write class/file"):
        dataset(root)


def test_masks_that_name_classes(fruits: Path, new_store: Store) -> None:
    array = np.zeros((40, 60), np.uint8)
    array[5:10], array[20:30], array[35:, :5] = 1, 2, 255
    (fruits / "masks").mkdir()
    Image.fromarray(array).save(fruits / "masks/apple2.png")
    array[0, 0] = array[0, 1] = 3
    Image.fromarray(array).save(fruits / "masks/pear1.png")
    made = Prepared(source=source(fruits, mask_codes="classes", test_share=0), size=32)
    prepared: PreparedData = new_store.get(made)
    assert prepared.target_is_classes and prepared.has_target.sum() == 2
    told = prepared
    rows = [prepared.row_of[name] for name in ("apple2", "pear1")]
    targets = [told.original_target(row) for row in rows]
    np.testing.assert_array_equal(targets[1][1:], array[1:])
    assert targets[0][0, 0] == 0 and targets[1][0, 0] == targets[1][0, 1] == 255  # there is no third class
    assert set(np.unique(prepared.merged().original_target(rows[0])).tolist()) == {0, 1, 255}
    notes = (new_store.manifest(made) or {})["notes"]
    assert notes["warnings"]["masks with values that are no class (3; unknown there)"] == 1
    assert len({source(fruits, mask_codes=codes).key for codes in ("classes", "ids", "binary")}) == 3


@pytest.mark.parametrize(
    ("codes", "values", "said"),
    [
        ("classes", (0, 127), r"8 of 8 masks have codes that are no class .*1 to 2 the classes.*mask_codes=binary"),
        ("classes", (0, 255), r"8 of 8 masks show none of their image's labels, .*mask_codes=binary"),
        ("classes", (255, 2), r"5 of 8 masks show none of their image's labels, or a class that is none of these"),
        ("ids", (0, 255), r"none of 8 masks shows an object.* set data.mask_codes=binary"),
    ],
)
def test_masks_of_another_convention_are_refused(
    photos: Photos, new_store: Store, codes: str, values: tuple[int, int], said: str
) -> None:
    root = photos(classes=("apple", "pear"), images=4)
    for path in root.glob("*/*.png"):
        array = np.full((40, 60), values[0], np.uint8)
        array[10:30] = values[1]
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(array).save(root / "masks" / path.name)
    # Half of the masks are right where all show the second class.
    if values == (255, 2):
        Image.fromarray(array * 0).save(root / "masks/pear1.png")
    with pytest.raises(SegError, match=said):
        new_store.get(Prepared(source=source(root, mask_codes=codes), size=32))


@pytest.mark.parametrize("size", [(60, 40), (600, 400)])
def test_boxes_in_percent(photos: Photos, size: tuple[int, int]) -> None:
    root = photos(images=5)
    paths = sorted(root.glob("*/*.png"))
    for path in paths:
        Image.new("RGB", size).save(path)
    (root / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax\n" + "".join(f"{p.name},5,10,95,90\n" for p in paths))
    with pytest.raises(SegError, match=r"boxes\.csv: all boxes lie within 0 to 100: are they percent"):
        dataset(root)


def test_a_mask_beside_its_photo_is_no_photo(photos: Photos) -> None:
    root = photos()
    with Image.open(root / "cat/cat1.png") as image:
        image.convert("RGB").save(root / "cat/cat1.jpg")
    mask(root / "cat/cat1.png")
    with pytest.raises(SegError, match=r"cat1\.png: looks like the mask of the image of that name beside it"):
        dataset(root)


# -- boxes ------------------------------------------------------------------------------------------------


def write_boxes(root: Path, form: str) -> None:
    listed = (("cat/cat1.png", (20, 10, 45, 30)), ("dog1.png", (0, 0, 60.6, 40)), ("x.png", (1, 2, 3, 4)))
    if form == "csv":
        rows = [f"{name},{','.join(map(str, box))}\n" for name, box in listed]
        (root / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax\n" + "".join(rows))
    elif form == "json":
        images = [{"id": i, "file_name": f"set/{name}"} for i, (name, _) in enumerate(listed)]
        said = [{"image_id": i, "bbox": [x, y, x2 - x, y2 - y]} for i, (_, (x, y, x2, y2)) in enumerate(listed)]
        (root / "boxes.json").write_text(json.dumps({"images": images, "annotations": said}))
    else:
        (root / "boxes").mkdir()
        for name, box in listed:
            sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            text = f"<annotation><object><bndbox>{sides}</bndbox></object></annotation>"
            (root / f"boxes/{Path(name).stem}.xml").write_text(text)


@pytest.mark.parametrize(("form", "stranger"), [("csv", "x.png"), ("json", "set/x.png"), ("voc", "x")])
def test_boxes_in_three_forms(photos: Photos, form: str, stranger: str) -> None:
    root = photos()
    write_boxes(root, form)
    data = dataset(root)
    # What sticks out by less than a pixel is cut off.
    assert {r.id: r.boxes for r in data.records if r.boxes} == {"cat1": ((20, 10, 45, 30),), "dog1": ((0, 0, 60, 40),)}
    assert data.examples["boxes of images that are not there (not used)"] == (stranger,)


def test_boxes_outside_of_their_image_or_of_none(photos: Photos, tmp_path: Path) -> None:
    root, path = photos(), tmp_path / "b.csv"
    for text, said in (
        ("cat1.png,0,0,62,40\n", r"b.csv line 1: box outside of its 60 x 40 image \(xmin=0 .*xmax=62"),
        ("a.png,0,0,6,4\n", "none of its 1 boxes is of an image that is used; 'a.png', say"),
    ):
        path.write_text(text)
        with pytest.raises(SegError, match=said):
            dataset(root, boxes_from=str(path))
    # A folder's images are of one class, whatever a box is called.
    path.write_text("file,xmin,ymin,xmax,ymax,class\ncat1.png,1,2,30,40,head\n")
    assert dataset(root, boxes_from=str(path)).records[0].box_labels == ()


def test_boxes_with_classes(fruits: Path) -> None:
    boxes, heading = fruits / "boxes.csv", "file,xmin,ymin,xmax,ymax,class\n"
    boxes.write_text(
        f"{heading}apple2.png,1,2,30,40,pear\napple2.png,5,5,9,9,apple\npear2,0,0,60.5,9\nunnamed,1,1,2,2\n"
    )
    data = dataset(fruits, test_share=0)
    records = {r.id: (r.boxes, r.box_labels) for r in data.records if r.boxes}
    assert records == {"apple2": (((1, 2, 30, 40), (5, 5, 9, 9)), (1, 0)), "pear2": (((0, 0, 60, 9),), ())}
    assert data.warnings["boxes of images that are not there (not used)"] == 1
    for line, said in (
        ("apple2.png,1,2,3,4,plum", r"boxes.csv line 2: a box of 'plum', which is no class of the data"),
        ("apple1.png,1,2,3,4,pear", r"boxes.csv line 2: a box of 'pear', which is no label of its image"),
        ("apple2.png,1,2,3,4,", r"boxes.csv line 2: a box without a class in an image of 2 labels; say whose"),
        ("none.png,1,2,3,4,", r"boxes.csv line 2: a box without a class in an image of none"),
    ):
        boxes.write_text(f"{heading}{line}\n")
        with pytest.raises(SegError, match=said):
            dataset(fruits)


# -- labels in a file -------------------------------------------------------------------------------------


def test_a_file_of_labels(fruits: Path, new_store: Store) -> None:
    data = dataset(fruits, test_share=0)
    assert data.classes == ("apple", "pear")
    assert labels(data) == {"apple1": (0,), "apple2": (0, 1), "pear1": (0, 1), "pear2": (1,), "none": ()}
    assert data.warnings == {NOT_NAMED: 1, "images without a label (background alone)": 1}
    assert data.examples[NOT_NAMED] == ("unnamed",)
    assert f"5 images of 2 classes (labels in {fruits / 'labels.csv'})" in source(fruits).detail(new_store)
    prepared: PreparedData = new_store.get(Prepared(source=source(fruits, test_share=0), size=32))
    assert dict(zip(prepared.ids, prepared.label_sets, strict=True))["pear1"] == (0, 1)
    listed = fruits.parent / "test.txt"
    listed.write_text("apple2\nnone.png\n")
    records = dataset(fruits, test_list=str(listed)).records
    assert [r.id for r in records if r.split == "test"] == ["apple2", "none"]
    # Elsewhere, and with the photos in folders that mean nothing.
    (fruits / "train").mkdir()
    (fruits / "apple1.png").rename(fruits / "train/apple1.png")
    elsewhere = shutil.move(fruits / "labels.csv", fruits.parent / "mine.csv")
    moved = dataset(fruits, labels_from=str(elsewhere), test_share=0)
    assert labels(moved) == labels(data) and moved.file_names()["apple1"] == "train/apple1.png"


def test_the_folders_count_where_the_labels_are_left_out(photos: Photos) -> None:
    root = photos()
    key = source(root).key
    (root / "labels.csv").write_text("cat1,a;b\ncat2,a\ndog1,b\ndog2,b\n")
    assert dataset(root).classes == ("a", "b") and len(dataset(root).records) == 4
    assert dataset(root, labels_from=False).classes == ("cat", "dog")
    assert source(root, labels_from=False).key == key != source(root).key


@pytest.mark.parametrize(
    "text",
    [
        "id,breed\n{0},{1}\n{2},{3}\n",
        "\ufeffimage_id,label\r\n{0},{1}\r\n\r\n{2},{3}\r\n\r\n",
        "sep=;\nfile;labels\n{0};{1}\n{2};apple|pear\n",
        'file;labels\n{0};{1}\n{2};"{3}"\n',
        "file\tlabels\n{0}\t{1}\n{2}\t{3}\n",
        "filename, apple, pear\n{0}, 1, 0\n{2}, 1, 1\n",
        ",Image Name,apple,pear\n0,{0},1.0,0.0\n1,{2},1.0,1.0\n",
        '"file","label"\n"{0}","{1}"\n"{2}","{3}"\n',
        "{0},{1}\n{2},{3}",
        "id,tags\n{0},['{1}']\n{2},\"['apple', 'pear']\"\n",
        "path,class,checked\nC:\\data\\{0},{1},no\nhttps://example.org/x/{2},pear,yes\n{2},apple,yes\n",
    ],
)
def test_tables_of_labels_as_tools_write_them(fruits: Path, text: str) -> None:
    said = text.format("apple1.png", "apple", "apple2.PNG", "apple;pear")
    (fruits / "labels.csv").write_text(said, encoding="utf-8", newline="")
    data = dataset(fruits, test_share=0)
    assert data.classes == ("apple", "pear") and labels(data) == {"apple1": (0,), "apple2": (0, 1)}


def test_classes_that_are_named_for_no_image_or_twice(fruits: Path) -> None:
    (fruits / "labels.csv").write_text("apple1.png,apple\napple2,Apple\ngone.png,plum\n")
    data = dataset(fruits, test_share=0)
    assert data.warnings["labels of images that are not there (not used)"] == 1
    # What the codes of masks mean does not depend on which images are there.
    assert data.classes == ("Apple", "apple", "plum") and data.examples["classes without an image"] == ("plum",)
    assert data.examples["classes that differ in capitals alone (kept apart)"] == ("Apple", "apple")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apple1.png,apple,pear\n", r"labels.csv line 1: 'apple1.png,apple,pear' has 3 columns, not 2; several"),
        ("file,labels\napple1.png,apple,pear\n", r"labels.csv line 2: .* has 3 columns, not 2"),
        (
            "file,apple,pear\napple1.png,1,2\n",
            r"line 1: no column is called labels, and the others do not hold 0 and 1",
        ),
        ("name of,kind\napple1.png,apple\n", r"line 1: 'name of,kind' names no image and is no heading .* file,labels"),
        ('apple1.png,"apple, pear"\npear2.png,pear\n', r"line 1: 'apple, pear': are these several labels\?"),
        (",apple\n", r"labels.csv line 1: names no file"),
        ("none.png,Background\n", r"line 1: Background is no class; leave the labels of an image"),
        ("apple1.png,apple\nnone.png,No Finding\n", r"line 2: No Finding is no class"),
        ("apple1.png,apple\nnone.png,nan\n", r"line 2: nan is no class"),
        ("apple1.png,apple pear\npear1.png,pear\napple2.png,apple\n", r"line 1: 'apple pear': are these several"),
        ("apple1.png,a\0\n", r"line 1: the class 'a.x00' has characters that cannot be written"),
        ("image,id,label,annotator\n", r"labels.csv: is Label Studio's table of tasks; export them as COCO"),
        ("", r"labels.csv: names no class"),
        ("gone.png,apple\n", r"labels.csv: none of its 1 labels is of an image .*; 'gone.png', say, is none"),
        ("".join(f"apple1.png,{i}\n" for i in range(254)), r"254 classes, and masks have codes for 253"),
    ],
)
def test_labels_that_are_refused(fruits: Path, text: str, said: str) -> None:
    (fruits / "labels.csv").write_text(text)
    with pytest.raises(SegError, match=said) as error:
        dataset(fruits)
    assert "\n" not in str(error.value)


# -- identity ---------------------------------------------------------------------------------------------


def test_the_content_is_the_identity_wherever_it_lies(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, copy = photos(), tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    cache = str(tmp_path / "cache.json")
    key = source(root).key
    assert source(copy, title="other", cache=cache).key == key == source(root, masks=False).key
    keys = {key, source(root, test_share=0.4).key, source(root, split_seed=1).key}
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
    keys |= {source(copy, cache=cache, **more).key for more in ({"mask_codes": "ids"}, {"mask_suffix": "2"})}
    listed = tmp_path / "test.txt"
    for text in ("dog2\n", "dog3\n"):
        listed.write_text(text)
        keys.add(source(copy, cache=cache, test_list=str(listed)).key)
    assert len(keys) == 3 + 6 + 2 + 2
    # With a cache the files are hashed once.
    key, read = source(copy, cache=cache).key, Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) if path == Path(cache) else pytest.fail(str(path)))
    assert source(copy, cache=cache).key == key


def test_refusals_are_the_same_line_for_the_key_and_the_check(tmp_path: Path, new_store: Store) -> None:
    for made, said in ((ImageFolder(), "give data.root=DIR"), (source(tmp_path / "none"), "no such folder")):
        for refused in (lambda made=made: made.check(new_store), lambda made=made: made.key):
            with pytest.raises(SegError, match=said):
                refused()
    for option in ("masks", "labels_from"):
        with pytest.raises(SegError, match=rf"data\.{option}=true: give"):
            source(tmp_path, **{option: True})
