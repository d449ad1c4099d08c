"""What a run was: the command that repeats it, how its config differs from the default, what its stages cost."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from seg.config.process import without_folders
from seg.store import Stage, Store
from seg.store.inventory import size_of


def differences(cfg: DictConfig, overrides: Sequence[str]) -> list[tuple[str, str, str]]:
    """Where a config differs from the default of the groups that were chosen.

    Args:
        cfg: the composed config. overrides: as given, of which those that choose from a group count.

    Returns:
        Key, default, and value in this run, in the config's order. A key that points to another one
        (``${threshold}``) is compared as it is written, so that a change is told once. Paths are told without folders.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from seg.config.paths import CONF

    groups = [(x.partition("=")[0].lstrip("+"), x) for x in overrides]
    chosen = [x for group, x in groups if group and (CONF / group).is_dir()]
    # An application has its own already, with the same folder.
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", chosen, return_hydra_config=True)
        plain, own = (one.hydra.runtime.choices for one in (compose("config", return_hydra_config=True), composed))
    changed = [g for g, name in own.items() if plain.get(g) != name and not g.startswith("hydra")]
    out = [(g, str(plain.get(g, "")), str(own[g])) for g in changed]
    usual, found = _leaves(composed), _leaves(cfg)
    for key in [*found, *(k for k in usual if k not in found)]:
        old, new = usual.get(key, "(none)"), found.get(key, "(none)")
        if old != new:
            out.append((key, without_folders(old), without_folders(new)))
    return out


def _leaves(cfg: DictConfig) -> dict[str, str]:
    nested: Any = OmegaConf.to_container(cfg, resolve=False)
    (flat,) = pd.json_normalize(nested).to_dict("records")
    return {
        str(key): "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in flat.items()
        if not str(key).startswith("hydra.")
    }


def costs(stages: Iterable[Stage], store: Store) -> list[dict[str, Any]]:
    """The stored products that a run needed, each once, upstream first.

    Returns:
        Of each ``stage`` and ``product``, its two names; ``what`` it is; its ``bytes``; and the ``seconds`` that it
        took, None where nobody wrote them down.
    """
    out: dict[Path, dict[str, Any]] = {}
    for stage in (one for top in stages for one in top.walk() if one.stored):
        folder = store.folder(stage)
        if folder not in out and (manifest := store.manifest(stage)) is not None:
            name, _, product = stage.id.partition("/")
            out[folder] = {"stage": name, "product": product, "what": stage.what, "bytes": size_of(folder)}
            out[folder]["seconds"] = manifest.get("seconds")
    return list(out.values())
