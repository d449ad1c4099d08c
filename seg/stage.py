"""A stage: a frozen dataclass whose fields are its parameters and the stages it needs.

The tree of stages that Hydra instantiates from the config is the dependency graph, and the hash of a
stage's class, version, parameters and upstream keys is the name under which its product is stored.
"""

import dataclasses
import hashlib
import json
import logging
import math
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Union, dataclass_transform

from seg.errors import SegError

if TYPE_CHECKING:
    from seg.store import Store


def param(
    default: Any = dataclasses.MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    key: bool = True,
    file: bool = False,
) -> Any:
    """Declare a stage's parameter.

    Args:
        default: its default; without one the parameter is required.
        low, high: inclusive bounds, checked for every number in the value.
        above, below: exclusive bounds.
        key: False for what must not change the product, such as how much of a stream is wanted.
        file: True when a text value may name a file, which then enters the key by its content.
    """
    metadata = {"low": low, "high": high, "above": above, "below": below, "key": key, "file": file}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(param, dataclasses.field))
class Stage:
    """Base of all stages. A subclass is made a frozen, keyword-only dataclass on definition.

    Subclasses implement :meth:`load`, and :meth:`build` unless ``stored`` is False. A product must be a
    function of the parameters and of the upstream products alone: devices, workers, paths and progress
    belong to :class:`seg.runtime.Runtime`.

    Attributes:
        version: bump by hand when the code changes what is produced.
        stored: False for products that are cheaper to make than to read; they are made on the fly.
        in_place: True for a product that grows in its final folder (training), else a build is atomic.
        what: a few words for tables and plans.
        log_level: of the lines that tell of a build; the small stages are not worth a line.
    """

    version: ClassVar[int] = 1
    stored: ClassVar[bool] = True
    in_place: ClassVar[bool] = False
    what: ClassVar[str] = ""
    log_level: ClassVar[int] = logging.INFO

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)

    def __post_init__(self) -> None:
        problems = []
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            try:
                value = coerce(getattr(self, f.name), _hints(type(self))[f.name])  # type: ignore[arg-type]
                _check_bounds(value, f.metadata)
            except ValueError as error:
                problems.append(f"{type(self).__name__}.{f.name}={getattr(self, f.name)!r}: {error}")
            else:
                object.__setattr__(self, f.name, value)
        if problems:
            raise SegError("; ".join(problems))
        self.validate()

    # -- what a subclass says ------------------------------------------------------------------------

    def validate(self) -> None:
        """Refuse combinations of parameters that make no sense. Must be cheap and touch no file."""

    def check(self, store: "Store") -> None:
        """Refuse what is sure to fail later (a missing file, say), before any long work begins.

        Raises:
            SegError: with what is wrong, where, and how to mend it.
        """

    def build(self, out: Path, store: "Store") -> Mapping[str, Any] | None:
        """Write the product's files below ``out``; what is returned is kept as the manifest's notes."""
        raise TypeError(f"{type(self).__name__} has no build()")

    def load(self, path: Path, store: "Store") -> Any:
        """Return the product; cheap, memory-mapping what it can. ``path`` is unused if not ``stored``."""
        raise TypeError(f"{type(self).__name__} has no load()")

    def is_complete(self, folder: Path) -> bool:
        """Whether ``folder`` holds all that this stage asks for."""
        return (folder / "manifest.json").is_file()

    # -- identity --------------------------------------------------------------------------------------

    def upstream(self) -> dict[str, "Stage"]:
        """The stages this one needs, by field name."""
        return {f.name: v for f in dataclasses.fields(self) if isinstance(v := getattr(self, f.name), Stage)}  # type: ignore[arg-type]

    def params(self) -> dict[str, Any]:
        """The parameters that enter the key, by field name, as JSON values."""
        out: dict[str, Any] = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, Stage) or not f.metadata.get("key", True):
                continue
            if f.metadata.get("file") and isinstance(value, str) and Path(value).is_file():
                value = f"sha256:{file_sha256(Path(value))}"
            out[f.name] = value
        return out

    @cached_property
    def key(self) -> str:
        """16 hex digits that name the product: equal keys, equal products."""
        identity = {
            "stage": type(self).__name__,
            "version": self.version,
            "params": self.params(),
            "upstream": {name: stage.product for name, stage in self.upstream().items()},
        }
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def product(self) -> str:
        """What downstream stages depend on: the key, and for a training the epoch wanted of it."""
        return self.key

    def walk(self) -> Iterator["Stage"]:
        """Every stage of the tree once (by product), upstream first, this one last."""
        seen: set[str] = set()

        def visit(stage: "Stage") -> Iterator["Stage"]:
            for up in stage.upstream().values():
                yield from visit(up)
            if stage.product not in seen:
                seen.add(stage.product)
                yield stage

        return visit(self)

    @cached_property
    def is_oracle(self) -> bool:
        """Whether truth that a user would not have has entered upstream; tables mark it."""
        return any(stage.is_oracle for stage in self.upstream().values())


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _check_bounds(value: Any, metadata: Mapping[str, Any]) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    for x in numbers:
        if isinstance(x, bool) or not isinstance(x, int | float):
            continue
        low, high = metadata.get("low"), metadata.get("high")
        above, below = metadata.get("above"), metadata.get("below")
        if not math.isfinite(x):
            raise ValueError("must be finite")
        if (
            (low is not None and x < low)
            or (high is not None and x > high)
            or (above is not None and x <= above)
            or (below is not None and x >= below)
        ):
            left = f"[{low:g}" if low is not None else f"({above:g}" if above is not None else "(-inf"
            right = f"{high:g}]" if high is not None else f"{below:g})" if below is not None else "inf)"
            raise ValueError(f"must lie in {left}, {right}")


def coerce(value: Any, hint: Any) -> Any:
    """Bring a config value to its declared type, so that ``4`` and ``4.0`` make one key.

    Args:
        value: what the YAML or the command line gave.
        hint: ``int``, ``float``, ``str``, ``bool``, ``Literal``, ``tuple[X, ...]``, a class, or a union.

    Returns:
        The value in the declared type (lists become tuples).

    Raises:
        ValueError: when it does not fit, saying what was expected.
    """
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _coerce_union(value, typing.get_args(hint))
    if origin is Literal:
        allowed = typing.get_args(hint)
        for choice in allowed:
            # The choice itself, for 16.0 == 16; but no 1 for true.
            if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                return choice
        raise ValueError("must be one of " + ", ".join(map(str, allowed)))
    if origin is tuple:
        item = typing.get_args(hint)[0]
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise ValueError(f"must be a list, like [{value}]")
        return tuple(coerce(v, item) for v in value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and value == int(value):
            return int(value)
        raise ValueError("must be a whole number")
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ValueError(f"must be of type {name}")


def _coerce_union(value: Any, options: tuple[Any, ...]) -> Any:
    if value is None and type(None) in options:
        return None
    messages = []
    for option in options:
        if option is type(None):
            continue
        try:
            return coerce(value, option)
        except ValueError as error:
            messages.append(str(error))
    raise ValueError(" or ".join(messages) + (" or null" if type(None) in options else ""))


_sha_memo: dict[tuple[str, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as hex, remembered within the process by path, size and time."""
    stat = path.stat()
    memo = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if memo not in _sha_memo:
        with path.open("rb") as file:
            _sha_memo[memo] = hashlib.file_digest(file, "sha256").hexdigest()
    return _sha_memo[memo]
