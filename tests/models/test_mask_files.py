"""Masks as files: what is read back, by this program and by others, is the masks."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from score_maps import one_map_each

from seg.data.coco import Coco
from seg.data.decode import decode_trimap, draw_regions
from seg.data.image_folder import ImageFolder
from seg.data.prepared import Prepared, PreparedData
from seg.errors import SegError
from seg.formats import check_format
from seg.masks import MaskSet
from seg.models.mask_files import export_masks
from seg.supervision.scores import ScoreMaps


@pytest.fixture
def masks(photos, new_store):
    """Of all ten images: the right half foreground, an undecided stripe in the middle; dog1, the last, has none."""
    prepared = Prepared(source=ImageFolder(root=str(photos())), size=32)
    data: PreparedData = new_store.get(prepared).merged()
    values = np.zeros((10, 8, 8), np.float16)
    values[:9, :, 3:5] = 0.5
    values[:9, :, 5:] = 1
    return MaskSet(one_map_each(data, np.arange(10), values), 0.3, 0.7)


@pytest.fixture
def of_classes(masks):
    """The same, cat (1) above and dog (2) below in every image."""
    values = masks.scores.values.repeat(2, 0)
    values[::2, 4:] *= np.float16(0.9)
    values[1::2, :4] *= np.float16(0.9)
    first, class_ids = np.arange(0, 21, 2), np.tile(np.uint8([1, 2]), 10)
    return replace(masks, scores=ScoreMaps(masks.data.as_read, masks.rows, values, first, class_ids))


def expected(masks, name, by_label=False):
    row = masks.data.row_of[name]
    mask = masks.at(np.array([row]), (40, 60))[0]
    return np.where(mask == 1, 1 + masks.data.as_read.labels[row], mask) if by_label else mask


@pytest.mark.parametrize(("kind", "codes"), [(None, [0, 255, 128]), ("png01", [0, 1, 255])])
def test_grey_png(masks, new_store, tmp_path, kind, codes):
    assert export_masks(tmp_path, {"CAM (label) >= 0.4": masks}, new_store, kind) == 10
    folder = tmp_path / "CAM_label_0_4"
    assert {p.name for p in folder.iterdir()} == {f"{i}.png" for i in masks.data.ids}
    table = np.zeros(256, np.uint8)
    table[[0, 1, 255]] = codes
    for name in masks.data.ids:
        with Image.open(folder / f"{name}.png") as image:
            assert image.format == "PNG" and image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), table[expected(masks, name)])
        read, _ = decode_trimap(folder / f"{name}.png", (40, 60), "ids" if kind == "png01" else "binary")
        np.testing.assert_array_equal(read, expected(masks, name))


@pytest.mark.parametrize("classes", [False, True])
def test_indexed_png(masks, of_classes, new_store, tmp_path, classes):
    chosen = of_classes if classes else masks
    assert export_masks(tmp_path, {"seeds": chosen}, new_store, None if classes else "palette") == 10
    for name in masks.data.ids:
        path, wanted = tmp_path / f"seeds/{name}.png", expected(chosen, name, by_label=not classes)
        with Image.open(path) as image:  # as torchvision reads Pascal VOC
            assert image.mode == "P"
            np.testing.assert_array_equal(np.asarray(image), wanted)
            colours = {tuple(c) for c in np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()}
        voc = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 255: (224, 224, 192)}
        assert colours == {voc[code] for code in np.unique(wanted).tolist()}
        np.testing.assert_array_equal(decode_trimap(path, (40, 60), "classes")[0], wanted)
    assert (tmp_path / "seeds/classes.txt").read_text() == "0 background\n1 cat\n2 dog\n255 ignored\n"


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_coco_is_read_by_pycocotools_and_by_this_program(masks, of_classes, new_store, tmp_path, classes):
    chosen = of_classes if classes else masks
    names = {i: f"{i}.png" for i in masks.data.ids}
    assert export_masks(tmp_path, {"seeds": chosen}, new_store, "coco", names) == 10
    path = tmp_path / "seeds/annotations/instances_default.json"
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(path))
    assert theirs.dataset["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert len(theirs.anns) == (18 if classes else 9)  # one image has no foreground
    (tmp_path / "seeds/images").mkdir()
    for image in theirs.dataset["images"]:
        assert image["file_name"] == names[Path(image["file_name"]).stem]
        Image.new("RGB", (60, 40)).save(tmp_path / "seeds/images" / image["file_name"])
    ours = {r.id: r for r in Coco(root=str(tmp_path / "seeds"), test_share=0).load(Path(), None).records}
    for image in theirs.dataset["images"]:
        name = Path(image["file_name"]).stem
        wanted = expected(chosen, name, by_label=not classes) % 255  # what is ignored is of no class
        drawn = np.zeros((40, 60), np.uint8)
        for one in theirs.loadAnns(theirs.getAnnIds(image["id"])):
            mask = theirs.annToMask(one).astype(bool)
            drawn[mask] = one["category_id"]
            left, top, right, bottom = Image.fromarray(mask).getbbox() or ()
            assert one["bbox"] == [left, top, right - left, bottom - top]
            assert (one["iscrowd"], one["area"]) == (0, mask.sum())
        np.testing.assert_array_equal(drawn, wanted)
        np.testing.assert_array_equal(draw_regions(ours[name].regions or (), (40, 60)), wanted)
        assert ours[name].labels == tuple(np.unique(wanted)[1:] - 1)


def test_a_foreground_of_several_labels_is_of_none_of_them(masks, new_store, tmp_path):
    read_as = masks.data.as_read
    data = replace(read_as, label_sets=[(0, 1), (), *read_as.label_sets[2:]]).merged()
    masks = replace(masks, scores=replace(masks.scores, data=data))
    export_masks(tmp_path, {"seeds": masks}, new_store, "palette")
    assert (tmp_path / "seeds/classes.txt").read_text() == "0 background\n1 foreground\n255 ignored\n"
    assert {v for i in data.ids for v in np.unique(Image.open(tmp_path / f"seeds/{i}.png"))} == {0, 1, 255}
    export_masks(tmp_path, {"seeds": masks}, new_store, "coco")
    document = json.loads((tmp_path / "seeds/annotations/instances_default.json").read_text())
    assert document["categories"] == [{"id": 1, "name": "foreground"}]
    assert {a["category_id"] for a in document["annotations"]} == {1}


def test_what_is_no_format_or_has_no_room_for_classes():
    check_format(None)
    check_format("coco", 2)
    with pytest.raises(SegError, match=r"export\.format=png: must be one of png255, png01, palette, coco, cvat, "):
        check_format("png")
    with pytest.raises(SegError, match="format=png01: must be one of palette, coco, cvat, voc, "):
        check_format("png01", 2)


@pytest.mark.parametrize("name", ["../outside", "a\0b"])
def test_ids_that_lead_elsewhere(masks, new_store, tmp_path, name):
    """A store of somebody else's says what its images are called."""
    data = replace(masks.data, ids=[name, *masks.data.ids[1:]])
    masks = replace(masks, scores=replace(masks.scores, data=data))
    with pytest.raises(SegError, match="an image's name that leads out of"):
        export_masks(tmp_path / "out", {"seeds": masks}, new_store)
    assert not list(tmp_path.rglob("*outside*"))
