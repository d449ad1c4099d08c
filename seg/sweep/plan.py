"""The jobs of a sweep, and the names of its folders."""

import hashlib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from seg.config.spans import MOST_JOBS, collapse, expand_value
from seg.config.used import changes_no_result
from seg.errors import SegError

#: Longest readable part of a folder's name; a longer one ends with a hash.
MOST_CHARACTERS = 120


@dataclass(frozen=True)
class Job:
    """One combination of values.

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
    """

    swept: Mapping[str, Sequence[str]]
    fixed: Mapping[str, str]

    @property
    def jobs(self) -> list[Job]:
        """Every combination, the first key slowest: a training continues epoch by epoch, and an epoch's products
        are used for all thresholds."""
        fixed = [f"{k}={v}" for k, v in self.fixed.items() if not k.startswith("hydra")]
        out = []
        for values in itertools.product(*self.swept.values()):
            swept = dict(zip(self.swept, values, strict=True))
            texts = [f"{k}={v}" for k, v in swept.items()]
            out.append(Job(swept, (*fixed, *texts), safe_name({k: [v] for k, v in swept.items()})))
        return out

    def folder(self, pipeline: str) -> Path:
        """The sweep's folder, which does not depend on the order of the arguments."""
        fixed = {k: [v] for k, v in sorted(self.fixed.items()) if not changes_no_result(k) and k != "pipeline"}
        return (
            Path("outputs/sweeps")
            / ("several" if "pipeline" in self.swept else pipeline)
            / safe_name({**self.swept, **fixed})
        )


def make_plan(params: Mapping[str, Any], arguments: Sequence[str], config_loader: Any) -> Plan:
    """Parse overrides as Hydra's basic sweeper does, and spans.

    Args:
        params: ``hydra.sweeper.params``; an argument of the same key wins.
        arguments: overrides as typed.
        config_loader: Hydra's, for ``glob()``.

    Raises:
        SegError: a wrong span, a sweep without single values (``interval()``), or too many jobs.
    """
    texts = [f"{key}={expand_value(str(value), key)}" for key, value in params.items()] + list(arguments)
    swept: dict[str, list[str]] = {}
    fixed: dict[str, str] = {}
    for override in OverridesParser.create(config_loader=config_loader).parse_overrides(texts):
        key = str(override.get_key_element())
        swept.pop(key, None)
        fixed.pop(key, None)
        if not override.is_sweep_override():
            fixed[key] = str(override.get_value_element_as_str())
            continue
        values = _choices(override)
        if len(values) == 1:
            fixed[key] = values[0]
        else:
            swept[key] = values
    count = math.prod(map(len, swept.values()))
    if count > MOST_JOBS:
        sizes = " x ".join(f"{len(values)} of {key}" for key, values in swept.items())
        raise SegError(
            f"a sweep of {count} jobs ({sizes}): more than {MOST_JOBS}; take fewer values, or several sweeps"
        )
    order = sorted(swept, key=lambda k: (k != "epoch", k != "threshold", k))
    return Plan({k: swept[k] for k in order}, fixed)


def _choices(override: Any) -> list[str]:
    """The values of a sweep that Hydra has parsed, each once."""
    if not override.is_discrete_sweep():
        raise SegError(f"{override.input_line}: has no single values; give choices, range() or a span")
    values = [str(v) for v in itertools.islice(override.sweep_string_iterator(), MOST_JOBS + 1)]
    if len(values) > MOST_JOBS:
        raise SegError(f"{override.input_line}: more than {MOST_JOBS} values; give a larger step")
    if override.is_range_sweep():
        # Binary fractions add up to 0.30000000000000004.
        values = [f"{float(v):.12g}" if re.fullmatch(r"-?\d*\.\d{12,}", v) else v for v in values]
    return list(dict.fromkeys(values))


def safe_name(values: Mapping[str, Sequence[str]]) -> str:
    """``key=values,...`` as a folder's name, with the last part of paths; with a hash if something is left out."""
    exact = ",".join(f"{key}={collapse([*texts])}" for key, texts in values.items())
    ends = {key: [text.rstrip("/").rpartition("/")[2] for text in texts] for key, texts in values.items()}
    name = ",".join(f"{key}={collapse(texts)}" for key, texts in ends.items())
    name = re.sub(r"[^\w.,=+-]", "-", name)
    if name == exact and len(name) <= MOST_CHARACTERS and name:
        return name
    return f"{name[:MOST_CHARACTERS].rstrip('-,')}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
