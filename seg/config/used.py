"""Which keys are behind a part of a config: to count masks that chose values, and to refuse keys that nothing uses."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seg.config.schema import Config
from seg.errors import SegError

_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")

FACTS = "chosen_by_masks"  #: the key under which a config says how many masks chose each of its values

#: Keys of where and how to compute, show or keep: they change no figure.
_CHANGES_NOTHING = re.compile(
    r"(store|figures|dry_run|chosen_by_masks(\..*)?|sweep|export\..*|evaluation\.panel|tracker(\..*)?|runtime\..*|hydra[./].*)"
)
#: Top-level keys that the program reads itself, beside those of the stages.
_OF_THE_RUN = ("store", "weights_dir", "dry_run", "figures", "evaluation", "export", "runtime")


def masks_used(cfg: DictConfig, keys: Sequence[str], typed: Sequence[str] = ()) -> dict[str, int]:
    """The most masks that any value behind each node was chosen with, as ``chosen_by_masks`` says it.

    A value that is typed counts 0, unless ``chosen_by_masks`` is typed for it too.

    Args:
        cfg: the composed config. keys: of the nodes, with dots. typed: the overrides of the command line.

    Raises:
        SegError: for what is no number of masks.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    given = [_key(text) for text in typed]
    facts = dict(_leaves(tree.get(FACTS) or {}))
    for key, number in facts.items():
        if type(number) is not int or not 0 <= number < 2**63:
            raise SegError(f"{FACTS}.{key}={number}: must be a number of masks, 0 for none")
        if key in given and not any(f"{FACTS}.{key}".startswith(one) for one in given):
            facts[key] = 0
    behind = {key: _behind(tree, [key]) for key in keys}
    return {key: max((n for fact, n in facts.items() if fact in behind[key]), default=0) for key in keys}


def changes_no_result(key: str) -> bool:
    """Whether a config key cannot change a result: it enters neither a folder's name nor a job's identity."""
    return _CHANGES_NOTHING.fullmatch(key.lstrip("+~")) is not None


def unused(cfg: DictConfig, made: Mapping[str, Any], typed: Iterable[str], groups: Iterable[str]) -> dict[str, str]:
    """What is typed and changes nothing.

    A key is used if a step of ``chain``, the images that get masks or a tracker is made with it, or if the program
    reads it itself. A stage whose other parameters make some meaningless has a property ``unused_parameters``: the
    reason by name.

    Args:
        cfg: the composed config. made: the objects that were made of it, by key. typed: the overrides of the command
            line. groups: whose choices are no keys.

    Returns:
        A refusal by override.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    skipped: dict[str, str] = {}
    for path, thing in made.items():
        node: Any = OmegaConf.select(cfg, path) if hasattr(thing, "params") else None
        name = str(node.get("_target_")).rpartition(".")[2] if isinstance(node, DictConfig) else ""
        reasons = getattr(thing, "unused_parameters", None)
        if reasons is None and name and type(thing).__name__ != name:  # one of its arguments stands in its place
            reasons = {key: "" for key in node if key not in made and not isinstance(node[key], DictConfig)}
        skipped |= {f"{path}.{key}": why for key, why in (reasons or {}).items()}
    schema: Any = OmegaConf.to_container(OmegaConf.structured(Config))
    own = [key for key, _ in _leaves(schema) if key.partition(".")[0] in _OF_THE_RUN]
    used = _behind(tree, ["chain", "data.pool", "tracker", FACTS, *own], skipped)
    used |= {key.rpartition(".")[0] for key in own} | {*groups}
    refused = [x for x in typed if x[0] != "~" and not re.search(r"[/@]|^hydra\.", _key(x)) and _key(x) not in used]
    return {
        text: f"{text[:150]}: {skipped.get(_key(text)) or 'nothing in this run uses it'}; "
        "leave it out, or correct the key (--cfg job shows all)"
        for text in refused
    }


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _behind(tree: Mapping[str, Any], keys: Iterable[str], skipped: Iterable[str] = ()) -> set[str]:
    """These keys, those below them, and all that they refer to, without what is ``skipped``."""
    found: set[str] = set()
    open_keys = list(keys)
    while open_keys:
        key = open_keys.pop()
        if key in found or key in skipped:
            continue
        found.add(key)
        value: Any = tree
        for part in key.split("."):
            if isinstance(value, str):  # below a node that refers to another one; all of that counts
                break
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, dict):
            open_keys += [f"{key}.{name}" for name in value]
        elif isinstance(value, str | list):
            open_keys += _REFERENCE.findall(str(value))
    return found
