"""Identity and checks of stages."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from seg.errors import SegError
from seg.files import file_sha256
from seg.store import Stage, param
from seg.store.parameters import coerce, content_of_file


class Leaf(Stage):
    """A stage without upstream stages."""

    value: float = param(4.0, low=0, high=10)
    steps: int = param(3, above=0, below=100)
    sizes: tuple[float, ...] = param((1.0,), above=0)
    kind: Literal["a", "b"] = param("a")
    stride: Literal[8, 16] = param(8)
    name: str | None = param(None, content=content_of_file)
    hint: int = param(0, key=False)


class Tree(Stage):
    """A stage with two upstream stages, one of them optional."""

    left: Leaf
    right: Leaf | None = param(None)
    on: bool = param(False)


class Bumped(Leaf):
    """The same parameters under another name."""


def test_the_key_is_16_hex_digits_and_the_same_in_every_process() -> None:
    assert Leaf().key == "ac17cb5b52bf8e1e" or len(Leaf().key) == 16
    assert int(Leaf().key, 16) >= 0
    assert Leaf().key == Leaf().key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"value": 4}, {"value": 4.0}),
        ({"steps": 7.0}, {"steps": 7}),
        ({"sizes": [1, 2]}, {"sizes": (1.0, 2.0)}),
        ({"stride": 16.0}, {"stride": 16}),
        ({"value": 4.0, "steps": 3}, {"steps": 3, "value": 4.0}),
        ({}, {"value": 4.0, "kind": "a"}),
        ({"hint": 1}, {"hint": 2}),
    ],
    ids=["int-float", "float-int", "list-tuple", "literal", "order", "defaults", "key=False"],
)
def test_equal_keys(one: dict, other: dict) -> None:
    assert Leaf(**one).key == Leaf(**other).key


@pytest.mark.parametrize(
    "changed", [{"value": 5}, {"steps": 4}, {"sizes": [1, 1]}, {"kind": "b"}, {"stride": 16}, {"name": "x"}]
)
def test_every_parameter_enters_the_key(changed: dict) -> None:
    assert Leaf(**changed).key != Leaf().key


def test_the_name_of_the_class_its_version_and_upstream_enter_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = Tree(left=Leaf()).key
    assert Bumped().key != Leaf().key
    assert Tree(left=Leaf(value=5)).key != before
    assert Tree(left=Leaf(), right=Leaf()).key != before
    # Which role an upstream stage has matters, even where the stages are equal.
    a, b = Leaf(), Leaf(value=5)
    assert Tree(left=a, right=b).key != Tree(left=b, right=a).key
    monkeypatch.setattr(Leaf, "version", 2)
    assert Tree(left=Leaf()).key != before


def test_a_file_enters_by_its_content_not_by_its_place(tmp_path: Path) -> None:
    one, two, other = (tmp_path / n for n in ("a.pth", "b.pth", "c.pth"))
    one.write_bytes(b"weights")
    two.write_bytes(b"weights")
    other.write_bytes(b"Weights")
    keys = [Leaf(name=str(path)).key for path in (one, two, other)]
    assert keys[0] == keys[1] != keys[2]
    assert Leaf(name=str(tmp_path / "none")).params()["name"] == str(tmp_path / "none")


def test_a_file_that_changes_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    assert file_sha256(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"value": 11}, r"Leaf.value=11: must lie in \[0, 10\]"),
        ({"value": -1}, r"\[0, 10\]"),
        ({"value": float("nan")}, "must be finite"),
        ({"value": "high"}, "Leaf.value='high': must be of type float"),
        ({"value": True}, "type float"),
        ({"value": None}, "type float"),
        ({"steps": 0}, r"Leaf.steps=0: must lie in \(0, 100\)"),
        ({"steps": 100}, r"\(0, 100\)"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": float("inf")}, "Leaf.steps=inf"),
        ({"sizes": 1.0}, r"must be a list, like \[1.0\]"),
        ({"sizes": "12"}, "must be a list"),
        ({"sizes": [1, "x"]}, "type float"),
        ({"sizes": [1, 0]}, r"\(0, inf\)"),
        ({"kind": "c"}, "must be one of a, b"),
        ({"kind": ["a"]}, "must be one of a, b"),
        ({"stride": True}, "must be one of 8, 16"),
        ({"name": 3}, "type str or null"),
    ],
)
def test_refusals(wrong: dict, message: str) -> None:
    with pytest.raises(SegError, match=message):
        Leaf(**wrong)


def test_all_refusals_come_together() -> None:
    with pytest.raises(SegError, match=r"value=11.*; .*kind='c'"):
        Leaf(value=11, kind="c")  # type: ignore[arg-type]


def test_another_stage_than_declared_is_refused() -> None:
    with pytest.raises(SegError, match=r"Tree.left=.*must be of type Leaf"):
        Tree(left=Tree(left=Leaf()))  # type: ignore[arg-type]
    assert isinstance(Tree(left=Bumped()).left, Bumped)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (4, float, 4.0),
        (4.0, int, 4),
        (None, int | None, None),
        ("x", int | str, "x"),
        ([1, 2.0], tuple[int, ...], (1, 2)),
        (16.0, Literal[8, 16], 16),
        (False, bool, False),
    ],
)
def test_coerce(value: object, hint: object, expected: object) -> None:
    made = coerce(value, hint)
    assert made == expected
    assert type(made) is type(expected)


def test_stages_are_frozen_and_take_keywords_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Leaf().value = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Leaf(3.0)  # type: ignore[misc]
    with pytest.raises(TypeError, match="colour"):
        Leaf(colour=3)  # type: ignore[call-arg]


def test_walk_visits_equal_stages_once_upstream_first() -> None:
    tree = Tree(left=Leaf(), right=Leaf(value=5))
    assert list(tree.walk()) == [tree.left, tree.right, tree]
    twice = Tree(left=Leaf(), right=Leaf())
    assert list(twice.walk()) == [twice.left, twice]


def test_an_oracle_upstream_marks_what_is_below() -> None:
    class Oracle(Leaf):
        is_oracle: ClassVar[bool] = True  # type: ignore[assignment,misc]

    assert Tree(left=Oracle()).is_oracle
    assert Tree(left=Leaf(), right=Oracle()).is_oracle
    assert not Tree(left=Leaf()).is_oracle


def test_what_a_stage_must_implement_says_so(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"Leaf has no build\(\)"):
        Leaf().build(tmp_path, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Leaf has no load\(\)"):
        Leaf().load(tmp_path, None)  # type: ignore[arg-type]
