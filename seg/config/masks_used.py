"""How many masks were looked at to choose the values behind a part of a config."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seg.errors import SegError

_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")

FACTS = "chosen_by_masks"  #: the key under which a config says it of its own values


def masks_used(cfg: DictConfig, keys: Sequence[str], typed: Sequence[str] = ()) -> dict[str, int]:
    """For each node the most masks that any value behind it was chosen with.

    Whoever writes a value into a YAML file after looking at masks says so beside it, at the same place below
    ``chosen_by_masks``. A value that is typed on the command line has been chosen by whoever types it: with 0 masks, as
    far as anybody here knows, unless ``chosen_by_masks`` is typed for it too, as ``select=`` does.

    Args:
        cfg: the composed config. keys: of the nodes, with dots. typed: the overrides of the command line.

    Returns:
        Masks by key; 0 where nothing behind it was chosen by them.

    Raises:
        SegError: for what is no number of masks.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    given = {text.partition("=")[0].lstrip("+") for text in typed}
    facts: dict[str, int] = {
        key: number
        for key, number in _leaves(tree.get(FACTS) or {})
        if _is_count(key, number) and (key not in given or any(f"{FACTS}.{key}".startswith(one) for one in given))
    }
    out = {}
    for key in keys:
        behind: set[str] = set()
        _visit(tree, key, behind)
        out[key] = max((number for fact, number in facts.items() if fact in behind), default=0)
    return out


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _is_count(key: str, number: Any) -> bool:
    if type(number) is not int or not 0 <= number < 2**63:
        raise SegError(f"{FACTS}.{key}={number}: must be a number of masks, 0 for none")
    return True


def _visit(tree: Mapping[str, Any], key: str, behind: set[str]) -> None:
    """Add to ``behind`` a key, those below it, and all that they refer to."""
    if key in behind:
        return
    behind.add(key)
    value: Any = tree
    for part in key.split("."):
        if isinstance(value, str):
            # It is below a node that refers to another one; all of that counts.
            break
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        for name in value:
            _visit(tree, f"{key}.{name}", behind)
    for text in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
        for name in _REFERENCE.findall(text) if isinstance(text, str) else ():
            _visit(tree, name, behind)
