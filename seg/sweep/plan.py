"""Which jobs a sweep has, and the names of its folders."""

import hashlib
import itertools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from seg.config.aside import is_aside
from seg.config.spans import collapse, expand_value, refuse_too_many
from seg.errors import SegError

#: Longest readable part of a folder's name; beyond it a hash stands for the rest.
MOST_CHARACTERS = 120


@dataclass(frozen=True)
class Job:
    """One cell of a sweep.

    Attributes:
        swept: its values of the swept keys, as typed (exact decimals).
        overrides: everything it is started with.
        folder: its folder's name within the sweep's.
    """

    swept: Mapping[str, str]
    overrides: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class Plan:
    """All jobs of a sweep.

    Attributes:
        swept: values by key, in the order of columns: epoch, threshold, then by name.
        fixed: the other overrides by key, as given.
        pipeline: the one that is chosen, unless several are swept.
    """

    swept: Mapping[str, Sequence[str]]
    fixed: Mapping[str, str]
    pipeline: str = "cam"

    @property
    def jobs(self) -> list[Job]:
        """Every combination, the first key slowest: a training goes on epoch by epoch, and what is open of an
        epoch serves all thresholds."""
        # What is Hydra's own it knows already, and gives to every job.
        fixed = [f"{k}={v}" for k, v in self.fixed.items() if not k.startswith("hydra")]
        out = []
        for values in itertools.product(*self.swept.values()):
            cell = dict(zip(self.swept, values, strict=True))
            texts = [f"{k}={v}" for k, v in cell.items()]
            out.append(Job(cell, (*fixed, *texts), safe_name(texts)))
        return out

    def name(self) -> str:
        """The sweep's folder: what is swept and what is given, without what is aside."""
        items = [f"{k}={collapse(list(v))}" for k, v in self.swept.items()]
        items += [f"{k}={v}" for k, v in sorted(self.fixed.items()) if not is_aside(k) and k != "pipeline"]
        return safe_name(items)


def make_plan(
    params: Mapping[str, Any],
    arguments: Sequence[str],
    config_loader: Any,
    pipeline: str = "cam",
    most: int | None = None,
) -> Plan:
    """Read overrides the way Hydra's basic sweeper does, spans included.

    Args:
        params: ``hydra.sweeper.params``; an argument of the same key wins.
        arguments: overrides as typed.
        config_loader: Hydra's, which knows what a ``glob()`` may choose from.
        pipeline: the one that is chosen, unless several are swept.
        most: jobs that it may have; None where that was looked at before.

    Raises:
        SegError: for a span that is wrong, a sweep that isn't over single values (``interval()``), or one of too many.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    texts = [f"{key}={expand_value(str(value), key, most or sys.maxsize)}" for key, value in params.items()] + list(
        arguments
    )
    swept: dict[str, list[str]] = {}
    fixed: dict[str, str] = {}
    for override in OverridesParser.create(config_loader=config_loader).parse_overrides(texts):
        key = str(override.get_key_element())
        swept.pop(key, None)
        fixed.pop(key, None)
        if not override.is_sweep_override():
            fixed[key] = str(override.get_value_element_as_str())
            continue
        values = choices_of(override, most)
        if len(values) == 1:
            fixed[key] = values[0]
        else:
            swept[key] = values
    if most is not None:
        refuse_too_many({key: len(values) for key, values in swept.items()}, most)
    order = sorted(swept, key=lambda k: (k != "epoch", k != "threshold", k))
    return Plan({k: swept[k] for k in order}, fixed, pipeline)


def choices_of(override: Any, most: int | None = None) -> list[str]:
    """The values of a sweep that Hydra has parsed, each once.

    Raises:
        SegError: if it isn't over single values, or over more than ``most``.
    """
    if not override.is_discrete_sweep():
        raise SegError(f"{override.input_line}: has no single values; give choices, range() or a span")
    if override.is_range_sweep() and most is not None:
        found = override.value()
        if found.step == 0 or not all(math.isfinite(x) for x in (found.start, found.stop, found.step)):
            raise SegError(f"{override.input_line}: has no end; give another step")
        count = math.ceil(abs(found.stop - found.start) / abs(found.step))
        refuse_too_many({override.get_key_element(): count}, most)
    values = [str(v) for v in override.sweep_string_iterator()]
    if override.is_range_sweep():
        # Binary fractions add up to 0.30000000000000004; nobody asked for that number.
        values = [f"{float(v):.12g}" if re.fullmatch(r"-?\d*\.\d{12,}", v) else v for v in values]
    return list(dict.fromkeys(values))


def sweep_folder(plan: Plan) -> Path:
    """Where a sweep's results go: the same for the same sweep, whenever and in whatever order it is typed."""
    return Path("outputs/sweeps") / ("several" if "pipeline" in plan.swept else plan.pipeline) / plan.name()


def register() -> None:
    """Make the resolver ``sweep_folder`` known, the value of ``hydra.sweep.dir``.

    It is resolved once: Hydra gives every job what was found for the sweep, whatever sweeper runs it.
    """

    def resolve(sweeper: Any, task: Any, pipeline: str) -> str:
        from hydra.core.global_hydra import GlobalHydra

        loader = GlobalHydra.instance().config_loader()
        return sweep_folder(make_plan(sweeper.get("params") or {}, task, loader, pipeline)).as_posix()

    OmegaConf.register_new_resolver("sweep_folder", resolve, replace=True, use_cache=True)


def safe_name(items: Sequence[str]) -> str:
    """Join ``key=value`` items to a folder's name; with a hash where that drops or changes something."""
    exact = ",".join(items)
    name = re.sub(r"[^\w.,=+-]", "-", exact)
    if name == exact and len(name) <= MOST_CHARACTERS and name:
        return name
    return f"{name[:MOST_CHARACTERS].rstrip('-,')}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
