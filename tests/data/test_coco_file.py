"""COCO's JSON as tools write it: ids, boxes, outlines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from seg.data.coco_file import Annotation, CocoFile, read_coco, run_lengths
from seg.data.dataset import Region
from seg.data.decode import draw_regions
from seg.errors import SegError

SQUARE, BOX = [2, 1, 5, 1, 5, 4, 2, 4], (2.0, 1.0, 5.0, 4.0)
#: 6 outside, 1 inside, 40 outside, ... of a 9 x 10 image, as COCO compresses it.
RUNS, TEXT = (6, 1, 40, 4, 5, 4, 5, 4, 21), "61X13mN000`0"


def read(tmp_path: Path, *annotations: Any, **changed: Any) -> CocoFile:
    content = {
        "images": [{"id": 3, "file_name": "a.jpg", "width": 10, "height": 9}],
        "annotations": [{"image_id": 3, "category_id": 1, "bbox": [1, 1, 2, 2]}, *annotations],
        "categories": [{"id": 1, "name": "cat"}],
    } | changed
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(content))
    return read_coco(tmp_path / "a.json")


def annotation(tmp_path: Path, **changed: Any) -> Annotation:
    one = read(tmp_path, {"image_id": 3, "category_id": 1, "bbox": [1, 1, 2, 2]} | changed).annotations[1]
    if isinstance(one, SegError):
        raise one
    return one


@pytest.mark.parametrize("said", ["3", 3.0, " 3 "])
def test_ids_are_compared_as_what_they_mean(tmp_path: Path, said: Any) -> None:
    assert annotation(tmp_path, image_id=said, category_id="1")[1:3] == (3, 1)
    images = [{"id": said, "file_name": "a.jpg", "width": "10", "height": 9.0}]
    assert read(tmp_path, images=images).images == {3: ("a.jpg", (9, 10))}
    assert [*read(tmp_path, categories=[{"id": "1", "name": " cat "}, {"id": 0, "name": "b"}]).categories] == [0, 1]
    assert annotation(tmp_path, image_id="03").image == "03"


@pytest.mark.parametrize(
    "said",
    [[SQUARE], SQUARE, [[2, 1], [5, 1], [5, 4], [2, 4]], [[[2, 1], [5, 1], [5, 4], [2, 4]]], [[str(c) for c in SQUARE]],
     [SQUARE, [1, 1, 2, 2], []]],
)  # fmt: skip
@pytest.mark.parametrize("bbox", [None, [0, 0, 0, 0], [float("nan")] * 4])
def test_polygons_in_each_form_give_the_box(tmp_path: Path, said: Any, bbox: Any) -> None:
    one = annotation(tmp_path, segmentation=said, bbox=bbox)
    assert one.polygons == (tuple(SQUARE),) and one.box == one.extent == BOX
    assert one.lines == 2 * (len(said) == 3)


@pytest.mark.parametrize("counts", [list(RUNS), TEXT, f"b'{TEXT}'", [float(run) for run in RUNS]])
def test_rle_in_each_form_gives_the_box(tmp_path: Path, counts: Any) -> None:
    rle = {"size": [9, 10], "counts": counts}
    one = annotation(tmp_path, segmentation=rle, bbox=None)
    assert one == annotation(tmp_path, segmentation=[rle], bbox=None)
    assert one.runs == RUNS and one.runs_size == (9, 10) and one.box == (0, 2, 8, 7)
    drawn = draw_regions([Region(5, runs=one.runs)], (9, 10))
    assert drawn[6, 0] == 5 and drawn.T.ravel()[47:51].tolist() == [5] * 4 and (drawn == 5).sum() == 13


def test_rle_of_pycocotools_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for height, width, share in ((1, 1, 1.0), (300, 200, 0.01), (600, 500, 0.0), (64, 700, 0.97)):
        mask = rng.random((height, width)) < share
        mask[: height // 2] = mask[:1]  # long runs, too
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        one = annotation(tmp_path, segmentation=rle | {"counts": rle["counts"].decode()})
        assert one.runs == run_lengths(mask) and one.extent is not None
        np.testing.assert_array_equal(draw_regions([Region(1, runs=one.runs)], mask.shape) == 1, mask)


@pytest.mark.parametrize(
    ("said", "crowd"), [(1, True), ("1", True), (True, True), ("0", False), (0, False), (None, False)]
)
def test_crowds_beside_objects(tmp_path: Path, said: Any, crowd: bool) -> None:
    assert annotation(tmp_path, iscrowd=said).is_crowd is crowd


def test_a_file_of_crowds_alone_is_of_objects(tmp_path: Path) -> None:
    crowd = {"image_id": 3, "category_id": 1, "bbox": [1, 1, 2, 2], "iscrowd": 1}
    found = read(tmp_path, annotations=[crowd, crowd])
    assert found.crowds_only and not any(isinstance(one, SegError) or one.is_crowd for one in found.annotations)
    assert not read(tmp_path, crowd).crowds_only


@pytest.mark.parametrize("said", [None, [], {}, [[]], [[1, 1, 2, 2]]])
def test_what_is_no_outline_leaves_the_box(tmp_path: Path, said: Any) -> None:
    one = annotation(tmp_path, segmentation=said)
    assert one.extent is None and one.box == (1, 1, 3, 3)
    with pytest.raises(SegError, match=r"annotation 1: needs bbox .* or an outline"):
        annotation(tmp_path, segmentation=said, bbox=None)


@pytest.mark.parametrize(
    "said",
    [3, "x", "123456", [[1, 2, 3]], [1, 2, 3, 4, 5, 6, 7], [[1, 2, None, 4, 5, 6]], [[1, 2, "x", 4, 5, 6]],
     [[1, 2, float("nan"), 4, 5, 6]], [[1, 2, 1e9, 4, 5, 6]], [[1, 2, 10**400, 4, 5, 6]], {"counts": [5]},
     {"counts": [5], "size": 3}, {"counts": [-1, 6], "size": [1, 5]}, {"counts": [4], "size": [1, 5]},
     {"counts": "~", "size": [1, 5]}, {"counts": "P", "size": [1, 5]}, {"counts": "1 ", "size": [1, 1]},
     {"counts": "PPPPPPPPP1", "size": [1, 5]}, {"counts": "4", "size": [1, 5]}],
)  # fmt: skip
def test_any_other_outline_is_a_line(tmp_path: Path, said: Any) -> None:
    with pytest.raises(SegError, match=r"annotation 1: its segmentation is no polygons") as error:
        annotation(tmp_path, segmentation=said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changed", [{"bbox": [1, 2]}, {"bbox": "1234"}, {"image_id": None}, {"image_id": True}])
def test_what_every_annotation_needs(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(SegError, match=r"annotation 1: needs the image_id of an image and bbox"):
        annotation(tmp_path, **changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images": 3}, r"is no COCO JSON"),
        ({"images": [{"id": None, "file_name": "a"}]}, r"is no COCO JSON .*'None' is no id"),
        ({"images": [{"id": 1}]}, r"is no COCO JSON .*lacks 'file_name'"),
        ({"images": [{"id": 3, "file_name": name} for name in "ab"]}, r"image id 3 is of a and of b"),
        ({"categories": [{"id": 1, "name": " "}]}, r"a category needs an id and a name"),
        ({"categories": [{"id": 1, "name": name} for name in "ab"]}, r"category id 1 is of 'a' and of 'b'"),
        ({"annotations": [{"image_id": 3, "caption": "a cat"}]}, r"holds captions; give the JSON of the instances"),
        ({"annotations": [{"image_id": 3, "segments_info": []}]}, r"holds panoptic segments; give"),
        ({"categories": [{"id": 1, "name": "\ud800"}]}, r"category '\\ud800' has characters that cannot be written"),
        ({"categories": [{"id": 1, "name": "a\nb"}]}, r"category 'a\\nb' has characters that cannot be written"),
        ({"annotations": [{"image_id": 3, "bbox": [0.1, 0.1, 0.5, 0.9]}]}, r"shares of the image's sides \(0 to 1\)"),
        ({"annotations": [{"image_id": 4, "bbox": [1, 1, 2, 2]}]}, r"not one of its 1 annotations is of an image that"),
    ],
)  # fmt: skip
def test_what_is_refused_whole(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(SegError, match=said) as error:
        read(tmp_path, **changed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"images": 3, "annotations": []}', "\x00"])
def test_what_is_no_coco_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SegError, match=r"a.json: is no COCO JSON"):
        read_coco(tmp_path / "a.json")
