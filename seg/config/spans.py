"""Spans of numbers on the command line: ``epoch=1..20`` and ``threshold=0.1..0.9:0.05``.

Hydra's ``range()`` counts in binary floating point (0.30000000000000004), and a shell wants it quoted. A span is
expanded in decimal arithmetic before Hydra reads the arguments, to Hydra's own list of choices: ``epoch=1,2,3``.
"""

import re
from decimal import Decimal

from seg.errors import SegError

#: Limit for the values of a span and the jobs of a sweep: with more, a step was probably forgotten.
MOST_JOBS = 10_000

_NUMBER = r"[+-]?(?:\d{1,12}(?:\.\d{1,12})?|\.\d{1,12})(?:[eE][+-]?\d{1,2})?"
_SPAN = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(.*))?")
_KEY = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@-]*")


def expand_arguments(arguments: list[str]) -> list[str]:
    """Expand the spans among command-line arguments: ``epoch=1..3`` becomes ``epoch=1,2,3``.

    Args:
        arguments: as typed. Only a ``key=value`` whose value is a span, or a list of choices with one among them
            (``epoch=1..5,10``), is changed; quotes, brackets and calls protect what is in them.

    Raises:
        SegError: for a span that descends, has no positive step or too many values.
    """
    out = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        is_ours = equals and _KEY.fullmatch(key) and not key.lstrip("+~").startswith("hydra.")
        out.append(f"{key}={expand_value(value, key)}" if is_ours else argument)
    return out


def has_span(value: str) -> bool:
    """Whether ``value`` is a span, or a list of choices with one among them."""
    return not re.search(r"[\[\](){}'\"$]", value) and any(_SPAN.fullmatch(v.strip()) for v in value.split(","))


def expand_value(value: str, key: str = "span") -> str:
    """Expand the spans in one value (``0.1..0.9``, ``1..9:2``, ``1..5,10``); any other value is returned as it is.

    Args:
        value: to expand. key: for the error.

    Raises:
        SegError: as :func:`expand_arguments`.
    """
    if not has_span(value):
        return value
    choices: list[str] = []
    for part in value.split(","):
        found = _SPAN.fullmatch(part.strip())
        choices += _numbers(key, *found.groups()) if found else [part]
    return ",".join(dict.fromkeys(choices))


def _numbers(key: str, first: str, last: str, step: str | None) -> list[str]:
    """From ``first`` to at most ``last``; without a step in units of the last digit written: ``0.1..0.9`` by 0.1."""
    text = f"{key}={first}..{last}" + (f":{step}" if step is not None else "")
    if step is not None and not re.fullmatch(_NUMBER, step):
        raise SegError(f"{text}: the step {step!r} is no number; write {first}..{last}:STEP")
    low, high = Decimal(first), Decimal(last)
    by = Decimal(step) if step is not None else Decimal(1).scaleb(min(_exponent(low), _exponent(high)))
    if by <= 0:
        raise SegError(f"{text}: the step must be greater than 0")
    if low > high:
        raise SegError(f"{text}: descends, so it is empty; write {last}..{first}")
    if (count := (high - low) / by + 1) > MOST_JOBS:
        raise SegError(f"{text}: more than {MOST_JOBS} values; give a larger step: {first}..{last}:STEP")
    values = [f"{low + i * by:f}" for i in range(int(count))]
    if all(_exponent(x) == 0 for x in (low, high, by)):
        return values
    pairs = [value.partition(".")[::2] for value in values]
    return [f"{left}.{right.rstrip('0') or '0'}" for left, right in pairs]


def _exponent(number: Decimal) -> int:
    return min(int(number.as_tuple().exponent), 0)


def collapse(values: list[str]) -> str:
    """The shortest text that names ``values``: a span where they are one, else joined by ``+``.

    Example:
        >>> collapse(["0.1", "0.2", "0.3"]), collapse(["cam", "bbox"])
        ('0.1..0.3', 'cam+bbox')
    """
    if len(values) > 1 and all(re.fullmatch(_NUMBER, v) for v in values):
        by = Decimal(values[1]) - Decimal(values[0])
        steps = ("", f":{by.normalize():f}") if len(values) > 2 else ("",)
        for text in (f"{values[0]}..{values[-1]}{step}" for step in steps):
            try:
                if expand_value(text) == ",".join(values):
                    return text
            except SegError:  # descending, or without its step of too many values
                continue
    return "+".join(values)
