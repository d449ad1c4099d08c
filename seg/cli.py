"""The command line before Hydra reads it, and the checks of what it has composed."""

import copy
import re
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seg.config.paths import CONF
from seg.config.spans import expand_arguments
from seg.errors import SegError, first_line
from seg.sweep.plan import make_plan

#: Flags of Hydra's that run nothing, or tell of it before anything is composed.
_TELLS = ("-h", "--help", "--hydra-help", "--version", "--info", "-i", "--shell-completion", "-sc")
#: Of messages of Hydra's and OmegaConf's: lines that say nothing to who has typed something.
_NOISE = r"(full_key|object_type|reference_type|Config search path|provider=|See https|To append to|[12]\. )"


def prepare_arguments(arguments: list[str]) -> list[str]:
    """Arguments for Hydra.

    Args:
        arguments: as typed, without the program's name.

    Returns:
        The same with spans as lists of choices, with what ``select=`` stands for, and with what Hydra has to
        be told for a dry run that leaves no trace and for a sweep that prints little.

    Raises:
        SegError: for a span or a value that cannot be read.
    """
    if any(a.partition("=")[0] in _TELLS for a in arguments):
        return arguments
    # Hydra's parser wants the flag before or after all overrides.
    flags = [a for a in arguments if a in ("-m", "--multirun")]
    typed = [_quoted(a) for a in arguments if a not in flags]
    # Our launcher configs set other resources in the plugins' own, and Hydra would rather see another name.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/.*is validated against ConfigStore schema")
    arguments = expand_arguments(typed + _selected(typed))
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    for override in overrides:
        _check(override)
    if flags or any(re.match(r"\+*sweep=(?!none$)", a) for a in overrides):
        given = {a.partition("=")[0] for a in overrides}
        quiet = [key for key in ("hydra/hydra_logging", "hydra/job_logging") if key not in given]
        shown = any(a in ("--cfg", "-c") for a in arguments)
        return [*flags, *arguments, *([] if shown else [f"{key}=weakseg_sweep" for key in quiet])]
    if any(re.fullmatch(r"dry_run=['\"]?(true|yes|on|1)['\"]?", a.lower()) for a in overrides):
        # Hydra makes the run's folder before the job can object; this one exists already.
        return [*arguments, "hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    return arguments


def _check(override: str) -> None:
    """Refuse an override that Hydra's grammar cannot read, an empty value, and no choice of a group."""
    key, _, value = override.partition("=")
    if value.strip() in ("", "''", '""') and key not in ("select", "hydra.job.name"):
        raise SegError(f"{override}: must not be empty; leave it out, or give null where none is wanted")
    if (CONF / key).is_dir() and (value == "null" or value.startswith("{")):  # Hydra would take it for the node's value
        raise SegError(f"{override[:150]}: no such choice; there are {', '.join(_choices(key))}")
    parser = OverridesParser.create()
    # Recursion and too many digits are Python's limits, met within the parser.
    unreadable = (HydraException, OmegaConfBaseException, ValueError, RecursionError)
    try:
        parser.parse_override(override)
    except unreadable as error:
        value = str(Path(value).expanduser()) if value.startswith("~") else value
        text = '{}="{}"'.format(key, value.replace('"', '\\"'))
        try:
            parser.parse_override(text)
        except unreadable:
            text = ""
        if not text or len(text) > 150 or re.match(r"[\[{]", value):  # a list or a mapping that is broken
            raise SegError(f"{override[:150]}: {one_line(error)[:300]}") from error
        raise SegError(
            f"{override}: has characters that Hydra reads as its own; quote the value so: {shlex.quote(text)}"
        ) from error


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _quoted(argument: str) -> str:
    """A sweep's folder has ``=`` and ``,`` in its name, and only Hydra's own quotes shield them."""
    path = argument.removeprefix("select=")
    quote = path != argument and not re.fullmatch(r"[\w./~-]*|'.*'|\".*\"", path)
    return f"select='{path}'" if quote else argument


def _selected(arguments: list[str]) -> list[str]:
    """The overrides that ``select=<sweep folder>`` stands for, said aloud."""
    given = {key.lstrip("+"): value.strip("'\"") for key, _, value in (a.partition("=") for a in arguments)}
    path = given.get("select", "null")
    if path in ("", "null"):
        return []
    from seg.sweep.select import selected

    overrides, said = selected(Path(path), given.get("select_by", "miou"), list(given))
    print(said, flush=True)
    return overrides


def one_line(error: BaseException) -> str:
    """What Hydra or OmegaConf says of a config, with its cause, in a line."""
    lines: dict[str, None] = {}
    for each in (error, error.__cause__):
        for line in (str(each) if each else "").splitlines():
            if line.strip() and not re.match(_NOISE, line.strip()):
                lines[line.strip().removeprefix("3. ")] = None
    more = ["; --cfg job shows all keys"] if "Could not override" in str(error) else []
    return " ".join([*lines][:12])[:600] + "".join(more) or first_line(error)


def _task(config: DictConfig) -> list[str]:
    overrides: Any = OmegaConf.to_container(config.hydra.overrides, resolve=False)
    return list(overrides["task"])


class Check(Callback):
    """Refuses what is typed and cannot be meant, before Hydra makes a folder; Hydra makes a warning of an exception."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse another current folder than where the command was typed, and a recipe that is not there."""
        if config.hydra.job.chdir:
            sys.exit(
                "error: hydra.job.chdir=true: relative paths would be looked for in the run's folder; leave it out "
                "(all that a run writes is in hydra.run.dir= and store= anyway)"
            )
        # Hydra goes on without an optional one.
        there = GlobalHydra.instance().config_loader().get_group_options("recipe")
        for text in _task(config):
            if text.startswith("recipe=") and not {*text.removeprefix("recipe=").split(",")} <= {*there}:
                sys.exit(f"error: {text}: no such choice; there are {', '.join(there)}")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The same, and keys that no job of a sweep uses."""
        self.on_run_start(config)
        try:
            refuse_unused_of_sweep(config, _task(config))
        except (SegError, HydraException, OmegaConfBaseException) as error:
            sys.exit(f"error: {one_line(error)}")


def refuse_unused_of_sweep(config: DictConfig, typed: Sequence[str]) -> None:
    """Refuse what no job uses, of the first job and one for every other choice of a swept group.

    Args:
        config: of the sweep, with Hydra's. typed: the overrides.

    Raises:
        SegError: naming what is not used; for a sweep of too many jobs, or a choice that is not there.
    """
    from seg.experiment import Experiment

    loader: Any = GlobalHydra.instance().config_loader()
    params = config.hydra.sweeper.get("params") or {}
    plan = make_plan(params, typed, loader, most=config.hydra.sweeper.get("max_jobs"))
    groups = [str(group) for group in config.hydra.runtime.choices]
    first = {key: values[0] for key, values in plan.swept.items()}
    cells = [first] + [{**first, key: v} for key in first if key in groups for v in plan.swept[key][1:]]
    refused: dict[str, str] | None = None
    for cell in cells:
        fixed = {key: value for key, value in plan.fixed.items() if not key.startswith("hydra")}
        cfg = loader.load_sweep_config(config, [f"{key}={value}" for key, value in (fixed | cell).items()])
        if cell is first:
            _set_each(cfg, {key: values for key, values in plan.swept.items() if key not in groups})
        try:
            found = Experiment.from_config(cfg).unused(typed, groups)
        except SegError:  # the sweep's jobs tell of it
            return
        refused = found if refused is None else {k: v for k, v in refused.items() if k in found}
    if refused:
        raise SegError("; ".join(refused.values()))


def _set_each(cfg: DictConfig, swept: Mapping[str, Sequence[str]]) -> None:
    """Refuse a value that does not fit the type of its key."""
    cfg = copy.deepcopy(cfg)
    for key, values in swept.items():
        for value in values if re.fullmatch(r"[\w.]+", key) else ():
            try:
                parsed = OverridesParser.create().parse_override(f"{key}={value}")
                OmegaConf.update(cfg, key, parsed.value(), merge=True)
            except (HydraException, OmegaConfBaseException) as error:
                raise SegError(f"{key}={value}: {one_line(error)}") from error
