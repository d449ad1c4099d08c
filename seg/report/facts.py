"""What a run was: the command that repeats it, how its config differs from the default, what its stages cost."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

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

    chosen = [x for x in overrides if _group(x) and (CONF / _group(x)).is_dir()]
    # An application has its own already, with the same folder.
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", chosen, return_hydra_config=True)
        usual = _leaves(composed)
        plain = _choices(compose("config", return_hydra_config=True)) if chosen else {}
        own = _choices(composed) if chosen else {}
    out = [(group, plain.get(group, ""), name) for group, name in own.items() if plain.get(group) != name]
    found = _leaves(cfg)
    for key in [*found, *(k for k in usual if k not in found)]:
        old, new = usual.get(key, "(none)"), found.get(key, "(none)")
        if old != new:
            out.append((key, without_folders(old), without_folders(new)))
    return out


def _group(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _choices(cfg: DictConfig) -> dict[str, str]:
    return {str(k): str(v) for k, v in cfg.hydra.runtime.choices.items() if not str(k).startswith("hydra")}


def _leaves(cfg: DictConfig) -> dict[str, str]:
    out: dict[str, str] = {}

    def visit(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                visit(value, f"{path}.{key}" if path else str(key))
        else:
            out[path] = "null" if node is None else str(node).lower() if isinstance(node, bool) else str(node)

    visit(OmegaConf.to_container(cfg, resolve=False), "")
    return {key: value for key, value in out.items() if key != "hydra" and not key.startswith("hydra.")}


@dataclass(frozen=True)
class Cost:
    """A stored product: what made it, how long that took (None where nobody wrote it down), how many bytes it has."""

    stage: str
    what: str
    product: str
    seconds: float | None
    bytes: int


def costs(stages: Iterable[Stage], store: Store) -> list[Cost]:
    """The stored products that a run needed, each once, upstream first."""
    out: dict[str, Cost] = {}
    for stage in (one for top in stages for one in top.walk()):
        folder = store.folder(stage)
        if not stage.stored or str(folder) in out:
            continue
        if (manifest := store.manifest(stage)) is not None:
            name, _, product = stage.id.partition("/")
            out[str(folder)] = Cost(name, stage.what, product, manifest.get("seconds"), size_of(folder))
    return list(out.values())
