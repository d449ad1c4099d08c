"""Identity and checks of stages."""

import hashlib
from typing import ClassVar, Literal

import pytest

from seg.errors import SegError
from seg.store import Parameters, Stage, param
from seg.store.parameters import content_of_file


class Leaf(Stage):
    """A stage without upstream stages."""

    value: float = param(4.0, low=0, high=10)
    steps: int = param(3, above=0, below=100)
    sizes: tuple[float, ...] = param((1.0,), above=0)
    kind: Literal["a", "b"] = param("a")
    stride: Literal[8, 16] = param(8)
    name: str | None = param(None, content=content_of_file)
    epochs: int = param(0, key=False)


class Tree(Stage):
    """A stage with two upstream stages, one of them optional."""

    left: Leaf
    right: Leaf | None = param(None)
    on: bool = param(False)


class Net(Parameters):
    """Parameters without a key of their own."""

    width: int = param(4)


class Leafs(Leaf):
    """Further kinds of parameters."""

    rest: tuple[int | str, ...] = param((), low=0)
    below: int = param(0, high=5)
    net: Net | None = param(None)


class Renamed(Leaf):
    """The same parameters under another name."""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"value": 4}, {"value": 4.0}),
        ({"steps": 7.0}, {"steps": 7}),
        ({"sizes": [1, 2]}, {"sizes": (1.0, 2.0)}),
        ({"stride": 16.0}, {"stride": 16}),
        ({}, {"value": 4.0, "kind": "a"}),
        ({"epochs": 1}, {"epochs": 2}),
    ],
    ids=["int-float", "float-int", "list-tuple", "literal", "defaults", "key=False"],
)
def test_equal_keys(one, other):
    assert Leaf(**one).key == Leaf(**other).key


@pytest.mark.parametrize(
    "changed",
    [{"value": 5}, {"steps": 4}, {"sizes": [1, 1]}, {"kind": "b"}, {"stride": 16}, {"name": __file__}],
)
def test_every_parameter_enters_the_key(changed):
    assert Leaf(**changed).key != Leaf().key


def test_the_name_of_the_class_and_upstream_enter_the_key():
    before = Tree(left=Leaf()).key
    assert Renamed().key != Leaf().key
    assert Tree(left=Leaf(value=5)).key != before
    assert Tree(left=Leaf(), right=Leaf()).key != before
    # Which role an upstream stage has matters, even where the stages are equal.
    a, b = Leaf(), Leaf(value=5)
    assert Tree(left=a, right=b).key != Tree(left=b, right=a).key
    # Parameters within a stage are no stage: they enter with their class.
    nested = Leafs(net=Net())
    assert nested.params()["net"] == {"class": "Net", "width": 4} and nested.upstream() == {}


def test_a_file_enters_by_its_content(tmp_path):
    one, other = tmp_path / "a.pth", tmp_path / "b.pth"
    one.write_bytes(b"weights")
    other.write_bytes(b"weights")
    assert Leaf(name=str(one)).key == Leaf(name=str(other)).key
    assert Leaf(name=str(one)).params()["name"] == f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    other.write_bytes(b"Weights")
    assert Leaf(name=str(one)).key != Leaf(name=str(other)).key
    with pytest.raises(SegError, match=r"^Leaf: .*none\.pth: no such file$"):
        _ = Tree(left=Leaf(name=str(tmp_path / "none.pth"))).key


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"value": 11}, r"^Leaf.value=11: must lie in \[0, 10\]$"),
        ({"value": float("nan")}, "Leaf.value=nan: must fit into 64 bits and be finite$"),
        ({"steps": 2.5}, "whole number"),
        ({"sizes": 1.0}, r"must be a list, like \[1.0\]"),
        ({"name": 3}, "must be of type str or null$"),
        ({"rest": ["x", -1]}, r"Leafs\.rest=\['x', -1\]: must lie in \[0, inf\)$"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(SegError, match=message):
        (Leafs if {"rest", "below"} & wrong.keys() else Leaf)(**wrong)


def test_all_refusals_come_together_and_stages_have_their_type():
    with pytest.raises(SegError, match=r"^Leaf\.value=11: must lie in \[0, 10\]; Leaf\.kind='c': must be one of a, b$"):
        Leaf(value=11, kind="c")
    with pytest.raises(SegError, match=r"Tree.left=.*must be of type Leaf"):
        Tree(left=Tree(left=Leaf()))


def test_walk_visits_equal_stages_once_upstream_first():
    tree = Tree(left=Leaf(), right=Leaf(value=5))
    assert list(tree.walk()) == [tree.left, tree.right, tree]
    twice = Tree(left=Leaf(), right=Leaf())
    assert list(twice.walk()) == [twice.left, twice]


def test_an_oracle_upstream_marks_what_is_below():
    class Oracle(Leaf):
        is_oracle: ClassVar[bool] = True

    assert [Tree(left=x, right=y).is_oracle for x, y in ((Leaf(), None), (Leaf(), Oracle()))] == [False, True]
