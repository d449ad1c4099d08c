"""A key that is not there: which choices have it, and what was meant."""

import difflib
from collections.abc import Sequence
from typing import Any

from seg.config.paths import CONF


def below_null(overrides: Sequence[str]) -> str:
    """The refusal of the keys of a group whose choice is to have none, as of ``segmenter=none``; or nothing."""
    keys = [override.partition("=")[0].lstrip("+~") for override in overrides]
    wrong = [key for key in keys if "." in key and (CONF / key.partition(".")[0] / "none.yaml").is_file()]
    return f"{wrong[0]}: no such key{nearest(wrong[0], [])}; --cfg job shows them all" if wrong else ""


def nearest(key: str, overrides: Sequence[str]) -> str:
    """The end of a refusal of ``key``: which choices have it, or what it may have been meant to be; or nothing.

    Args:
        key: that is not there. overrides: as typed; the groups among them decide which keys there are.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    if elsewhere := _choices_with(key):
        return f" here; {' and '.join(elsewhere)} {'have' if len(elsewhere) > 1 else 'has'} it"
    groups = {p.name for p in CONF.iterdir() if p.is_dir()}
    # Of several choices of a sweep the first: what its keys are called is a guess anyway.
    chosen = [o.partition(",")[0] for o in overrides if o.partition("=")[0] in groups]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            cfg = compose("config", chosen)
        except HydraException:
            cfg = compose("config")
        keys = [".".join(k) for k in _keys(cfg)]
    close = difflib.get_close_matches(key, keys, 1, 0.5) or [k for k in keys if k.endswith(f".{key}")][:1]
    return f", did you mean {close[0]}?" if close else ""


def _choices_with(key: str) -> list[str]:
    """The choices of the key's group (``data=image_folder``) whose own files have such a key."""
    from omegaconf import OmegaConf

    group, _, rest = key.partition(".")
    out = []
    for path in sorted((CONF / group).glob("*.yaml")) if rest else []:
        node: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        # A file with @package _global_ begins at the root, the others at their group.
        for part in (key if group in node else rest).split("."):
            if not isinstance(node, dict) or part not in node:
                break
            node = node[part]
        else:
            out.append(f"{group}={path.stem}")
    return out


def _keys(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    from omegaconf import DictConfig

    if not isinstance(node, DictConfig):
        return [path]
    out = [path] if path else []
    for key in node:
        # Values that point elsewhere are not followed: they are set where they stand.
        value = None if node._get_node(key) is None else node._get_node(key)
        out += _keys(value, (*path, str(key))) if isinstance(value, DictConfig) else [(*path, str(key))]
    return out
