"""What people and tools write: spans, boxes, CSV, COCO, VOC XML, lists. Read, or refused in a line."""

import json
import math
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import EXAMPLES, refused, tried

from seg.config.spans import MOST_JOBS, expand_value
from seg.data.boxes import fit_box, read_box_file
from seg.data.coco_file import Annotation, read_coco
from seg.data.dataset import Region
from seg.data.decode import draw_regions
from seg.data.pets import find_pets, read_pets
from seg.data.tables import ListedBox, read_boxes, read_labels
from seg.errors import SegError
from seg.methods.boxes import gaussian_score
from seg.supervision.mask import read_ids

FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-")


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[Path]:
    """One folder for all examples: Hypothesis makes none of its own."""
    yield Path(FOLDER.name)
    FOLDER.cleanup()


def file(name: str, content: str | bytes) -> Path:
    path = Path(FOLDER.name, name)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


# Numbers as they are typed, some of them absurd.
number = st.one_of(
    st.integers(-30, 30).map(str),
    st.decimals(-2, 2, places=2).map(str),
    st.floats().map(repr),
    st.sampled_from(
        ["1e999999999", "1e-999999999", "9" * 5000, "-0", "1e3", ".5", "", "1_0", "٣", "0x1", "nan", "1e400"]
    ),
)
word = st.one_of(number, st.text(max_size=12), st.sampled_from(["a.jpg", "cat/a.jpg", "cat_1", '"', "\0", "x" * 300]))


def is_box(box: tuple[float, ...]) -> bool:
    xmin, ymin, xmax, ymax = box
    return all(map(math.isfinite, box)) and xmin < xmax and ymin < ymax


@EXAMPLES
@given(number, number, st.none() | number)
def test_spans(first: str, last: str, step: str | None) -> None:
    typed = f"{first}..{last}" + ("" if step is None else f":{step}")
    out = tried(lambda: expand_value(typed))
    if out is not None and out != typed:
        values = [Decimal(v) for v in out.split(",")]
        assert len(values) <= MOST_JOBS and values[0] == Decimal(first) and values[-1] <= Decimal(last)
        assert all(b - a == values[1] - values[0] > 0 for a, b in pairwise(values))


@EXAMPLES
@given(st.tuples(*[st.one_of(st.integers(-3, 50).map(float), st.floats())] * 4), st.integers(1, 60), st.integers(1, 60))
def test_boxes(box: tuple[float, float, float, float], height: int, width: int) -> None:
    def inside() -> np.ndarray:
        clipped = fit_box(box, (height, width), "here")
        assert is_box(clipped) and clipped[2] <= width and clipped[3] <= height and min(clipped) >= 0
        return gaussian_score([clipped], (height, width), (8, 8), clip=True)

    score = tried(inside)
    assert score is None or (np.isfinite(score).all() and 0 <= score.min() <= score.max() <= 1)


def all_boxes(path: Path) -> None:
    found: list[ListedBox] | None = tried(lambda: read_boxes(path))
    assert found is None or all(is_box(one.box) for one in found)


@EXAMPLES
@given(st.lists(st.lists(word, max_size=7).map(",".join), max_size=5).map("\n".join), st.booleans())
def test_csv(text: str, heading: bool) -> None:
    all_boxes(file("boxes.csv", "file,xmin,ymin,xmax,ymax\n" * heading + text))


@EXAMPLES
@given(st.binary(max_size=200))
def test_any_bytes_as_lists_and_boxes(content: bytes) -> None:
    all_boxes(file("bytes.csv", content))
    tried(lambda: read_coco(file("bytes.json", content)))
    tried(lambda: read_box_file(file("bytes.xml", content)))
    tried(lambda: read_ids(file("bytes.txt", content)))


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400)
value = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner), max_leaves=6
)


@EXAMPLES
@given(
    st.lists(
        st.fixed_dictionaries({"id": st.integers(0, 2) | value, "file_name": st.just("a.jpg") | value}), max_size=3
    ),
    st.lists(
        st.fixed_dictionaries(
            {"image_id": st.integers(0, 2) | value, "bbox": st.lists(st.integers(0, 9) | plain, max_size=5) | value},
            optional={"iscrowd": value, "category_id": st.integers(0, 2) | value},
        )
        | value,
        max_size=3,
    )
    | value,
    st.lists(st.fixed_dictionaries({"id": st.integers(0, 2) | value, "name": st.text(max_size=3) | value}), max_size=3)
    | value,
)
def test_coco(images: object, annotations: object, categories: object) -> None:
    content = {"images": images, "annotations": annotations, "categories": categories}
    tried(lambda: read_coco(file("coco.json", json.dumps(content))))


@EXAMPLES
@given(
    st.lists(st.lists(st.integers(-2, 20) | st.floats() | plain, max_size=8), max_size=3)
    | st.fixed_dictionaries(
        {"counts": st.lists(st.integers(0, 12), max_size=4) | st.text(max_size=6) | value},
        optional={"size": st.just([3, 4]) | value},
    )
    | value
)
def test_outlines(said: object) -> None:
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "segmentation": said}]}
    found = tried(lambda: read_coco(file("coco.json", json.dumps(content))))
    one = found.annotations[0] if found else None
    if isinstance(one, Annotation) and one.runs_size in ((3, 4), None):
        drawn = draw_regions([Region(7, one.polygons, one.runs)], (3, 4))
        assert drawn.shape == (3, 4) and set(drawn.ravel().tolist()) <= {0, 7}


@EXAMPLES
@given(st.lists(st.lists(word, max_size=4).map(",".join), max_size=5).map("\n".join), st.booleans())
def test_labels(text: str, heading: bool) -> None:
    found = tried(lambda: read_labels(file("labels.csv", "file,labels\n" * heading + text)))
    assert found is None or all(image and all(names) for image, _, names in found)


@EXAMPLES
@given(st.lists(number, min_size=4, max_size=4), st.lists(number, min_size=2, max_size=2), st.text(max_size=9))
def test_voc(sides: list[str], size: list[str], name: str) -> None:
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True))
    text = f"<a><filename>{name}</filename><size><height>{size[0]}</height><width>{size[1]}</width></size>"
    path = file("voc.xml", f"{text}<object><bndbox>{box}</bndbox></object></a>")
    found = tried(lambda: read_box_file(path))
    assert found is None or all(is_box(one) for one in found.boxes)


@EXAMPLES
@given(st.lists(st.lists(word, max_size=5).map(" ".join), max_size=6).map("\n".join))
def test_the_lists_of_the_official_layout(text: str) -> None:
    root = Path(FOLDER.name, "pets")
    for part in ("images", "annotations"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "images/cat_1.jpg").touch()
    file("pets/annotations/trainval.txt", f"cat_1 1 1 1\n{text}")
    file("pets/annotations/test.txt", text)
    tried(lambda: read_pets(find_pets(root)))


# -- what was found before -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"' + "a" * 1_000_000, "no CSV .*EOF inside string"),
        ("a.jpg,1,2,inf,4", "box without an end"),
        ("a.jpg,1,2," + "9" * 5000 + ",4", "box without an end"),
    ],
)
def test_boxes_that_broke_it(content: str, message: str) -> None:
    refused(lambda: read_boxes(file("a.csv", content)), message)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        '{"images":[{"id":1,"file_name":"a"}],"annotations":[{"image_id":1,"bbox":"1234"}]}',
    ],
)
def test_json_that_broke_it(content: str) -> None:
    refused_or_kept = tried(lambda: read_coco(file("a.json", content)))
    assert refused_or_kept is None or all(isinstance(one, SegError) for one in refused_or_kept.annotations)


def test_lists_that_broke_it() -> None:
    root = Path(FOLDER.name, "five")
    for part in ("images", "annotations"):
        (root / part).mkdir(parents=True)
    for name in ("trainval", "test"):
        file(f"five/annotations/{name}.txt", f"cat_1 1 1 1\ncat_2 {'9' * 5000} 1 1\n")
    refused(lambda: find_pets(root), "is not 'class_number class-id species breed-id'")
    voc = file("big.xml", f"<a><size><width>{'9' * 5000}</width><height>1</height></size></a>")
    assert read_box_file(voc).boxes == ()
