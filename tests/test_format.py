"""Durations, tables and names as text."""

import pandas as pd

from seg.format import duration, markdown, shorten


def test_durations():
    durations = {None: "–", 0.04: "0.0 s", 9.96: "10.0 s", 38: "38 s", 725: "12 min 5 s", 11040: "3 h 4 min"}
    assert {x: duration(x) for x in durations} == durations


def test_markdown_rounds_floats_and_marks_missing_values():
    frame = pd.DataFrame({"step": ["a", None], "images": [3, 12], "mIoU": [0.25, float("nan")]})
    assert markdown(frame) == "| step | images | mIoU |\n| --- | --- | --- |\n| a | 3 | 0.2500 |\n| - | 12 | - |\n"


def test_the_middle_of_a_long_name_is_left_out():
    assert [shorten(x, 7) for x in ("", "seventy", "beagle_100")] == ["", "seventy", "bea…100"]
