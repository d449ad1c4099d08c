"""Declared parameters: converted to their types, checked against bounds, and as JSON for a key."""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, dataclass_transform

from seg.errors import SegError
from seg.files import file_sha256

#: The largest seed: with the epoch it must fit into PyTorch's 64 bits.
MOST_SEED = 2**32 - 1


def param(
    default: Any = dataclasses.MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    key: bool = True,
    content: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Declare a parameter.

    Args:
        default: its default; without one the parameter is required.
        low, high: inclusive bounds, checked for every number in the value.
        above, below: exclusive bounds.
        key: False for what does not change the product, such as the number of epochs of a resumable training.
        content: a function of the stage and a value other than None, whose result enters the key instead of the value;
            for files :func:`content_of_file`.
    """
    metadata = {"low": low, "high": high, "above": above, "below": below, "key": key, "content": content}
    return dataclasses.field(default=default, metadata=metadata)


def content_of_file(stage: Any, value: str) -> str:
    """A file's checksum, which enters the key instead of its path. Raises SegError if there is no such file."""
    path = Path(value)
    if not path.is_file():
        raise SegError(f"{type(stage).__name__}: {path}: no such file")
    return f"sha256:{file_sha256(path)}"


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(param, dataclasses.field))
class Parameters:
    """Declared parameters with bounds: a subclass is made a frozen, keyword-only dataclass on definition.

    Raises:
        SegError: on creation, for all invalid values together.

    Attributes:
        called: its name in error messages; None for the class's name.
        has_key: whether it has its own key, as a stage has.
    """

    called: ClassVar[str | None] = None
    has_key: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)

    def __post_init__(self) -> None:
        problems, name = [], self.called or type(self).__name__
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            try:
                value = coerce(getattr(self, f.name), _hints(type(self))[f.name])  # type: ignore[arg-type]
                _check_bounds(value, f.metadata)
            except ValueError as error:
                problems.append(f"{name}.{f.name}={getattr(self, f.name)!r}: {error}")
            else:
                object.__setattr__(self, f.name, value)
        if problems:
            raise SegError("; ".join(problems))
        self.validate()

    def validate(self) -> None:
        """Refuse meaningless combinations of parameters. Must be cheap and read no file."""

    def params(self) -> dict[str, Any]:
        """The parameters that enter a key, by field name, as JSON values; stages among them are left out.

        Raises:
            SegError: a file that a parameter names is missing.
        """
        out: dict[str, Any] = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if not f.metadata.get("key", True) or getattr(value, "has_key", False):
                continue
            if isinstance(value, Parameters):
                value = {"class": type(value).__name__, **value.params()}
            elif value is not None and (content := f.metadata.get("content")):
                value = content(self, value)
            out[f.name] = value
        return out

    def code_classes(self) -> list[type["Parameters"]]:
        """The class, and the classes of the Parameters among its fields, except stages."""
        parts = [x for x in vars(self).values() if isinstance(x, Parameters) and not x.has_key]
        return [type(self), *(cls for part in parts for cls in part.code_classes())]


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _check_bounds(value: Any, metadata: Mapping[str, Any]) -> None:
    low, high, above, below = (metadata.get(name) for name in ("low", "high", "above", "below"))
    for x in value if isinstance(value, tuple) else (value,):
        if isinstance(x, bool) or not isinstance(x, int | float):
            continue
        if not (-(2**63) <= x < 2**63 if isinstance(x, int) else math.isfinite(x)):
            raise ValueError("must fit into 64 bits and be finite")
        inside_left = (low is None or x >= low) and (above is None or x > above)
        inside_right = (high is None or x <= high) and (below is None or x < below)
        if not (inside_left and inside_right):
            left = f"[{low:g}" if low is not None else f"({above:g}" if above is not None else "(-inf"
            right = f"{high:g}]" if high is not None else f"{below:g})" if below is not None else "inf)"
            raise ValueError(f"must lie in {left}, {right}")


def coerce(value: Any, hint: Any) -> Any:
    """Convert a config value to its declared type, so that ``4`` and ``4.0`` give one key; lists become tuples.

    Args:
        value: from YAML or the command line.
        hint: ``int``, ``float``, ``str``, ``bool``, ``Any``, ``Literal``, ``tuple[X, ...]``, a class, or a union.

    Raises:
        ValueError: it does not fit; the message says what is expected.
    """
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        messages = []
        for option in options:
            try:
                return coerce(value, option)
            except ValueError as error:
                messages.append("null" if option is type(None) else str(error))
        raise ValueError(" or ".join(messages))
    if origin is Literal:
        for choice in options:
            if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                return choice
        raise ValueError("must be one of " + ", ".join(map(str, options)))
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list, like [{value}]")
        return tuple(coerce(v, options[0]) for v in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if hint is float:
            return float(value) if abs(value) < 2**1023 or isinstance(value, float) else math.inf
        if hint is int and value % 1 == 0:
            return int(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    name = "int, a whole number" if hint is int else getattr(hint, "__name__", hint)
    raise ValueError(f"must be of type {name}")
