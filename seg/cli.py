"""The command line before Hydra reads it: spans, sweeps, one clear line for what Hydra would refuse at length."""

import re
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seg.config.nearest import keys_of, no_such_key
from seg.config.paths import CONF
from seg.config.schema import Config
from seg.config.spans import expand_arguments, most_jobs
from seg.errors import SegError, first_line
from seg.sweep.plan import Plan, choices_of, make_plan


def prepare_arguments(arguments: list[str]) -> list[str]:
    """Arguments for Hydra.

    Args:
        arguments: as typed, without the program's name.

    Returns:
        The same with spans as lists of choices, with what ``select=`` stands for, and with what Hydra has to
        be told for a dry run that leaves no trace and for a sweep that prints little.

    Raises:
        SegError: for a span, a key, a group or a value that is refused.
    """
    if any(a in ("-h", "--help", "--hydra-help", "--version") or a.startswith("--info") for a in arguments):
        return arguments
    # Hydra's parser wants the flag before or after all overrides.
    flags = [a for a in arguments if a in ("-m", "--multirun")]
    typed = [_quoted(renamed(a)) for a in arguments if a not in flags]
    # Our launcher configs set other resources in the plugins' own, and Hydra would rather see another name.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/.*is validated against ConfigStore schema")
    for before, argument in zip(["", *arguments], arguments, strict=False):
        _refuse_empty(argument)
        _refuse_bare(before, argument)
    _refuse_flags([*flags, *typed])
    arguments = expand_arguments(typed + [renamed(a) for a in _selected(typed)])
    overrides = own_folders(
        [a for a in arguments if ("=" in a or a.startswith("~")) and not a.startswith("-")], arguments
    )
    _refuse_other_config(arguments, overrides)
    as_typed = dict(zip(arguments, typed, strict=False))
    multirun, plan = check_overrides(overrides, bool(flags), as_typed)
    if multirun:
        quiet = [f"hydra/{kind}_logging" for kind in ("hydra", "job") if f"hydra/{kind}_logging" not in plan.fixed]
        shown = any(a in ("--cfg", "-c", "--shell-completion", "-sc") for a in arguments)
        return [*flags, *arguments, *([] if shown else [f"{key}=weakseg_sweep" for key in quiet])]
    if any(re.fullmatch(r"dry_run=['\"]?(true|yes|on|1)['\"]?", a.lower()) for a in overrides):
        # Hydra makes the run's folder before the job can object; this one exists already.
        return [*arguments, "hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    return arguments


#: Keys of before, by their first words, and what they are called now.
_RENAMED = {
    "runtime.precision": "precision",
    "data.boxes.threshold": "threshold",
    "data.boxes.refined_threshold": "data.refine.threshold",
    "data.boxes.scale": "supervision.scale",
    "data.boxes.clip": "supervision.clip",
    "data.boxes.test_images": "supervision.test_images",
    "data.boxes": "data.refine",
}


def renamed(argument: str) -> str:
    """An argument whose key has another name now, under that name; it is said aloud."""
    plus, key, value = re.fullmatch(r"(\+*)([^=]*)(.*)", argument, re.DOTALL).groups()  # type: ignore[union-attr]
    for old, new in _RENAMED.items():
        if value and (key == old or key.startswith(f"{old}.")):
            print(f"{plus}{key} is {plus}{new}{key.removeprefix(old)} now", file=sys.stderr, flush=True)
            return f"{plus}{new}{key.removeprefix(old)}{value}"
    return argument


def own_folders(overrides: list[str], arguments: Sequence[str]) -> list[str]:
    """Overrides that find the choices of ``--config-dir``, a user's own, as Hydra does when it runs.

    Raises:
        SegError: for a folder that is not there.
    """
    given = _flag_values(arguments, "--config-dir", "-cd")
    folders = [Path(text) for text in given] + _folders(overrides)
    for folder in folders:
        if not folder.is_dir():
            raise SegError(
                f"--config-dir {folder}: no such folder; give the one that holds supervision/, data/ or the like"
            )
    if not given:
        return overrides
    urls = ",".join(f"'file://{folder.absolute().as_posix()}'" for folder in folders)
    return [f"hydra.searchpath=[{urls}]", *(o for o in overrides if not o.startswith("hydra.searchpath="))]


def _flag_values(arguments: Sequence[str], *names: str) -> list[str]:
    """What is given to a flag of Hydra's, behind ``=`` or as the next argument."""
    given: list[str] = []
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, joined = flag.partition("=")
        if name in names:
            given.append(joined if equals else value)
    return given


def _refuse_other_config(arguments: Sequence[str], overrides: Sequence[str]) -> None:
    """Another config than the package's is not there: Hydra would say so at length, and list what it looked at."""
    for name in _flag_values(arguments, "--config-name", "-cn"):
        if not any((place / f"{name.removesuffix('.yaml')}.yaml").is_file() for place in (CONF, *_folders(overrides))):
            raise SegError(
                f"--config-name {name}: no such config; leave it out, and choose by group=choice (--help); "
                "choices of your own are found by --config-dir DIR"
            )
    for path in _flag_values(arguments, "--config-path", "-cp"):
        if not Path(path).is_absolute() or not Path(path).is_dir():
            raise SegError(f"--config-path {path}: no such folder (from /); choices of your own: --config-dir DIR")


def _refuse_empty(argument: str) -> None:
    """An empty path would be the current folder, and an empty name nothing; what is no text no config can hold,
    nor a number of hundreds of digits.
    """
    key, equals, value = argument.partition("=")
    if re.fullmatch(r"[-+]?\d{101,}", value):
        raise SegError(f"{key}={value[:20]}...: a number of more than 100 digits")
    if any("\udc80" <= c <= "\udcff" for c in argument):
        raise SegError(f"{argument!r}: holds bytes that are not UTF-8; rename the file or folder")
    if equals and value.strip() in ("", "''", '""') and key not in ("select", "hydra.job.name"):
        raise SegError(f"{argument}: must not be empty; leave it out, or give null where none is wanted")


def _refuse_flags(arguments: list[str]) -> None:
    """What Hydra's parser of flags would refuse, with its whole usage before it."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise SegError(
            f"{message}; values are given as key=value, flags before or after all of them; --help shows both"
        )

    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(arguments)


def _refuse_bare(before: str, argument: str) -> None:
    """A word alone, which is no flag, no flag's value and no key to take out."""
    is_value = before.startswith("-") and "=" not in before and before not in ("-m", "--multirun", "--resolve", "--run")
    if "=" not in argument and not argument.startswith(("-", "~")) and not is_value:
        raise SegError(f"{argument[:100]}: give key=value, as in {argument[:100]}=...; --help shows what can be chosen")


def _parsed(override: str, parser: OverridesParser) -> Any:
    """One override, as Hydra's grammar reads it; what it cannot read is refused with what can be typed instead."""
    try:
        return parser.parse_override(override)
    # Recursion and too many digits are Python's limits, met within the parser.
    except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
        key, _, value = override.partition("=")
        value = str(Path(value).expanduser()) if value.startswith("~") else value
        text = '{}="{}"'.format(key, value.replace('"', '\\"'))
        shown = override if len(override) <= 150 else f"{override[:150]}..."
        try:
            parser.parse_override(text)
        except (HydraException, OmegaConfBaseException, ValueError, RecursionError):
            raise SegError(f"{shown}: {first_line(error)}") from error
        if len(text) > 150 or re.match(r"[\[{]", value):  # a list or a mapping that is broken
            raise SegError(f"{shown}: {_without_link(error)}") from error
        raise SegError(
            f"{shown}: has characters that Hydra reads as its own; quote the value so: {shlex.quote(text)}"
        ) from error


def _without_link(error: Exception) -> str:
    return first_line(error).partition("See https://")[0][:150].strip()


def _folders(overrides: Sequence[str]) -> list[Path]:
    """The folders that ``hydra.searchpath=[file://DIR]`` adds."""
    texts = [o.partition("=")[2] for o in overrides if o.startswith("hydra.searchpath=")]
    return [Path(found) for text in texts for found in re.findall(r"file://([^'\",\]]+)", text)]


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


def check_overrides(overrides: list[str], multirun: bool, as_typed: Mapping[str, str]) -> tuple[bool, Plan]:
    """Compose the config once, to turn Hydra's many-line refusals into one line; in a sweep, try every value.

    Args:
        overrides: with spans as choices. multirun: whether ``-m`` was typed; ``sweep=`` may ask for it too.
        as_typed: overrides with their spans.

    Returns:
        Whether it is a sweep, and its jobs.

    Raises:
        SegError: naming the override that is wrong, with the nearest that would be right.
    """
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            parser = OverridesParser.create(config_loader=loader)
            parsed = [_parsed(override, parser) for override in overrides]
            firsts: dict[str, str] = {}
            most = most_jobs(overrides)
            for override in parsed:
                text = override.input_line or ""
                key = text.split("=", 1)[0]
                firsts[key] = f"{key}={choices_of(override, most)[0]}" if override.is_sweep_override() else text
            groups = frozenset(loader.list_groups(""))
            for group in groups & firsts.keys():
                choice = firsts[group].partition("=")[2]
                # Hydra has a traceback for null, takes a mapping for values of a key of that name, and goes on without
                # a recipe, which is optional.
                if (
                    choice == "null"
                    or choice.startswith("{")
                    or (group == "recipe" and choice not in _choices(group, overrides))
                ):
                    raise SegError(_no_such_choice(group, choice, overrides))
            cfg = compose("config", list(firsts.values()), return_hydra_config=True)
            if gone := [key for key in Config.__dataclass_fields__ if key not in cfg]:
                raise SegError(f"~{gone[0]}: every run needs it; set it instead (--cfg job shows how it is)")
            for key in (k.lstrip("+") for k, text in firsts.items() if "${" in text and not k.startswith("hydra")):
                OmegaConf.select(cfg, key)  # what is referred to is there
            multirun = multirun or cfg.hydra.mode == RunMode.MULTIRUN
            if several := [str(o.input_line) for o in parsed if o.is_sweep_override() and not multirun]:
                raise SegError(f"{as_typed.get(several[0], several[0])}: several values are a sweep; add -m")
            params = (cfg.hydra.sweeper.get("params") or {}) if multirun else {}
            plan = make_plan(params, overrides, loader, str(cfg.hydra.runtime.choices.pipeline), most)
            _check_values(plan, cfg, firsts, groups)
    except (HydraException, OmegaConfBaseException) as error:
        raise SegError(explain(error, overrides)) from error
    except (ValueError, TypeError, RecursionError) as error:  # of values that Hydra takes for granted
        raise SegError(f"{' '.join(overrides)[:150]}: {first_line(error)}; --help shows what can be typed") from error
    except AssertionError as error:  # what OmegaConf says of a key below a null, as of segmenter=none
        keys = [override.partition("=")[0].lstrip("+~") for override in overrides]
        null = [key for key in keys if "." in key and (CONF / key.partition(".")[0] / "none.yaml").is_file()]
        raise SegError(no_such_key(null, overrides) if null else str(error)) from error
    validate_tree(cfg, overrides)
    return multirun, plan


def _check_values(plan: Plan, cfg: Any, firsts: dict[str, str], groups: frozenset[str]) -> None:
    """Every value of every swept key, by itself: a choice is composed, a plain value is set."""
    for key, values in plan.swept.items():
        for value in values:
            text = f"{key}={value}"
            if key in groups or not re.fullmatch(r"[\w.]+", key):
                if firsts.get(key) != text:
                    compose("config", [*(v for k, v in firsts.items() if k != key), text])
                continue
            try:
                OmegaConf.update(cfg, key, OverridesParser.create().parse_override(text).value(), merge=True)
            except OmegaConfBaseException as error:
                raise SegError(f"{text}: {str(error).splitlines()[0]}") from error


def explain(error: Exception, overrides: Sequence[str] = ()) -> str:
    """Hydra's and OmegaConf's messages on one line, with the nearest key or choice."""
    text = str(error)
    cause = f"{text} {error.__cause__ or ''}"
    if found := re.search(r"In '[^']*': Could not find '([^']+)'", text) or re.search(
        r"Could not override '([^']+)'\.\s*No match in the defaults list", text
    ):
        name = found.group(1)
        if "/" in name:
            group, _, choice = name.rpartition("/")
            return _no_such_choice(group, choice, overrides)
        groups = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name != "hydra")
        return f"{name}: no such group; there are {', '.join(groups)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        if "is not in struct" in cause or "not in '" in cause:
            return no_such_key([getattr(error.__cause__, "full_key", None) or key], overrides)
        detail = str(error.__cause__ or text).splitlines()[0]
        return f"{key}: {detail}"
    if found := re.fullmatch(r"Error merging override (\S+)", text.strip()):
        return f"{found.group(1)}: {str(error.__cause__).splitlines()[0] if error.__cause__ else 'not allowed'}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if found := re.search(r"Interpolation key '([^']+)' not found\s+full_key: (\S+)", text):
        return f"{found.group(2)}: refers to {found.group(1)}, which is not there; --cfg job shows all keys"
    if found := re.search(r"Error resolving interpolation '([^']+)'", text):  # a choice that refers to nothing
        return f"{next((o for o in overrides if found.group(1) in o), found.group(1))}: refers to what is not there"
    return " ".join(lines[:2])


def _choices(group: str, overrides: Sequence[str]) -> list[str]:
    return sorted({p.stem for place in (CONF, *_folders(overrides)) for p in (place / group).glob("*.yaml")})


def _no_such_choice(group: str, choice: str, overrides: Sequence[str]) -> str:
    return f"{group}={choice}: no such choice; there are {', '.join(_choices(group, overrides))}"


def validate_tree(cfg: Any, overrides: list[str]) -> None:
    """Check keys that struct mode can't (``+key``): nothing may stand in the config that nobody reads.

    Stages refuse parameters that they do not have, so a key may be added to a node with a ``_target_`` alone.

    Raises:
        SegError: naming every such key.
    """
    unknown = [str(key) for key in cfg if key != "hydra" and key not in Config.__dataclass_fields__]
    for override in overrides:
        key, plain = override.partition("=")[0], override.partition("=")[0].lstrip("+")
        if key != plain and "." in key and "/" not in key and not re.match(r"(hydra|chain|chosen_by_masks)\.", plain):
            path, _, name = plain.rpartition(".")
            parent = OmegaConf.select(cfg, path)
            if name in parent and "_target_" not in parent:
                unknown.append(plain)
    if unknown and (unknown := [key for key in unknown if key not in keys_of(overrides)]):
        raise SegError(no_such_key(unknown, overrides))
