"""Spans of numbers on the command line: ``epoch=1..20`` and ``threshold=0.1..0.9:0.05``.

Hydra has ``range()``, which counts in binary floating point (0.30000000000000004) and which a shell wants
quoted. A span is expanded in decimal arithmetic before Hydra reads the arguments, to Hydra's own list of
choices: ``epoch=1,2,3``.
"""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, localcontext

from seg.errors import SegError

#: More jobs than anybody means to run: most likely a step was forgotten. ``hydra.sweeper.max_jobs=`` is another limit.
MOST_JOBS = 10_000

_LIMIT = "hydra.sweeper.max_jobs"

#: Digits of a number of a span, before and behind its point: sums of such numbers are exact.
_MOST_DIGITS = 100

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_SPAN = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(.*))?")
_KEY = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@-]*")


def most_jobs(arguments: Sequence[str]) -> int:
    """How many jobs a sweep may have: what ``hydra.sweeper.max_jobs=`` says, else :data:`MOST_JOBS`.

    Raises:
        SegError: that is no number from 1 on.
    """
    given = [a.partition("=")[2].strip("'\"") for a in arguments if a.lstrip("+").startswith(f"{_LIMIT}=")]
    if not given:
        return MOST_JOBS
    if not re.fullmatch(r"\d{1,18}", given[-1]) or int(given[-1]) < 1:
        raise SegError(f"{_LIMIT}={given[-1]}: must be a whole number, at least 1")
    return int(given[-1])


def refuse_too_many(counts: Mapping[str, int], most: int) -> None:
    """Refuse a sweep over so many values, by what is swept, if it has more than ``most`` jobs."""
    jobs = math.prod(counts.values())
    if jobs > most:
        swept = " x ".join(f"{count} of {key}" for key, count in counts.items() if count > 1)
        raise SegError(
            f"a sweep of {jobs} jobs ({swept}), more than {_LIMIT}={most} allows; take fewer values (a larger step: "
            f"0.1..0.9:0.2), or raise it: {_LIMIT}={jobs}"
        )


def expand_arguments(arguments: list[str]) -> list[str]:
    """Expand the spans among command-line arguments.

    Args:
        arguments: as typed. Only a ``key=value`` whose value is a span, or a list of choices with a span
            among them (``epoch=1..5,10``), is touched; quotes, brackets and calls shield what is in them.

    Returns:
        The arguments, spans as choices: ``epoch=1..3`` becomes ``epoch=1,2,3``.

    Raises:
        SegError: for a span that descends, or whose step is no positive number; for more jobs than
            ``hydra.sweeper.max_jobs`` allows, before any of them is made.
    """
    most = most_jobs(arguments)
    found: dict[int, tuple[str, str]] = {}
    for i, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        # Hydra's own settings are no numbers of ours; what its sweeper sweeps is in a config, not here.
        if equals and _KEY.fullmatch(key) and not key.lstrip("+~").startswith("hydra.") and has_span(value):
            found[i] = key, value
    refuse_too_many({key: _count(value, key, most) for key, value in found.values()}, most)
    out = list(arguments)
    for i, (key, value) in found.items():
        out[i] = f"{key}={expand_value(value, key, most)}"
    return out


def has_span(value: str) -> bool:
    """Whether ``value`` is a span, or a list of choices with one among them."""
    return not re.search(r"[\[\](){}'\"$]", value) and any(_SPAN.fullmatch(v.strip()) for v in value.split(","))


def _count(value: str, key: str, most: int) -> int:
    """How many values there are, counted without making them; those that overlap count twice."""
    total = 0
    for part in value.split(","):
        if found := _SPAN.fullmatch(part.strip()):
            first, last, step = found.groups()
            total += _Span(first, last, step, key, most).count
        else:
            total += 1
    return total


def expand_value(value: str, key: str = "span", most: int = MOST_JOBS) -> str:
    """Expand the spans in one value; anything else is returned as it is.

    Args:
        value: such as ``0.1..0.9``, ``1..9:2``, ``1..5,10``, ``../data``.
        key: for the error. most: values that a span may have.

    Raises:
        SegError: as :func:`expand_arguments`.
    """
    if not has_span(value):
        return value
    choices: list[str] = []
    for part in value.split(","):
        if found := _SPAN.fullmatch(part.strip()):
            first, last, step = found.groups()
            choices += span(first, last, step, key, most)
        else:
            choices.append(part)
    # Overlapping spans name a value twice; it is one job.
    return ",".join(dict.fromkeys(choices))


def span(first: str, last: str, step: str | None = None, key: str = "span", most: int = MOST_JOBS) -> list[str]:
    """The numbers from ``first`` to at most ``last``, both written as typed.

    Without a step they count in units of the last digit written: ``0.1..0.9`` by 0.1, ``0.10..0.30`` by
    0.01, ``1..20`` by 1.

    Returns:
        Exact decimals without trailing zeros; with a point if any of the three was typed with a fraction.

    Raises:
        SegError: as :func:`expand_arguments`.
    """
    return _Span(first, last, step, key, most).values()


class _Span:
    """A span that has been looked at; its values are not made yet."""

    def __init__(self, first: str, last: str, step: str | None, key: str, most: int) -> None:
        text = f"{key}={first}..{last}" + (f":{step}" if step is not None else "")
        text = text if len(text) <= 200 else f"{text[:200]}..."
        if step is not None and not re.fullmatch(_NUMBER, step):
            raise SegError(f"{text}: the step '{step[:50]}' is no number; write {first}..{last}:STEP")
        for number in (first, last, step):
            if number is not None and not _is_short(number):
                raise SegError(f"{text}: a number of more than {_MOST_DIGITS} digits; write a shorter one")
        self.low, high = Decimal(first), Decimal(last)
        digits = min(_exponent(self.low), _exponent(high))
        self.by = Decimal(step) if step is not None else Decimal(1).scaleb(digits)
        if self.by <= 0:
            raise SegError(f"{text}: the step must be greater than 0")
        if self.low > high:
            raise SegError(f"{text}: descends, so it is empty; write {last}..{first}")
        self.whole = all(_exponent(x) >= 0 for x in (self.low, high, self.by))
        with localcontext() as context:
            context.prec = 3 * _MOST_DIGITS  # the default of 28 would round what somebody may type
            self.count = int((high - self.low) / self.by) + 1
        if self.count > most:
            raise SegError(
                f"{text}: more than {most} values; give a larger step: {first}..{last}:STEP, or raise the limit: "
                f"{_LIMIT}={self.count}"
            )

    def values(self) -> list[str]:
        with localcontext() as context:
            context.prec = 3 * _MOST_DIGITS
            return [_written(self.low + i * self.by, self.whole) for i in range(self.count)]


def _is_short(number: str) -> bool:
    """Whether a text that ``_NUMBER`` lets through can be reckoned with exactly, in no time and memory."""
    mantissa, _, power = number.lower().partition("e")
    power = power.lstrip("+-0")
    return len(mantissa) <= _MOST_DIGITS and len(power) < 3


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)  # a text that the pattern lets through is finite
    return min(exponent, 0)


def _written(number: Decimal, whole: bool) -> str:
    text = f"{number:f}"
    if whole:
        return text
    left, _, right = text.partition(".")
    return f"{left}.{right.rstrip('0') or '0'}"


def collapse(values: list[str]) -> str:
    """The shortest text that names ``values``: a span where they are one, else joined by ``+``.

    Example:
        >>> collapse(["0.1", "0.2", "0.3"]), collapse(["cam", "bbox"])
        ('0.1..0.3', 'cam+bbox')
    """
    if len(values) > 1 and all(re.fullmatch(_NUMBER, v) and _is_short(v) for v in values):
        by = Decimal(values[1]) - Decimal(values[0])
        steps = ("", f":{by.normalize():f}") if len(values) > 2 else ("",)
        for text in (f"{values[0]}..{values[-1]}{step}" for step in steps):
            if by > 0 and abs(Decimal(values[-1]) - Decimal(values[0])) / by < 2 * len(values):
                with suppress(SegError):  # without its step it may be of far too many: 1e-4..1e30
                    if expand_value(text, most=2 * len(values)) == ",".join(values):
                        return text
    return "+".join(values)
