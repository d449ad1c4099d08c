"""Polygons and runs of COCO's annotations."""

from typing import Any

import numpy as np
import pytest

from seg.data.coco_outlines import Outline, read_outline, uncompressed
from seg.data.dataset import Region
from seg.data.decode import draw_regions
from seg.errors import SegError

#: 6 outside, 1 inside, 40 outside, ... of a 9 x 10 image: the string by COCO's own rule, worked out by hand.
RUNS, TEXT = [6, 1, 40, 4, 5, 4, 5, 4, 21], "61X13mN000`0"


def test_runs_as_a_list_and_as_a_string() -> None:
    assert uncompressed(TEXT) == RUNS and sum(RUNS) == 90
    listed = read_outline({"size": [9, 10], "counts": RUNS}, (9, 10), "here")
    assert listed == read_outline({"size": [9, 10], "counts": TEXT}, (9, 10), "here") == Outline((), tuple(RUNS), 13.0)
    # Down the columns: the seventh pixel is the seventh of the first column.
    assert listed is not None
    drawn = draw_regions([Region(5, runs=listed.runs)], (9, 10))
    assert drawn[6, 0] == 5 and (drawn == 5).sum() == 13 and not drawn[:, 1:5].any()
    assert drawn.T.ravel()[47:51].tolist() == [5] * 4


@pytest.mark.parametrize(
    ("text", "runs"),
    [("", []), ("0", [0]), ("o0", [31]), ("P1", [32]), ("`0", [16]), ("PPPPPPP1", None), ("P", None),
     ("1 ", None), ("é", None), ("\x00", None)],
)  # fmt: skip
def test_numbers_of_a_string(text: str, runs: list[int] | None) -> None:
    assert uncompressed(text) == runs


def test_pycocotools_writes_what_is_read() -> None:
    tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed (the extra test)")
    rng = np.random.default_rng(0)
    for height, width, share in ((1, 1, 1.0), (7, 5, 0.5), (300, 200, 0.01), (600, 500, 0.0), (64, 700, 0.97)):
        mask = rng.random((height, width)) < share
        mask[: height // 2] = mask[:1]  # long runs, too
        text = tools.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        runs = uncompressed(text)
        assert runs is not None and sum(runs) == mask.size
        np.testing.assert_array_equal(draw_regions([Region(1, runs=tuple(runs))], mask.shape) == 1, mask)


def test_polygons_their_area_and_what_is_left_out() -> None:
    outline = read_outline([[0, 0, 4, 0, 4, 3.0], [1, 1, 2, 2], []], (10, 10), "here")
    assert outline == Outline(((0.0, 0.0, 4.0, 0.0, 4.0, 3.0),), (), 6.0, 2)
    assert not outline.sticks_out((3, 4), 0) and outline.sticks_out((2, 4), 0.5) and outline.sticks_out((3, 3), 0.5)
    assert read_outline(None, None, "here") is None and read_outline([], None, "here") is None


@pytest.mark.parametrize(
    "said",
    [3, "x", {}, [[1, 2, 3]], [1, 2, 3, 4, 5, 6], [[1, 2, None, 4, 5, 6]], [[True, 2, 3, 4, 5, 6]],
     [[1, 2, float("inf"), 4, 5, 6]], [[1, 2, 10**400, 4, 5, 6]], {"counts": [5]}, {"counts": [5], "size": 3},
     {"counts": [-1, 6], "size": [1, 5]}, {"counts": [4], "size": [1, 5]}, {"counts": "~", "size": [1, 5]},
     {"counts": [5], "size": [5, 1]}, {"counts": [True], "size": [1, 1]}],
)  # fmt: skip
def test_anything_else_is_a_line(said: Any) -> None:
    with pytest.raises(SegError, match=r"^here: ") as error:
        read_outline(said, (1, 5), "here")
    assert "\n" not in str(error.value)
