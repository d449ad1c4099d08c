"""COCO's JSON as tools write it: ids, boxes, outlines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from seg.data.coco_file import Annotation, CocoFile, read_coco
from seg.data.dataset import Region
from seg.data.decode import draw_regions
from seg.errors import SegError

SQUARE, BOX = [2, 1, 5, 1, 5, 4, 2, 4], (2.0, 1.0, 5.0, 4.0)
NAN = float("nan")


def read(tmp_path: Path, *annotations: Any, **changed: Any) -> CocoFile:
    content = {
        "images": [{"id": 3, "file_name": "a.jpg", "width": 10, "height": 9}],
        "annotations": [{"image_id": 3, "category_id": 1, "bbox": [1, 1, 2, 2]}, *annotations],
        "categories": [{"id": 1, "name": "cat"}],
    } | changed
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(content))
    return read_coco(tmp_path / "a.json")


def annotation(tmp_path: Path, **changed: Any) -> Annotation:
    found = read(tmp_path, {"image_id": 3, "category_id": 1, "bbox": [1, 1, 2, 2]} | changed)
    if found.report.problems:
        raise SegError(found.report.problems[0])
    return found.annotations[1]


def test_ids_are_numbers_or_text(tmp_path: Path) -> None:
    assert annotation(tmp_path, image_id="3", category_id="1")[1:3] == (3, 1)
    images = [{"id": "3", "file_name": "a.jpg", "width": 10, "height": 9}]
    assert read(tmp_path, images=images).images == {3: ("a.jpg", (9, 10))}
    assert [*read(tmp_path, categories=[{"id": "1", "name": " cat "}, {"id": 0, "name": "b"}]).categories] == [0, 1]
    assert annotation(tmp_path, image_id="x").image == "x"


@pytest.mark.parametrize(
    "outline",
    [[SQUARE], SQUARE, [SQUARE, [1, 1, 2, 2], []]],
)
def test_polygons_in_each_form_give_the_box(tmp_path: Path, outline: Any) -> None:
    for bbox in (None, [0, 0, 0, 0], [NAN] * 4):
        one = annotation(tmp_path, segmentation=outline, bbox=bbox)
        assert one.polygons == (tuple(SQUARE),) and one.box == one.extent == BOX


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_rle_of_pycocotools_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for height, width, share in ((1, 1, 1.0), (30, 20, 0.1), (600, 500, 0.0), (64, 700, 0.97)):
        mask = rng.random((height, width)) < share
        mask[: height // 2] = mask[:1]  # long runs, too
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        one = annotation(tmp_path, segmentation=rle | {"counts": rle["counts"].decode()})
        assert one.extent is not None
        np.testing.assert_array_equal(draw_regions([Region(1, runs=one.runs)], mask.shape) == 1, mask)


def test_crowds_beside_objects_and_alone(tmp_path: Path) -> None:
    for written in (1, True, 0, None):
        assert annotation(tmp_path, iscrowd=written).is_crowd is (written in (1, True))
    crowd = {"image_id": 3, "category_id": 1, "bbox": [1, 1, 2, 2], "iscrowd": 1}
    content = read(tmp_path, annotations=[crowd, crowd])
    assert content.report.warnings and not any(one.is_crowd for one in content.annotations)
    assert not read(tmp_path, crowd).report.warnings


@pytest.mark.parametrize("outline", [None, [], {}, [[]], [[1, 1, 2, 2]]])
def test_what_is_no_outline_leaves_the_box(tmp_path: Path, outline: Any) -> None:
    one = annotation(tmp_path, segmentation=outline)
    assert one.extent is None and one.box == (1, 1, 3, 3)
    with pytest.raises(SegError, match=r"annotation 1: needs image_id, and bbox .*it has neither"):
        annotation(tmp_path, segmentation=outline, bbox=None)


@pytest.mark.parametrize(
    "changed",
    [
        *({"segmentation": outline} for outline in (
            3, "x", [[1, 2, 3]], [[1, 2, NAN, 4, 5, 6]], [[1, 2, 10**400, 4, 5, 6]], {"counts": [5]},
            {"counts": [-1, 6], "size": [1, 5]}, {"counts": [4], "size": [1, 5]}, {"counts": "~", "size": [1, 5]},
            {"counts": "P", "size": [1, 5]}, {"counts": "PPPPPPPPP1", "size": [1, 5]}, {"counts": "4", "size": [1, 5]},
        )),
        {"bbox": [1, 2]}, {"bbox": [1, 2, "x", 3]},
    ],
)  # fmt: skip
def test_an_annotation_of_anything_else_is_a_line(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(SegError, match=r"annotation 1: needs image_id, and bbox .* or RLE \(") as error:
        annotation(tmp_path, **changed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": 3}, r"no COCO JSON of instances"),
        ({"images": [{"id": 1}]}, r"no COCO JSON .*lacks 'file_name'"),
        ({"images": [{"id": 3, "file_name": name} for name in "ab"]}, r"two images have the id 3"),
        ({"categories": [{"id": 1, "name": "a\nb"}]}, r"'a\\nb' is no name of a category"),
        ({"categories": [{"id": 1, "name": name} for name in "ab"]}, r"two categories have the id 1"),
        ({"annotations": [{"image_id": 3, "bbox": [0.1, 0.1, 0.5, 0.9]}]}, r"shares of the image's sides \(0 to 1\)"),
        (
            {"annotations": [{"image_id": 4, "bbox": [1, 1, 2, 2]}]},
            r"none of its 1 annotations belongs to a listed image",
        ),
    ],
)
def test_files_that_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SegError, match=message) as error:
        read(tmp_path, **changed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"images": 3, "annotations": []}', "\x00"])
def test_what_is_no_coco_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SegError, match=r"a.json: no COCO JSON of instances"):
        read_coco(tmp_path / "a.json")
