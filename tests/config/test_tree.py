"""From a config to stages: one object per node, and one line for what is wrong."""

import pytest
from omegaconf import OmegaConf

from seg.config.tree import make_objects
from seg.errors import SegError
from seg.store import Stage, param


class Part(Stage):
    size: int = param(default=1, low=1)
    name: str = param(default="")

    def load(self, path, store): ...


class Pair(Stage):
    left: Part
    right: Part
    sizes: tuple[int, ...] = param(default=())

    def load(self, path, store): ...


HERE = __name__


def config(**changed):
    return OmegaConf.create(
        {
            "size": 3,
            "root": "data",
            "leaf": {"_target_": f"{HERE}.Part", "size": "${size}", "name": "${root}/pets"},
            "pair": {"_target_": f"{HERE}.Pair", "left": "${leaf}", "right": "${leaf}", "sizes": ["${size}", 5]},
            "again": "${pair}",
        }
        | changed
    )


def test_a_node_is_one_object_however_often_it_is_named():
    cfg, made = config(), {}
    pair = make_objects(cfg, "pair", made)
    assert isinstance(pair, Pair) and pair.left is pair.right
    assert (pair.left.size, pair.left.name, pair.sizes) == (3, "data/pets", (3, 5))
    assert make_objects(cfg, "leaf", made) is pair.left
    assert make_objects(cfg, "pair") is not pair and make_objects(cfg, "pair").key == pair.key
    assert make_objects(cfg, "again").key == pair.key


def test_what_has_no_target_stays_plain():
    assert make_objects(config(group={"a": "${size}", "b": [1, "${leaf.size}"]}), "group") == {"a": 3, "b": [1, 3]}
    assert make_objects(config(group=None), "group") is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"leaf": {"_target_": f"{HERE}.Part", "colour": 1}}, "leaf.colour: Part has no such parameter"),
        ({"leaf": {"_target_": f"{HERE}.Part", "size": 0}}, r"leaf: Part.size=0: must lie in \[1, inf\)"),
        ({"leaf": {"_target_": "no.such.Thing"}}, "leaf._target_=no.such.Thing: no such class .*No module named 'no'"),
        ({"pair": {"_target_": f"{HERE}.Pair", "left": "${leaf}"}}, "pair: .*missing 1 required .*'right'"),
        ({"leaf": {"_target_": f"{HERE}.Part", "size": "???"}}, "leaf: Missing mandatory value: size"),
        (
            {"pair": {"_target_": f"{HERE}.Pair", "left": "${leaf}", "right": "${twig}"}},
            r"twig: no such key \(pair.right refers",
        ),
        ({"leaf": {"_target_": f"{HERE}.Part", "name": "a/${twig}"}}, "leaf.name: Interpolation key 'twig' not found"),
    ],
)
def test_refusals_name_the_key_where_it_is_written(changed, message):
    with pytest.raises(SegError, match=f"^.*{message}") as error:
        make_objects(config(**changed), "pair")
    assert "\n" not in str(error.value)


def test_all_problems_are_in_one_error():
    wrong = {"_target_": f"{HERE}.Pair", "left": {"_target_": f"{HERE}.Part", "size": 0}, "right": "${leaf}", "up": 1}
    with pytest.raises(SegError) as error:
        make_objects(config(pair=wrong), "pair")
    assert "pair.up: Pair has no such parameter" in str(error.value) and "pair.left: Part.size=0" in str(error.value)
