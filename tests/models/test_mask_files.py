"""Masks as files: read back, they are the masks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.image_folder import ImageFolder
from seg.data.prepared import Prepared, PreparedData
from seg.errors import SegError
from seg.masks import MaskSet
from seg.models.mask_files import check_format, export_masks, run_lengths
from seg.models.png import voc_palette
from seg.store import Store
from seg.supervision.scores import ScoreMaps

# Of the masks below, dog1's has no foreground: it is a test image and so the last.
MASK = np.array([[0, 1, 1], [255, 1, 0]], np.uint8)


@pytest.fixture
def masks(photos: Callable[..., Path], new_store: Store) -> MaskSet:
    """Of all ten images: the right half foreground, an undecided stripe in the middle; one without foreground."""
    prepared = Prepared(source=ImageFolder(root=str(photos())), size=32)
    data: PreparedData = new_store.get(prepared).merged()
    values = np.zeros((10, 8, 8), np.float16)
    values[:9, :, 3:5] = 0.5
    values[:9, :, 5:] = 1
    return MaskSet(ScoreMaps.of_foreground(data, np.arange(10), values), 0.3, 0.7)


@pytest.fixture
def of_classes(masks: MaskSet) -> MaskSet:
    """The same, cat (1) above and dog (2) below in every image."""
    values = masks.scores.values.repeat(2, 0)
    values[::2, 4:] *= np.float16(0.9)
    values[1::2, :4] *= np.float16(0.9)
    first, class_ids = np.arange(0, 21, 2), np.tile(np.uint8([1, 2]), 10)
    return replace(masks, scores=ScoreMaps(masks.data.as_read, masks.rows, values, first, class_ids))


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize(("kind", "codes"), [("png255", [0, 255, 128]), ("png01", [0, 1, 255])])
def test_grey_png(masks: MaskSet, new_store: Store, tmp_path: Path, kind: str, codes: list[int]) -> None:
    assert export_masks(tmp_path, {"CAM (label) >= 0.4": masks}, new_store, kind) == 10  # type: ignore[arg-type]
    folder = tmp_path / "CAM__label_____0_4"
    assert {p.name for p in folder.iterdir()} == {f"{i}.png" for i in masks.data.ids}
    table = np.zeros(256, np.uint8)
    table[[0, 1, 255]] = codes
    for position, name in enumerate(masks.data.ids):
        written = read(folder / f"{name}.png")
        assert written.shape == (40, 60)  # the photo's own size
        np.testing.assert_array_equal(written, table[masks.at(np.array([position]), (40, 60))[0]])


def test_the_default_is_0_and_255(masks: MaskSet, new_store: Store, tmp_path: Path) -> None:
    export_masks(tmp_path, {"seeds": masks}, new_store)
    assert set(np.unique(read(tmp_path / "seeds/cat1.png"))) == {0, 128, 255}


def test_indexed_png_has_the_class_as_its_index(masks: MaskSet, new_store: Store, tmp_path: Path) -> None:
    export_masks(tmp_path, {"seeds": masks}, new_store, "palette")
    for name, index in (("cat1", 1), ("dog2", 2)):
        with Image.open(tmp_path / f"seeds/{name}.png") as image:
            assert image.mode == "P"
            assert set(np.unique(np.asarray(image))) == {0, index, 255}
            colours = {tuple(c) for c in np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()}
        assert colours == {(0, 0, 0), tuple(voc_palette()[index].tolist()), (224, 224, 192)}
    assert (tmp_path / "seeds/classes.txt").read_text() == "0 background\n1 cat\n2 dog\n255 ignored\n"
    large = replace(masks.data.as_read, classes=("x",) * 255)
    many = replace(masks, scores=replace(masks.scores, data=large.merged()))
    with pytest.raises(SegError, match="room for 254"):
        export_masks(tmp_path / "many", {"seeds": many}, new_store, "palette")


def test_masks_of_classes_are_indexed_png_of_their_codes(of_classes: MaskSet, new_store: Store, tmp_path: Path) -> None:
    assert export_masks(tmp_path, {"seeds": of_classes}, new_store) == 10
    with Image.open(tmp_path / "seeds/dog2.png") as image:  # a dog's image, but the mask says what is where
        assert image.mode == "P"
        written = np.asarray(image)
    assert written.shape == (40, 60)
    assert written[[0, 0, 0, -1, -1], [0, 30, -1, 0, -1]].tolist() == [0, 255, 1, 0, 2]
    np.testing.assert_array_equal(written, of_classes.at(np.array([of_classes.data.row_of["dog2"]]), (40, 60))[0])
    assert (tmp_path / "seeds/classes.txt").read_text() == "0 background\n1 cat\n2 dog\n255 ignored\n"
    for kind in ("png255", "png01"):
        said = rf"export\.format={kind}: tells no classes apart, .* take palette or coco_rle, or task=foreground"
        with pytest.raises(SegError, match=said):
            export_masks(tmp_path, {"seeds": of_classes}, new_store, kind)  # type: ignore[arg-type]
        with pytest.raises(SegError, match=said):
            check_format(kind, 2)
    check_format("coco_rle", 2)


def test_coco_has_an_annotation_for_every_class_of_an_image(
    of_classes: MaskSet, new_store: Store, tmp_path: Path
) -> None:
    export_masks(tmp_path, {"seeds": of_classes}, new_store, "coco_rle")
    document = json.loads((tmp_path / "seeds.json").read_text())
    assert document["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [(a["image_id"], a["category_id"]) for a in document["annotations"]] == [
        (image, category) for image in range(1, 10) for category in (1, 2)
    ]
    assert [a["id"] for a in document["annotations"]] == list(range(1, 19))
    expected = of_classes.at(np.array([0]), (40, 60))[0]
    for annotation in document["annotations"][:2]:
        np.testing.assert_array_equal(decode(annotation["segmentation"]), expected == annotation["category_id"])
        assert annotation["area"] == (expected == annotation["category_id"]).sum()
    assert document["annotations"][1]["bbox"][1::2] == [20, 20]  # the lower half


def test_a_foreground_of_several_labels_is_of_none_of_them(masks: MaskSet, new_store: Store, tmp_path: Path) -> None:
    read_as = masks.data.as_read
    data = replace(read_as, label_sets=[(0, 1), (), *read_as.label_sets[2:]]).merged()
    masks = replace(masks, scores=replace(masks.scores, data=data))
    export_masks(tmp_path, {"seeds": masks}, new_store, "palette")
    assert (tmp_path / "seeds/classes.txt").read_text() == "0 background\n1 foreground\n255 ignored\n"
    assert {v for name in data.ids for v in np.unique(read(tmp_path / f"seeds/{name}.png"))} == {0, 1, 255}
    export_masks(tmp_path, {"seeds": masks}, new_store, "coco_rle")
    document = json.loads((tmp_path / "seeds.json").read_text())
    assert document["categories"] == [{"id": 1, "name": "foreground"}]
    assert {a["category_id"] for a in document["annotations"]} == {1}


def test_run_lengths_by_hand() -> None:
    assert run_lengths(MASK == 1) == [2, 3, 1]  # down the columns: 0 255 | 1 1 | 1 0
    assert run_lengths(np.ones((2, 2), bool)) == [0, 4]
    assert run_lengths(np.zeros((2, 2), bool)) == [4]
    assert run_lengths(np.array([[True, False]])) == [0, 1, 1]


def decode(segmentation: dict[str, list[int]]) -> np.ndarray:
    """As COCO's format says, written anew."""
    height, width = segmentation["size"]
    values = np.arange(len(segmentation["counts"])) % 2
    return np.repeat(values, segmentation["counts"]).reshape(width, height).T


def test_coco_decoded_is_the_mask(masks: MaskSet, new_store: Store, tmp_path: Path) -> None:
    names = {i: f"folder/{i}.jpg" for i in masks.data.ids}
    assert export_masks(tmp_path, {"seeds": masks}, new_store, "coco_rle", names) == 1
    document = json.loads((tmp_path / "seeds.json").read_text())
    assert document["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [image["file_name"] for image in document["images"]] == [names[i] for i in masks.data.ids]
    assert len(document["annotations"]) == 9  # one image has no foreground
    by_id = {image["id"]: image for image in document["images"]}
    for annotation in document["annotations"]:
        image = by_id[annotation["image_id"]]
        name = Path(image["file_name"]).stem
        row = masks.data.row_of[name]
        expected = masks.at(np.array([row]), (40, 60))[0] == 1
        assert (image["height"], image["width"]) == (40, 60)
        np.testing.assert_array_equal(decode(annotation["segmentation"]), expected)
        assert annotation["area"] == expected.sum() and annotation["iscrowd"] == 1
        x, y, width, height = annotation["bbox"]
        box = np.zeros_like(expected)
        box[y : y + height, x : x + width] = True
        np.testing.assert_array_equal(box, expected)  # this foreground is a rectangle
        assert annotation["category_id"] == (1 if name.startswith("cat") else 2)


def test_pycocotools_reads_it() -> None:
    tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed (the extra test)")
    rng = np.random.default_rng(0)
    mask = rng.random((13, 17)) > 0.6
    rle = tools.frPyObjects({"size": [13, 17], "counts": run_lengths(mask)}, 13, 17)
    np.testing.assert_array_equal(tools.decode(rle), mask)


def test_what_is_no_format() -> None:
    check_format(None)
    with pytest.raises(SegError, match=r"export\.format=png: must be one of png255, png01, palette, coco_rle"):
        check_format("png")


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "below/outside", "a\0b"])
def test_ids_that_lead_elsewhere(masks: MaskSet, new_store: Store, tmp_path: Path, name: str) -> None:
    """A store of somebody else's says what its images are called."""
    data = replace(masks.data, ids=[name.replace("/tmp", str(tmp_path)), *masks.data.ids[1:]])
    masks = replace(masks, scores=replace(masks.scores, data=data))  # type: ignore[type-var]
    with pytest.raises(SegError, match="an image's id that leads out of"):
        export_masks(tmp_path / "out", {"seeds": masks}, new_store)
    assert not list(tmp_path.rglob("*outside*"))
