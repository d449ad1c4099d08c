"""Declared parameters: brought to their types, held to their bounds, and told as JSON for a key."""

import dataclasses
import math
import operator
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, dataclass_transform

from seg.errors import SegError
from seg.files import file_sha256


def param(
    default: Any = dataclasses.MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    key: bool = True,
    switch: bool = False,
    content: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Declare a parameter.

    Args:
        default: its default; without one the parameter is required.
        low, high: inclusive bounds, checked for every number in the value.
        above, below: exclusive bounds.
        key: False for what must not change the product, such as how much of a stream is wanted.
        switch: at its default it is off: it changes nothing then, and is in no key, as before there was such a choice.
        content: what enters the key for a value that names something: called with the stage and the value (never
            None). :func:`content_of_file` is for files.
    """
    metadata = {"low": low, "high": high, "above": above, "below": below, "key": key, "content": content}
    return dataclasses.field(default=default, metadata=metadata | {"switch": switch})


def content_of_file(stage: Any, value: str) -> str:
    """What stands in a key for a file: its bytes, wherever it lies.

    Raises:
        SegError: there is no such file.
    """
    path = Path(value)
    if not path.is_file():
        raise SegError(f"{type(stage).__name__}: {path}: no such file")
    return f"sha256:{file_sha256(path)}"


#: The largest seed: with the epoch it has to fit in PyTorch's 64 bits.
MOST_SEED = 2**32 - 1

#: Where each class was defined, by its name, which is part of keys.
_defined: dict[str, str] = {}


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(param, dataclasses.field))
class Parameters:
    """Declared parameters with bounds: a subclass is made a frozen, keyword-only dataclass on definition.

    Raises:
        SegError: when one is made, naming every value that does not fit; when a second class of one name is defined
            elsewhere, for their products would share keys.

    Attributes:
        called: what a refusal calls it; None for the class's name.
        has_key: whether it is told apart by a key of its own, as a stage is.
    """

    called: ClassVar[str | None] = None
    has_key: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        place = f"{cls.__module__}.{cls.__qualname__}"
        first = _defined.setdefault(cls.__name__, place)
        if first != place:
            raise SegError(f"{place}: {first} has this name too, and their products would be mixed; rename one")
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
        """Refuse combinations of parameters that make no sense. Must be cheap and touch no file."""

    def params(self) -> dict[str, Any]:
        """The parameters that enter a key, by field name, as JSON values; stages among them are left out.

        Raises:
            SegError: a file that a parameter names is not there.
        """
        out: dict[str, Any] = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if not f.metadata.get("key", True) or (f.metadata.get("switch") and value == f.default):
                continue
            if isinstance(value, Parameters):
                if value.has_key:
                    continue
                value = {"class": type(value).__name__, **value.params()}
            elif value is not None and (content := f.metadata.get("content")):
                value = content(self, value)
            out[f.name] = value
        return out


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


#: What holds between a number and a bound of it.
_HOLDS = {"low": operator.ge, "high": operator.le, "above": operator.gt, "below": operator.lt}


def _check_bounds(value: Any, metadata: Mapping[str, Any]) -> None:
    bounds = {name: metadata[name] for name in _HOLDS if metadata.get(name) is not None}
    for x in value if isinstance(value, tuple) else (value,):
        if isinstance(x, bool) or not isinstance(x, int | float):
            continue
        if isinstance(x, float) and not math.isfinite(x):
            raise ValueError("must be finite")
        if isinstance(x, int) and not -(2**63) <= x < 2**63 and not bounds.keys() & {"high", "below"}:
            raise ValueError("must fit into 64 bits")
        if not all(_HOLDS[name](x, bound) for name, bound in bounds.items()):
            low, high, above, below = map(bounds.get, ("low", "high", "above", "below"))
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
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        messages = []
        for option in options:
            try:
                return coerce(value, option)
            except ValueError as error:
                messages.append("null" if option is type(None) else str(error))
        raise ValueError(" or ".join(messages))
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
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError("must be finite") from error
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and value == int(value):
            return int(value)
        raise ValueError("must be a whole number")
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ValueError(f"must be of type {name}")
