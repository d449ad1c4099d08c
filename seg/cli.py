"""The command line before Hydra reads it: spans, and one clear line for what Hydra would refuse at length."""

import difflib
import os
import re
from pathlib import Path
from typing import Any

from seg.errors import SegError

_PACKAGE = Path(__file__).parent

#: The config folder: inside the package when installed from a wheel, beside it in a checkout.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"


def prepare_arguments(arguments: list[str]) -> list[str]:
    """Arguments for Hydra.

    Args:
        arguments: as typed, without the program's name.

    Returns:
        The same with what a dry run needs added, so that it leaves no trace.

    Raises:
        SegError: for a key, a group or a value that the config refuses.
    """
    if any(a in ("-h", "--help", "--hydra-help", "--version") or a.startswith("--info") for a in arguments):
        return arguments
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    multirun = "-m" in arguments or "--multirun" in arguments
    check_overrides(overrides, multirun)
    if "dry_run=true" in (a.lower() for a in overrides) and not multirun:
        # Hydra makes the run's folder before the job can object; this one exists already.
        return [*arguments, "hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    return arguments


def check_overrides(overrides: list[str], multirun: bool = False) -> None:
    """Compose the config once, to turn Hydra's many-line refusals into one line.

    Raises:
        SegError: naming the override that is wrong, with the nearest that would be right.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    firsts = []
    try:
        for override in OverridesParser.create().parse_overrides(overrides):
            text = override.input_line or ""
            if override.is_sweep_override():
                if not multirun:
                    raise SegError(f"{text}: several values are a sweep; add -m")
                text = f"{text.split('=', 1)[0]}={next(iter(override.sweep_string_iterator()))}"
            if not text.lstrip("+~").startswith("hydra"):
                firsts.append(text)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("config", firsts)
            validate_tree(cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise SegError(explain(error)) from error


def explain(error: Exception) -> str:
    """Hydra's and OmegaConf's messages on one line, with the nearest key or choice."""
    text = str(error)
    cause = f"{text} {error.__cause__ or ''}"
    if found := re.search(r"In '[^']*': Could not find '([^']+)'", text) or re.search(
        r"Could not override '([^']+)'\.\s*No match in the defaults list", text
    ):
        name = found.group(1)
        if "/" in name:
            group, _, choice = name.rpartition("/")
            choices = sorted(p.stem for p in (CONF / group).glob("*.yaml"))
            return f"{group}={choice}: no such choice; there are {', '.join(choices)}"
        groups = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name != "hydra")
        return f"{name}: no such group; there are {', '.join(groups)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        if "is not in struct" in cause or "not in '" in cause:
            return f"{key}: no such key{_nearest(key)}; --cfg job shows them all"
        detail = str(error.__cause__ or text).splitlines()[0]
        return f"{key}: {detail}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])


def _nearest(key: str) -> str:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        keys = [".".join(k) for k in _keys(compose("config"))]
    close = difflib.get_close_matches(key, keys, 1, 0.5) or [k for k in keys if k.endswith(f".{key}")][:1]
    return f", did you mean {close[0]}?" if close else ""


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


def validate_tree(cfg: Any) -> None:
    """Check keys that struct mode can't (``+key``): nothing may stand in the config that nobody reads.

    Raises:
        SegError: naming every such key.
    """
    import dataclasses

    from seg.schema import Config

    unknown = [str(k) for k in cfg if k not in {f.name for f in dataclasses.fields(Config)}]
    if unknown:
        raise SegError(f"{', '.join(unknown)}: no such key{_nearest(unknown[0])}; --cfg job shows them all")


def writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or it can be made."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)
