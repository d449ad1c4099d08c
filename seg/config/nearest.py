"""A key that is not there: which choices have it, and what was meant."""

import difflib
from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from seg.config.paths import CONF


def no_such_key(unknown: Sequence[str], overrides: Sequence[str]) -> str:
    """The refusal of keys, with the choices that have the first of them, or what it may have been meant to be.

    Args:
        unknown: keys that are not there, at least one.
        overrides: as typed; the groups among them decide which keys there are.
    """
    key, group = unknown[0], unknown[0].partition(".")[0]
    choices = [p.stem for p in sorted((CONF / group).glob("*.yaml"))] if "." in key else []
    elsewhere = [choice for c in choices if key in keys_of([*overrides, (choice := f"{group}={c}")])]
    hint = f" here; {' and '.join(elsewhere)} {'have' if len(elsewhere) > 1 else 'has'} it" if elsewhere else ""
    if not elsewhere:
        keys = [k for k in keys_of(overrides) if not key.startswith(f"{k}.")]
        close = difflib.get_close_matches(key, keys, 1, 0.5) or [k for k in keys if k.endswith(f".{key}")]
        hint = f", did you mean {close[0]}?" if close else ""
    return f"{', '.join(unknown)}: no such key{hint}; --cfg job shows them all"


def keys_of(overrides: Sequence[str]) -> list[str]:
    """All keys of the config, with dots, under the choices among ``overrides``, of which the last of a group counts."""
    groups = {"hydra.searchpath", *(p.name for p in CONF.iterdir() if p.is_dir())}
    # Of several choices of a sweep the first: what its keys are called is a guess anyway.
    chosen = {o.partition("=")[0]: o if o.startswith("hydra") else o.partition(",")[0] for o in overrides}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            cfg = compose("config", [override for group, override in chosen.items() if group in groups])
        except HydraException:
            cfg = compose("config")
    return _keys(OmegaConf.to_container(cfg))


def _keys(node: Any, prefix: str = "") -> list[str]:
    inside = node.items() if isinstance(node, dict) else ()
    return [found for k, v in inside for found in (f"{prefix}{k}", *_keys(v, f"{prefix}{k}."))]
