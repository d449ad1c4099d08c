"""Own photos as a source."""

import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg.data.dataset import Dataset
from seg.data.decode import decode_trimap
from seg.data.draw import draw_by_labels
from seg.data.folder_layout import Names, image_ids, images_below
from seg.data.image_folder import ImageFolder
from seg.data.prepared import Prepared, PreparedData
from seg.data.read_report import ReadReport
from seg.data.records import Layout
from seg.errors import SegError
from seg.store import Store

Photos = Callable[..., Path]
LABELS = "file,labels\napple1.png,apple\napple2.png,apple;pear\npear1.png, pear ; apple\npear2.png,pear\nnone.png,\n"
NOT_NAMED = "images not named in the file of labels (not used)"


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


def find(root: Path, **options: Any) -> Layout:
    return ImageFolder(root=str(root), **options).layout


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a.jpg", "b.jpg"], {}, "its 2 images are not in class folders"),
        (["train/cat/a.jpg", "test/cat/b.jpg"], {}, "test, train are splits, not classes"),
        (["cat/images/a.jpg", "cat/masks/a.png"], {}, "cat/masks/a.png: looks like a mask among the images; put"),
        (["annotations/trainval.txt", "images/a.jpg"], {}, "use data=oxford_pet"),
        (["cat/a.jpg"], {"labels_from": "nowhere.csv"}, "data.labels_from=nowhere.csv: no CSV"),
        (["cat/a.jpg", "masks/a.png", "ground_truth/a.png"], {}, "say which to use with data.masks="),
        (["cat/a.jpg", "masks/a.jpg"], {}, "masks/a.jpg: 1 of 1 masks are in a format that changes pixels"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, names: list[str], options: dict[str, Any], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(SegError, match=message) as error:
        find(tmp_path, **options)
    assert "\n" not in str(error.value)


def names_of(root: Path, layout: Layout) -> list[str]:
    return [path.relative_to(root).as_posix() for path in layout.images.values()]


def test_a_class_is_a_folder_with_images(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.JPG", "cat/c.png", "cat/a.webp", "cat/deep/er/d.tiff", "cat/a.jpg", "loose.png")
    touch(tmp_path, "cat/._c.png", "cat/notes.txt", "empty/.DS_Store", ".thumbnails/x.png", "dog/f.heic")
    layout = find(tmp_path)
    assert names_of(tmp_path, layout) == ["cat/a.jpg", "cat/c.png", "cat/deep/er/d.tiff", "dog/b.JPG"]
    assert layout.classes == ("cat", "dog") and not layout.masks and not layout.boxes and not layout.texts
    assert layout.report.examples == {
        "files of other kinds (skipped)": ("cat/notes.txt", "dog/f.heic"),
        "files with the stem of another file (one of them is used)": ("cat/a.webp",),
        "images beside the folders of the classes (not used)": ("loose.png",),
    }


def test_what_lies_beside_the_classes_is_found_and_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg", "cat/b.jpg", "Masks/a.png", "Masks/cat/b.png", "Masks/._a.png", "other.d/a.tif")
    touch(tmp_path, "boxes/a.xml")
    (tmp_path / "Masks").rename(tmp_path / "masks")
    elsewhere = find(tmp_path, masks=str(tmp_path / "other.d"))
    assert names_of(tmp_path, elsewhere) == ["cat/a.jpg", "cat/b.jpg"]
    assert elsewhere.masks == {"a": tmp_path / "other.d/a.tif"} and set(elsewhere.boxes) == {"a.xml"}
    assert not find(tmp_path, masks=False).masks


@pytest.mark.parametrize(
    ("names", "suffix"),
    [
        (["masks/1_mask.png", "masks/cat/a_b_mask.png"], None),
        (["masks/1.png"], None),
        (["masks/1.png", "masks/2_x.png"], "_x"),
        (["cat/1_segmentation.png"], None),  # beside its image
    ],
)
def test_masks_with_a_suffix(tmp_path: Path, names: list[str], suffix: str | None) -> None:
    touch(tmp_path, "cat/1.jpg", "cat/2.jpg", "cat/a_b.jpg", *names)
    layout = find(tmp_path, mask_suffix=suffix)
    assert {*layout.masks.values()} == {tmp_path / name for name in names}
    assert names_of(tmp_path, layout) == ["cat/1.jpg", "cat/2.jpg", "cat/a_b.jpg"]
    if names[0].startswith("cat"):
        assert {*names} < {*names_of(tmp_path, find(tmp_path, mask_suffix=""))}


def test_an_image_by_any_of_its_names(photos: Photos) -> None:
    root = photos(images=1)
    touch(root, "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/a b.JPG", unicodedata.normalize("NFD", "dog/é.jpg"))
    names = Names(image_ids(images_below(root, (), ReadReport())))
    for name in ("2", "2.jpg", "2.JPG", "2.png", "cat/2", "cat/2.jpg", "./cat/2.jpg", "cat\\2.jpg"):
        assert names.find(name) == "2"
    assert names.find("cat/1.jpg") == names.find("cat_1") == "cat_1" and names.find("a b.jpg") == "a b"
    assert names.find("é") == names.find(unicodedata.normalize("NFD", "dog/é.jpg")) == "é"
    assert names.find("dog/2.jpg") is names.find("train/dog/2.jpg") is None
    for name in ("train/cat/2.jpg", "C:\\photos\\cat\\2.jpg", "https://example.org/cat/2.jpg", "/home/me/2.jpg"):
        assert names.find(name) == "2"
    with pytest.raises(SegError, match="2 images; write class/file"):
        names.find("1.jpg")


def test_links_to_folders_make_no_copies(photos: Photos) -> None:
    root, elsewhere = photos(images=1), photos("elsewhere", classes=("cow",), images=1)
    (root / "cat/up").symlink_to("..")
    (root / "again").symlink_to("cat")
    (elsewhere / "cow/home").symlink_to(root)
    (root / "cow").symlink_to(elsewhere / "cow")
    (root / "more").symlink_to(elsewhere)
    assert list(images_below(root, (), ReadReport())) == ["cat/cat1.png", "cow/cow1.png", "dog/dog1.png"]


def test_masks_that_fit_nothing_or_twice(photos: Photos) -> None:
    root = photos()
    mask(root / "masks/x.png")
    with pytest.raises(
        SegError, match=r"none of its 1 masks matches an image that is used, for example 'x.png'.*mask_suffix"
    ):
        dataset(root)
    shutil.copy(root / "cat/cat1.png", root / "dog/cat1.png")
    mask(root / "masks/cat/cat1.png")
    mask(root / "masks/dog_cat1.png")
    assert {i: path.name for i, path in masks(dataset(root)).items()} == {
        "cat_cat1": "cat1.png",
        "dog_cat1": "dog_cat1.png",
    }
    mask(root / "masks/cat_cat1.png")
    with pytest.raises(SegError, match="two masks of one image"):
        dataset(root)


def test_masks_in_the_colours_of_cvat(photos: Photos, tmp_path: Path, new_store: Store) -> None:
    """Its labels may be in another order than the folders."""
    root, export = photos(), tmp_path / "export"
    colours = {"cat": (9, 8, 7), "dog": (128, 0, 0)}
    for name, colour in colours.items():
        mask = np.zeros((40, 60, 3), np.uint8)
        mask[10:30, 20:45] = colour
        (export / "SegmentationClass" / name).mkdir(parents=True)
        Image.fromarray(mask).save(export / f"SegmentationClass/{name}/{name}1.png")
    (export / "labelmap.txt").write_text("background:0,0,0::\ndog:128,0,0::\ncat:9,8,7::\n")
    source = ImageFolder(root=str(root), masks=str(export / "SegmentationClass"))
    data = new_store.get(Prepared(source=source, size=32))
    for code, name in enumerate(("cat", "dog"), 1):
        assert set(np.unique(data.original_target(data.row_of[f"{name}1"]))) == {0, code}
    (export / "labelmap.txt").write_text("background:0,0,0::\ncow:128,0,0::\ncat:9,8,7::\n")
    with pytest.raises(SegError, match=r"labelmap\.txt: 'cow' is none of the classes cat, dog; rename"):
        ImageFolder(root=str(root), masks=str(export / "SegmentationClass")).layout  # noqa: B018


def test_ids_are_stems_made_unique_by_their_folders() -> None:
    ids = image_ids(["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/x/2.b.png", f"cat/{'a' * 220}.jpg"])
    assert list(ids.values()) == ["cat_1", "2", "dog_1", "2.b", "a" * 220]
    for names, message in (
        (["cat/1.jpg", "dog/1.jpg", "dog/cat_1.jpg"], "both would be called cat_1"),
        (["cat/1\n.jpg"], "rename the file"),
        ([f"cat/{'ä' * 111}.jpg"], "a name of more than 220 bytes"),
    ):
        with pytest.raises(SegError, match=message):
            image_ids(names)


def test_labels_come_from_the_folders(photos: Photos, new_store: Store) -> None:
    root = photos(classes=("dog", "cat", "ape"))
    (root / "rare").mkdir()
    shutil.copy(root / "cat/cat1.png", root / "rare/rare1.png")
    data = dataset(root)
    assert data.classes == ("ape", "cat", "dog", "rare") and len(data.records) == 16
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
        ("cat1\ncta2.png\n", r"test.txt: 'cta2.png' is not an image of"),
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
    assert draw_by_labels({}, 0.5, 0) == draw_by_labels(own, 0, 0) == set()


def test_masks_by_stem_by_folder_and_by_id(photos: Photos, new_store: Store) -> None:
    root = photos()
    mask(root / "masks/cat1.png")
    mask(root / "masks/dog/dog2.png", 1)
    mask(root / "masks/stranger.png")
    mask(root / "masks/cat3.png", size=(80, 120))
    data, names = dataset(root), {"cat1": "cat1.png", "dog2": "dog/dog2.png", "cat3": "cat3.png"}
    assert masks(data) == {i: root / "masks" / name for i, name in names.items()}
    assert data.warnings == {"masks of missing images (not used)": 1, "images without a mask": 7}
    assert f"mask files for 3 in {root / 'masks'} and {root / 'masks/dog'}," in source(root).detail(new_store)
    made = Prepared(source=source(root), size=32)
    prepared: PreparedData = new_store.get(made)
    expected = np.zeros((40, 60), np.uint8)
    expected[10:30, 20:45] = 1
    for name in ("dog2", "cat1"):
        np.testing.assert_array_equal(prepared.merged().original_target(prepared.row_of[name]), expected)
    assert prepared.original_target(prepared.row_of["cat3"]).shape == (40, 60) and prepared.has_target.sum() == 3
    notes = (new_store.manifest(made) or {})["notes"]
    assert notes["warnings"]["masks of another size than their image, resized"] == 1


def test_masks_in_the_forms_that_tools_write(photos: Photos) -> None:
    root, shape = photos(), np.zeros((40, 60), np.uint8)
    shape[10:30, 20:45] = 255
    grey = Image.fromarray(shape)
    forms = {"1_mask.png": "1", "2_mask.bmp": "RGB", "3_mask.png": "RGBA", "4_mask.tif": "L", "5_mask.gif": "L"}
    (root / "masks").mkdir()
    for name, mode in forms.items():
        grey.convert(mode).save(root / f"masks/cat{name}")
    found = masks(dataset(root))
    assert found == {f"cat{name[0]}": root / f"masks/cat{name}" for name in forms}
    for path in found.values():
        np.testing.assert_array_equal(decode_trimap(path, (40, 60), "binary")[0], shape > 0)
    black = Image.new("L", grey.size)
    for form, said in (
        (Image.merge("RGBA", [black, black, black, grey]), "with the mask in the alpha channel"),
        (grey.convert("RGB").quantize(2), "a palette with white as 0 and black as 1"),
    ):
        form.save(path := root / "form.png")
        with pytest.raises(SegError, match=said):
            decode_trimap(path, (40, 60), "binary")


@pytest.mark.parametrize(
    ("codes", "values", "said"),
    [
        ("classes", (0, 255), r"8 of 8 masks have other classes .*mask_codes=binary"),
        ("ids", (0, 255), r"none of 8 masks has an object.* set data.mask_codes=binary"),
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
    with pytest.raises(SegError, match=said):
        new_store.get(Prepared(source=source(root, mask_codes=codes), size=32))


def test_boxes_with_classes(fruits: Path) -> None:
    boxes, heading = fruits / "boxes.csv", "file,xmin,ymin,xmax,ymax,class\n"
    boxes.write_text(
        f"{heading}apple2.png,1,2,30,40,pear\napple2.png,5,5,9,9,apple\npear2,0,0,60.5,9\nunnamed,1,1,2,2\n"
    )
    data = dataset(fruits, test_share=0)
    records = {r.id: (r.boxes, r.box_labels) for r in data.records if r.boxes}
    assert records == {"apple2": (((1, 2, 30, 40), (5, 5, 9, 9)), (1, 0)), "pear2": (((0, 0, 60, 9),), ())}
    assert data.warnings["boxes of missing images (not used)"] == 1
    boxes.write_text(f"{heading}apple2.png,1,2,3,4,plum\napple2.png,1,2,3,4,\nnone.png,1,2,3,4,\n")
    data = dataset(fruits)
    assert not any(r.boxes for r in data.records)
    assert data.warnings["boxes of a class that is not among their image's labels (not used)"] == 3
    boxes.write_text(f"{heading}apple1.png,0,0,62,40\n")
    with pytest.raises(SegError, match=r"boxes.csv line 2: box outside of its 60 x 40 image \(xmin=0 .*xmax=62"):
        dataset(fruits)


def test_a_file_of_labels(fruits: Path, new_store: Store) -> None:
    data = dataset(fruits, test_share=0)
    assert data.classes == ("apple", "pear")
    assert labels(data) == {"apple1": (0,), "apple2": (0, 1), "pear1": (0, 1), "pear2": (1,), "none": ()}
    assert data.warnings == {NOT_NAMED: 1, "images without an object": 1}
    assert data.examples[NOT_NAMED] == ("unnamed",)
    assert f"5 images of 2 classes (labels in {fruits / 'labels.csv'})" in source(fruits).detail(new_store)
    # Elsewhere, and with the photos in folders, which are ignored.
    (fruits / "train").mkdir()
    (fruits / "apple1.png").rename(fruits / "train/apple1.png")
    elsewhere = shutil.move(fruits / "labels.csv", fruits.parent / "mine.csv")
    moved = dataset(fruits, labels_from=str(elsewhere), test_share=0)
    assert labels(moved) == labels(data) and moved.file_names()["apple1"] == "train/apple1.png"


def test_the_content_is_the_identity_wherever_it_lies(photos: Photos, tmp_path: Path) -> None:
    root, copy = photos(), tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    cache = str(tmp_path / "cache.json")
    key = source(root).key
    assert source(copy, title="other", cache=cache).key == key == source(root, masks=False).key
    keys = {key, source(root, test_share=0.4).key, source(root, split_seed=1).key}
    # Every one of these is other data.
    for change in (
        lambda: (copy / "cat").rename(copy / "lion"),
        lambda: (copy / "dog/dog1.png").rename(copy / "dog/dog9.png"),
        lambda: (copy / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax\ncat1.png,1,2,3,4\n"),
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
