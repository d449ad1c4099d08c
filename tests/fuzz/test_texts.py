"""What people and tools write: spans, CSV, COCO, any bytes. Read, or refused in a line."""

import json
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import EXAMPLES, tried

from seg.config.spans import MOST_JOBS, expand_value
from seg.data.boxes import read_xml
from seg.data.coco_file import read_coco
from seg.data.dataset import Region
from seg.data.decode import draw_regions
from seg.data.tables import read_boxes, read_labels
from seg.supervision.mask import read_ids

FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-")


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[Path]:
    """One folder for all examples: Hypothesis makes none of its own."""
    yield Path(FOLDER.name)
    FOLDER.cleanup()


def file(name: str, content: str | bytes) -> Path:
    path = Path(FOLDER.name, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


# Numbers as they are typed, some of them absurd.
ABSURD = ["1e999999999", "1e-999999999", "9" * 5000, "-0", "1e3", ".5", "", "1_0", "٣", "0x1", "nan", "1e400"]
number = st.one_of(
    st.integers(-30, 30).map(str), st.decimals(-2, 2, places=2).map(str), st.floats().map(repr), st.sampled_from(ABSURD)
)
WORDS = ["a.jpg", "cat/a.jpg", "cat_1", '"', "\0", "x" * 300, "cat", "dog", "background", "../a", "/JPEGImages/a.jpg x"]
word = st.one_of(number, st.text(max_size=12), st.sampled_from(WORDS))


def lines(between: str, cells: int) -> st.SearchStrategy[str]:
    """Text of some lines of words."""
    return st.lists(st.lists(word, max_size=cells).map(between.join), max_size=6).map("\n".join)


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
@given(lines(",", 7), st.booleans())
def test_csv(text: str, heading: bool) -> None:
    tried(lambda: read_boxes(file("boxes.csv", "file,xmin,ymin,xmax,ymax\n" * heading + text)))
    found = tried(lambda: read_labels(file("labels.csv", "file,labels\n" * heading + text)))
    assert found is None or all(image and all(names) for image, _, names in found)


@EXAMPLES
@given(st.binary(max_size=200))
def test_any_bytes_as_lists_and_boxes(content: bytes) -> None:
    tried(lambda: read_boxes(file("bytes.csv", content)))
    tried(lambda: read_coco(file("bytes.json", content)))
    tried(lambda: read_xml(file("bytes.xml", content), "a"))
    tried(lambda: read_ids(file("bytes.txt", content)))


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400)
value = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner), max_leaves=6
)
some_id = st.integers(0, 2) | value
image = st.fixed_dictionaries({"id": some_id, "file_name": st.just("a.jpg") | value})
bbox = st.lists(st.integers(0, 9) | plain, max_size=5) | value
annotation = st.fixed_dictionaries(
    {"image_id": some_id, "bbox": bbox}, optional={"iscrowd": value, "category_id": some_id}
)
category = st.fixed_dictionaries({"id": some_id, "name": st.text(max_size=3) | value})
polygons = st.lists(st.lists(st.integers(-2, 20) | st.floats() | plain, max_size=8), max_size=3)
counts = st.lists(st.integers(0, 12), max_size=4) | st.text(max_size=6) | value
rle = st.fixed_dictionaries({"counts": counts}, optional={"size": st.just([3, 4]) | value})


@EXAMPLES
@given(
    st.lists(image, max_size=3),
    st.lists(annotation | value, max_size=3) | value,
    st.lists(category, max_size=3) | value,
)
def test_coco(images: object, annotations: object, categories: object) -> None:
    content = {"images": images, "annotations": annotations, "categories": categories}
    tried(lambda: read_coco(file("coco.json", json.dumps(content))))


@EXAMPLES
@given(polygons | rle | value)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_outlines(outline: object) -> None:
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "segmentation": outline}]}
    found = tried(lambda: read_coco(file("coco.json", json.dumps(content))))
    for one in found.annotations if found else ():
        if one.runs_size in ((3, 4), None):
            drawn = draw_regions([Region(7, one.polygons, one.runs)], (3, 4))
            assert drawn.shape == (3, 4) and set(drawn.ravel().tolist()) <= {0, 7}
