"""What Hydra's global state knows about this process; read here only."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf


def given_overrides() -> list[str]:
    """The overrides of the command line; empty outside of a Hydra application."""
    # Unresolved: a reference in an override may be wrong.
    raw: Any = OmegaConf.to_container(HydraConfig.get().overrides, resolve=False) if HydraConfig.initialized() else {}
    return [str(x) for x in raw.get("task", ())]


def command(overrides: Sequence[str], folders: bool = True) -> str:
    """The command line that repeats a run; with ``folders=False`` without local paths, to be published."""
    return shlex.join(["python", "-m", "seg.run", *(overrides if folders else map(without_folders, overrides))])


def without_folders(text: str) -> str:
    """A value or an override without local paths: ``data.root=DIR/pets`` for ``data.root=/home/me/pets``."""
    for start in (0, text.find("=") + 1):  # whole first: a folder's name may contain a comma
        if os.path.exists(os.path.expanduser(text[start:].strip("'\""))):
            return text[:start] + _last_part(text[start:].strip("'\""))
    return "".join(map(_last_part, re.split(r"([=,\[\]{}'\"]|: )", text)))


def _last_part(value: str) -> str:
    path = os.path.expanduser(value.removeprefix("file://"))
    names_a_path = "/" in path and (os.path.isabs(path) or os.path.exists(path))
    return f"DIR/{Path(path).name}" if names_a_path else value


def in_sweep() -> bool:
    """Whether this run is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def sweep_folder() -> Path | None:
    """The folder of the sweep that this run is a job of."""
    return Path(HydraConfig.get().sweep.dir) if in_sweep() else None


def choices() -> dict[str, str]:
    """The choice of every group; empty outside of a Hydra application."""
    return {str(k): str(v) for k, v in HydraConfig.get().runtime.choices.items()} if HydraConfig.initialized() else {}


def run_folder() -> Path:
    """The folder of the run that Hydra has started in this process."""
    return Path(HydraConfig.get().runtime.output_dir)
