"""The keys that a part of a config depends on: to count the masks behind its values, and to refuse unused keys."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seg.errors import SegError

_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")

FACTS = "chosen_by_masks"  #: the node of a config that says how many masks chose each of its values

#: Keys that cannot change a result.
_CHANGES_NOTHING = re.compile(
    r"(store|figures|dry_run|chosen_by_masks(\..*)?|sweep|export\..*|evaluation\.panel|tracker(\..*)?|runtime\..*|hydra[./].*)"
)
#: Top-level keys that the program reads itself.
_OF_THE_RUN = ("store", "weights_dir", "dry_run", "figures", "evaluation", "export", "runtime")


def masks_used(
    cfg: DictConfig, keys: Sequence[str], typed: Sequence[str] = (), made: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """For each node, the largest number of masks that a value behind it was chosen with, by ``chosen_by_masks``.

    A typed value counts 0, unless ``chosen_by_masks`` is typed for it too.

    Args:
        cfg: the composed config. keys: of the nodes, with dots. typed: the overrides of the command line.
        made: its objects by key; parameters that they do not use count 0.

    Raises:
        SegError: an entry is no number of masks.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    given = [_key(text) for text in typed]
    facts = dict(_leaves(tree.get(FACTS) or {}))
    for key, number in facts.items():
        if type(number) is not int or not 0 <= number < 2**63:
            raise SegError(f"{FACTS}.{key}={number}: must be a number of masks, 0 for none")
        if key in given and not any(f"{FACTS}.{key}".startswith(one) for one in given):
            facts[key] = 0
    skipped = _unused_parameters(cfg, made or {})
    behind = {key: _behind(tree, [key], skipped) for key in keys}
    return {key: max((n for fact, n in facts.items() if fact in behind[key]), default=0) for key in keys}


def changes_no_result(key: str) -> bool:
    """Whether a config key cannot change a result, and so is not in the name of a sweep's folder."""
    return _CHANGES_NOTHING.fullmatch(key.lstrip("+~")) is not None


def unused(cfg: DictConfig, made: Mapping[str, Any], typed: Iterable[str], groups: Iterable[str]) -> dict[str, str]:
    """Overrides without effect.

    A key is used if a step of ``chain``, the pool of images or a tracker depends on it, or if the program reads it. A
    stage has a property ``unused_parameters`` if some of its parameters make others meaningless: reasons by name.

    Args:
        cfg: the composed config. made: its objects by key. typed: the overrides of the command line. groups: names of
            config groups, whose choices are no keys.

    Returns:
        A message by override.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    skipped = _unused_parameters(cfg, made)
    used = _behind(tree, ["chain", "data.pool", "tracker", FACTS, *_OF_THE_RUN], skipped) | {*groups}
    refused = [x for x in typed if x[0] != "~" and not re.search(r"[/@]|^hydra\.", _key(x)) and _key(x) not in used]
    return {
        text: f"{text[:150]}: {skipped.get(_key(text)) or 'nothing in this run uses it'}; "
        "leave it out, or correct the key (--cfg job shows all)"
        for text in refused
    }


def _unused_parameters(cfg: DictConfig, made: Mapping[str, Any]) -> dict[str, str]:
    """Keys of parameters that their objects do not use, with the reason if there is one."""
    skipped: dict[str, str] = {}
    for path, thing in made.items():
        node: Any = OmegaConf.select(cfg, path) if hasattr(thing, "params") else None
        name = str(node.get("_target_")).rpartition(".")[2] if isinstance(node, DictConfig) else ""
        reasons = getattr(thing, "unused_parameters", None)
        if reasons is None and name and type(thing).__name__ != name:  # one of its arguments stands in its place
            reasons = {key: "" for key in node if key not in made and not isinstance(node[key], DictConfig)}
        skipped |= {f"{path}.{key}": why for key, why in (reasons or {}).items()}
    return skipped


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _behind(tree: Mapping[str, Any], keys: Iterable[str], skipped: Iterable[str] = ()) -> set[str]:
    """These keys, the keys below them, and all that they refer to, except ``skipped``."""
    found: set[str] = set()
    open_keys = list(keys)
    while open_keys:
        key = open_keys.pop()
        if key in found or key in skipped:
            continue
        found.add(key)
        value: Any = tree
        for part in key.split("."):
            if isinstance(value, str):  # below a reference to another node, which counts as a whole
                break
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, dict):
            open_keys += [f"{key}.{name}" for name in value]
        elif isinstance(value, str | list):
            open_keys += _REFERENCE.findall(str(value))
    return found
