"""Every image decoded once."""

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg.data.coco import Coco
from seg.data.dataset import Dataset, Record, Region
from seg.data.decode import decode_image
from seg.data.image_folder import ImageFolder
from seg.data.pets import OxfordPet
from seg.data.prepared import Pool, Prepared, PreparedData, split_counts
from seg.data.sources import Source
from seg.errors import SegError
from seg.store import Products, Runtime, Store

Official = Callable[..., Path]


def make(root: Path, **changed: object) -> Prepared:
    return Prepared(source=OxfordPet(root=str(root)), **{"size": 32} | changed)  # type: ignore[arg-type]


def picture(root: Path, name: str) -> Path:
    return root / "oxford-iiit-pet/images" / f"{name}.jpg"


def test_the_arrays(new_store: Store, official: Official) -> None:
    root = official(without_target=("beagle_2",))
    data: PreparedData = new_store.get(make(root))
    assert data.images.shape == (8, 32, 32, 3) and data.target(np.arange(8)).shape == (8, 32, 32) and data.side == 32
    assert isinstance(data.images, np.memmap)
    assert data.classes == ("Abyssinian", "beagle") and data.title == "oxford_pet"
    assert data.is_test.sum() == 2 and not data.is_test[:6].any()
    for row, name in enumerate(data.ids):
        image, size = decode_image(picture(root, name), 32)
        np.testing.assert_array_equal(data.images[row], image)
        assert tuple(data.sizes[row]) == size
        assert data.classes[data.labels[row]] == name.rpartition("_")[0]
        assert data.row_of[name] == row
        assert bool(data.boxes[row]) == (not data.is_test[row])
    without = data.row_of["beagle_2"]
    assert data.has_target.tolist() == [row != without for row in range(8)]
    assert (data.target(np.asarray([without])) == 255).all()
    with pytest.raises(SegError, match="beagle_2: this image has no ground truth"):
        data.original_target(without)


def test_the_target(new_store: Store, official: Official) -> None:
    data: PreparedData = new_store.get(make(official())).merged()
    row = data.row_of["beagle_2"]
    original = data.original_target(row)
    expected = np.zeros((42, 62), np.uint8)
    expected[8:31, 10:41] = 254
    expected[10:29, 12:39] = 1
    np.testing.assert_array_equal(original, expected)
    small = Image.fromarray(expected).resize((32, 32), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(data.target(np.asarray([row]))[0], np.asarray(small))


def test_a_truncated_image_is_named_skipped_and_counted(
    new_store: Store, official: Official, caplog: pytest.LogCaptureFixture
) -> None:
    root = official()
    path = picture(root, "Abyssinian_2")
    path.write_bytes(path.read_bytes()[:400])
    stage = make(root, max_bad_share=0.2)
    with caplog.at_level(logging.INFO):
        data: PreparedData = new_store.get(stage)
    assert any("skipped" in m and "Abyssinian_2.jpg" in m for m in caplog.messages)
    assert len(data) == 7 and "Abyssinian_2" not in data.ids
    assert data.images.shape[0] == len(data.target(np.arange(7))) == len(data.labels) == len(data.boxes) == 7
    # What follows it has moved up together.
    row = data.row_of["beagle_1"]
    np.testing.assert_array_equal(data.images[row], decode_image(picture(root, "beagle_1"), 32)[0])
    assert data.original_target(row).shape == tuple(data.sizes[row])
    notes = (new_store.manifest(stage) or {})["notes"]
    assert notes["images"] == 7 and len(notes["unreadable"]) == 1


def test_too_many_of_them_are_an_error_that_names_them(new_store: Store, official: Official) -> None:
    root = official()
    for name in ("Abyssinian_2", "beagle_4"):
        picture(root, name).write_bytes(b"\xff\xd8\xff")
    with pytest.raises(SegError, match=r"2 of 8 images are unreadable, more than .*=0.2.*Abyssinian_2") as error:
        new_store.get(make(root, max_bad_share=0.2))
    assert "\n" not in str(error.value)
    assert not new_store.has(make(root))
    # The share is no part of what the product is.
    assert make(root, max_bad_share=0.25).key == make(root).key
    assert len(new_store.get(make(root, max_bad_share=0.25))) == 6


def test_an_image_with_a_truncated_target_is_used_without_it(
    new_store: Store, official: Official, caplog: pytest.LogCaptureFixture
) -> None:
    root = official()
    trimaps = sorted((root / "oxford-iiit-pet/annotations/trimaps").iterdir())
    broken = next(path for path in trimaps if path.stem == "beagle_1")
    broken.write_bytes(broken.read_bytes()[:60])
    with caplog.at_level(logging.INFO):
        data: PreparedData = new_store.get(make(root, max_bad_share=0.2))
    row = data.row_of["beagle_1"]
    assert len(data) == 8 and np.flatnonzero(~data.has_target).tolist() == [row]
    assert (data.target(np.asarray([row])) == 255).all()
    assert "data: trimaps that cannot be read (image used without): 1 (beagle_1)" in caplog.messages
    with pytest.raises(SegError, match=r"1 of 8 images \(1 for their ground truth\) are unreadable, .*beagle_1\.png"):
        new_store.get(make(root, max_bad_share=0, size=96))
    for path in trimaps[1:]:
        path.unlink()
    trimaps[0].write_bytes(b"x")
    with pytest.raises(SegError, match=r"no ground truth can be read, .*correct or remove them"):
        new_store.get(make(root, max_bad_share=0.5))


def test_a_product_tells_nothing_of_where_the_data_lie(
    tmp_path: Path, official: Official, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = official("here")
    for broken in (picture(root, "beagle_2"), root / "oxford-iiit-pet/annotations/trimaps/beagle_1.png"):
        broken.write_bytes(broken.read_bytes()[:60])
    copy = tmp_path / "there/of/another/depth"
    shutil.copytree(root, copy)
    monkeypatch.chdir(copy.parent)
    products, keys = [], set()
    for number, (place, title) in enumerate(((str(root), "one"), (copy.name, "other"))):
        store = Store(tmp_path / f"store{number}", runtime)
        stage = Prepared(source=OxfordPet(root=place, title=title), size=32, max_bad_share=0.5)
        assert store.get(stage).title == title
        keys.add(stage.key)
        manifest = json.loads((store.folder(stage) / "manifest.json").read_text())
        assert manifest["notes"]["unreadable"] == ["beagle_2.jpg"]
        assert manifest.pop("seconds") >= 0 and manifest.pop("crc32")  # of all else, seconds included
        files = {path.name: path.read_bytes() for path in store.folder(stage).iterdir()}
        products.append(files | {"manifest.json": json.dumps(manifest).encode()})
        assert not any(word in b"".join(products[-1].values()) for word in (bytes(tmp_path), b"another/depth"))
    assert len(keys) == 1 and products[0] == products[1]


def test_the_side_is_a_multiple_of_32(tmp_path: Path) -> None:
    with pytest.raises(SegError, match=r"size=100: .*such as 128"):
        make(tmp_path, size=100)


def test_the_pool(new_store: Store, official: Official) -> None:
    data = make(official(trainval=12, test=8, without_target=("beagle_1", "beagle_7", "beagle_8")))
    prepared: PreparedData = new_store.get(data)

    def rows(**options: Any) -> np.ndarray:
        chosen: np.ndarray = new_store.get(Pool(data=data, **options)).rows
        assert (np.diff(chosen) > 0).all()
        return chosen

    assert rows().tolist() == list(range(20))
    assert rows(images="with_masks").tolist() == np.flatnonzero(prepared.has_target).tolist()
    assert split_counts(prepared, rows(images="trainval")) == {"trainval": 12, "test": 6}
    few = rows(limit=3)
    assert split_counts(prepared, few) == {"trainval": 3, "test": 3}
    assert len(set(prepared.labels[few])) == 2  # spread over the list, not its beginning
    both = rows(images="with_masks", limit=2)
    assert split_counts(prepared, both) == {"trainval": 2, "test": 2} and prepared.has_target[both].all()


def test_a_pool_without_a_label(new_store: Store, coco: Official) -> None:
    source = Coco(root=str(coco(annotations=lambda old: [a | {"image_id": 105} for a in old])), test_share=0)
    pool = Pool(data=Prepared(source=source, size=32), limit=1)  # the first image of six, of which the last has labels
    with pytest.raises(SegError, match="none of 1 images has a label"):
        new_store.get(pool)


def test_a_target_says_what_the_task_asks(data: PreparedData, classes: PreparedData) -> None:
    rows = np.asarray([0, 1, 4])
    told = classes.target(rows)
    assert classes.count == 3 and classes.names == ("background", "a", "b", "c")
    assert set(np.unique(told)) == {0, 1, 2, 3, 255}
    plain = classes.merged()
    assert plain.count == 1 and plain.names == ("background", "foreground") and plain.as_read is classes
    assert plain.label_sets[:3] == [(0,), (), (0,)]
    np.testing.assert_array_equal(plain.target(rows), np.where((told > 0) & (told < 255), 1, told))
    # The other way round the class is the image's, where it has but one.
    binary = data.merged().target(rows)
    assert (binary == 254).any()
    by_label = dataclasses.replace(data, label_sets=[(0, 1), (), *([(1,)] * 30)])
    expected = np.where(binary == 1, 2, binary)
    expected[:2][binary[:2] == 1] = 255
    np.testing.assert_array_equal(by_label.target(rows), expected)
    # One class has the foreground's codes.
    alone = dataclasses.replace(data, classes=("cat",), label_sets=[(0,)] * 32)
    np.testing.assert_array_equal(alone.target(rows), binary)
    assert data.has_one_label and not classes.has_one_label
    assert classes.labels[:3].tolist() == [0, -1, 2]
    assert classes.is_labelled[:2].tolist() == [[True, True, False], [False, False, False]]


def test_targets_are_drawn_and_values_that_are_no_class_are_named(new_store: Store, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for name in ("a", "b", "c"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[:10], mask[10:20], mask[20:30] = 1, 9, 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    square = Region(2, polygons=((10, 10, 30, 10, 30, 30, 10, 30),))
    crowd = Region(255, runs=(40 * 20, 40 * 5, 40 * 35))

    class Three(Source):
        stored = False

        def load(self, path: Path, store: Products) -> Dataset:
            records = (
                Record("a", tmp_path / "a.png", (0,), "trainval", tmp_path / "mask.png", codes="classes"),
                Record("b", tmp_path / "b.png", (1,), "trainval", regions=(square, crowd)),
                Record("c", tmp_path / "c.png", (), "test", regions=()),
            )
            return Dataset(("x", "y"), records)

    stage = Prepared(source=Three(), size=32)
    made = new_store.get(stage)
    warnings = (new_store.manifest(stage) or {})["notes"]["warnings"]
    assert warnings["masks with values of no class (9; unknown there)"] == 1
    np.testing.assert_array_equal(made.original_target(0), np.where(mask == 9, 255, mask))
    drawn = np.zeros((40, 60), np.uint8)
    drawn[:, 20:25], drawn[10:30, 10:30] = 255, 2  # crowds lie below
    np.testing.assert_array_equal(made.original_target(1), drawn)
    assert made.has_target.all() and (made.original_target(2) == 0).all()


def test_masks_that_say_nothing_are_no_target_and_masks_without_an_object_are_named(
    new_store: Store, photos: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = photos()
    (root / "masks").mkdir()
    mask = np.zeros((40, 60), np.uint8)
    for name, top in (("cat1", 10), ("dog1", 0)):
        mask[top:] = 255
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    stage = Prepared(source=ImageFolder(root=str(root), mask_codes="ids"), size=32)
    with pytest.raises(SegError, match=r"none of 1 masks has an object.*set data\.mask_codes=binary"):
        new_store.get(stage)
    mask[:5] = 1
    Image.fromarray(mask).save(root / "masks/cat2.png")
    with caplog.at_level(logging.INFO):
        data: PreparedData = new_store.get(Prepared(source=ImageFolder(root=str(root), mask_codes="ids"), size=32))
    assert [data.ids[row] for row in np.flatnonzero(data.has_target)] == ["cat2", "cat1"]
    assert "data: masks that are unknown everywhere (image used without): 1 (dog1)" in caplog.messages


@pytest.mark.parametrize(("alone", "said"), [(1, True), (2, False)])
def test_classes_that_are_always_together_are_named(
    new_store: Store, photos: Callable[..., Path], caplog: pytest.LogCaptureFixture, alone: int, said: bool
) -> None:
    root = photos(images=9)
    shutil.move(root / "cat", root / "all")
    for image in (root / "dog").iterdir():
        shutil.move(image, root / "all" / image.name)
    (root / "dog").rmdir()
    rows = [f"cat{i}.png,face;body\n" for i in range(1, 10)]
    rows += [f"dog{i}.png,{'face;body' if i <= 5 - alone else 'face' if i <= 5 else 'car'}\n" for i in range(1, 10)]
    (root / "labels.csv").write_text("file,class\n" + "".join(rows))
    with caplog.at_level(logging.WARNING):
        new_store.get(Prepared(source=ImageFolder(root=str(root), test_share=0.0), size=32))
    lines = [line for line in caplog.messages if "together" in line]
    assert len(lines) == said
    if said:
        assert "body and face are together in 13 of 14 images with either" in lines[0]
