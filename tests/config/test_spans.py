"""Spans on the command line: exact numbers, and everything else untouched."""

import pytest

from seg.config.spans import collapse, expand_arguments, expand_value, has_span
from seg.errors import SegError


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("1..20", ",".join(map(str, range(1, 21)))),
        ("0.1..0.9", "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9"),
        ("0.1..0.9:0.25", "0.1,0.35,0.6,0.85"),
        ("1e-4..3e-4", "0.0001,0.0002,0.0003"),
        ("100..300:1e2", "100,200,300"),
        ("0.3,0.5..0.7", "0.3,0.5,0.6,0.7"),
        ("1..3,2..4", "1,2,3,4"),  # each once
        ("cam,1..2", "cam,1,2"),
    ],
)
def test_spans_are_expanded_to_exact_decimals(typed, values):
    assert expand_value(typed) == values
    for key in ("a.b", "+new.key", "group/sub", "key@pkg.a"):
        assert expand_arguments([f"{key}={typed}"]) == [f"{key}={values}"]


@pytest.mark.parametrize(
    "argument",
    [
        "data.root=../x",
        "epoch=1..",
        "name='1..5'",
        "list=[1..5]",
        "hydra.run.dir=1..5",
        "--config-dir=1..5",
    ],
)
def test_anything_else_is_untouched(argument):
    assert expand_arguments([argument]) == [argument]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("5..1", r"epoch=5\.\.1: descends, so it is empty; write 1\.\.5"),
        ("1..5:0", "step must be greater than 0"),
        ("0..1000000", "more than 10000 values; give a larger step"),
    ],
)
def test_wrong_spans_are_one_clear_error(typed, message):
    with pytest.raises(SegError, match=message) as caught:
        expand_arguments(["threshold=0.5", f"epoch={typed}"])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ("1,2,3", "1..3"),
        ("0.1,0.35,0.6", "0.1..0.6:0.25"),
        ("1,3,5", "1..5:2"),
        ("3,2,1", "3+2+1"),
        ("1,2,4", "1+2+4"),
        ("5", "5"),
    ],
)
def test_collapse_names_values_shortly_and_can_be_typed_back(values, text):
    assert collapse(values.split(",")) == text
    if has_span(text):
        assert expand_value(text) == values
