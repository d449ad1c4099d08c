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
    assert all(r.id.startswith(data.classes[r.label]) for r in data.records)
    splits = [r.split for r in data.records]
    assert splits == ["trainval"] * 12 + ["test"] * 3
    assert {r.label for r in data.records[12:]} == {0, 1, 2}
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
    assert data.quirks["masks without an image (not used)"] == 1 and data.quirks["images without a mask"] == 7
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
    with pytest.raises(SegError, match=r"none of its 1 PNG files has the name of an image"):
        dataset(root)
    mask(root / "masks/cat1.png")
    mask(root / "masks/cat/cat1.png")
    with pytest.raises(SegError, match="two masks of one image"):
        dataset(root)


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
    with pytest.raises(SegError, match="none of its boxes is of an image below"):
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
    with pytest.raises(SegError, match="'cat1' is the name of 2 images; write class/file"):
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
    assert f"masks for 1 in {root / 'masks'}" in said and f"boxes for 1 in {root / 'boxes.csv'}" in said
