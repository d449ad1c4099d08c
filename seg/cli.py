"""Preparation of the command line for Hydra, and a callback at the start of a run."""

import re
import sys
import warnings
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from seg.config.paths import CONF
from seg.config.spans import expand_arguments
from seg.errors import SegError, did_you_mean, first_line
from seg.files import writable
from seg.store.run_folders import new_folder

#: Flags of Hydra's that run nothing.
_INFORMATION = ("-h", "--help", "--hydra-help", "--version", "--info", "-i", "--shell-completion", "-sc")
#: Lines of Hydra's and OmegaConf's messages that do not help the user.
_NOISE = r"(full_key|object_type|reference_type|Config search path|provider=|See https|To append to|[12]\. )"


def prepare_arguments(arguments: list[str]) -> list[str]:
    """Arguments for Hydra.

    Args:
        arguments: as typed, without the program's name.

    Returns:
        The arguments with spans expanded, and with Hydra's own settings for a dry run that writes nothing or a sweep
        that prints little.

    Raises:
        SegError: a wrong span or value.
    """
    if any(a.partition("=")[0] in _INFORMATION for a in arguments):
        return arguments
    # Hydra's parser wants the flag before or after all overrides.
    flags = [a for a in arguments if a in ("-m", "--multirun")]
    # Our launcher configs extend those of the plugins, which Hydra warns about.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/.*is validated against ConfigStore schema")
    arguments = expand_arguments([a for a in arguments if a not in flags])
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    for override in overrides:
        _check(override)
    given = {a.partition("=")[0] for a in overrides}
    sweeps = bool(flags) or any(re.match(r"\+*sweep=(?!none$)", a) for a in overrides)
    if (unused := "hydra.run.dir" if sweeps else "hydra.sweep.dir") in given:
        used = "a sweep's folder is hydra.sweep.dir" if sweeps else "a run's folder is hydra.run.dir; a sweep needs -m"
        raise SegError(f"{unused}: {used}")
    if sweeps:
        quiet = [key for key in ("hydra/hydra_logging", "hydra/job_logging") if key not in given]
        shown = any(a in ("--cfg", "-c") for a in arguments)
        return [*flags, *arguments, *([] if shown else [f"{key}=weakseg_sweep" for key in quiet])]
    if any(re.fullmatch(r"dry_run=['\"]?(true|yes|on|1)['\"]?", a.lower()) for a in overrides):
        # Hydra makes the run's folder before the job can object; this one exists already.
        return [*arguments, "hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    return arguments


def _check(override: str) -> None:
    """Refuse an empty value, and null or a mapping in place of a group's choice."""
    key, _, value = override.partition("=")
    if value.strip() in ("", "''", '""') and key != "hydra.job.name":
        raise SegError(f"{override}: must not be empty; leave it out, or give null where none is wanted")
    if (CONF / key).is_dir() and (value == "null" or value.startswith("{")):  # Hydra would set the node itself
        choices = sorted(path.stem for path in (CONF / key).glob("*.yaml"))
        raise SegError(f"{override[:150]}: no such choice; there are {', '.join(choices)}")


def one_line(error: BaseException) -> str:
    """An error of Hydra or OmegaConf and its cause as one line."""
    lines: dict[str, None] = {}
    for each in (error, error.__cause__):
        for line in (str(each) if each else "").splitlines():
            if line.strip() and not re.match(_NOISE, line.strip()):
                lines[line.strip().removeprefix("3. ")] = None
    text = " ".join([*lines][:12])[:600].replace(" Available options in", "; available options in")
    if unknown := re.search(r"Could not override '(?:[\w.]+[./@])?(\w+)'", text):
        keys = _known_keys()  # a key that is known has its place elsewhere
        text += ("" if unknown[1] in keys else did_you_mean(unknown[1], keys)) + "; --cfg job shows all keys"
    if re.search("Error parsing override|LexerNoViable", text):
        text += "; a value with special characters needs double quotes within single ones: 'data.root=\"/my photos\"'"
    return text or first_line(error)


def _known_keys() -> set[str]:
    """The groups, and the keys in the files of ``conf/``."""
    files = [*CONF.rglob("*.yaml")]
    return {key for file in files for key in re.findall(r"(\w+):", file.read_text())} | {f.parent.name for f in files}


class RunCallback(Callback):
    """Creates the folder of a run. Hydra would turn an exception here into a warning, so errors exit."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a folder that cannot be written to; create one that is named by the time, which no other run gets."""
        if config.hydra.output_subdir is None:  # a dry run
            return
        HydraConfig.instance().set_config(config)  # as Hydra does for the job; the name refers to its pipeline
        folder = Path(str(config.hydra.run.dir))
        if not writable(folder):
            sys.exit(f"error: {folder}: cannot be written to; choose another with hydra.run.dir=")
        written: Any = OmegaConf.to_container(config.hydra.run)
        if "${now:" in written["dir"]:
            with read_write(config.hydra):
                config.hydra.run.dir = new_folder(folder).as_posix()

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """Free the configs that Hydra would keep for every job until the sweep ends."""
        job_return.cfg = job_return.hydra_cfg = None
