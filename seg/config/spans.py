"""Spans of numbers on the command line: ``epoch=1..20`` and ``threshold=0.1..0.9:0.05``.

Hydra has ``range()``, which counts in binary floating point (0.30000000000000004) and which a shell wants
quoted. A span is expanded in decimal arithmetic before Hydra reads the arguments, to Hydra's own list of
choices: ``epoch=1,2,3``.
"""

import re
from decimal import Decimal, localcontext

from seg.errors import SegError

#: More values than anybody means to sweep over: most likely a step was forgotten.
MOST_VALUES = 10_000

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_SPAN = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(.*))?")
_KEY = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@-]*")


def expand_arguments(arguments: list[str]) -> list[str]:
    """Expand the spans among command-line arguments.

    Args:
        arguments: as typed. Only a ``key=value`` whose value is a span, or a list of choices with a span
            among them (``epoch=1..5,10``), is touched; quotes, brackets and calls shield what is in them.

    Returns:
        The arguments, spans as choices: ``epoch=1..3`` becomes ``epoch=1,2,3``.

    Raises:
        SegError: for a span that descends, whose step is no positive number, or that is far too long.
    """
    out = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        # Hydra's own settings are no numbers of ours; what its sweeper sweeps is in a config, not here.
        if equals and _KEY.fullmatch(key) and not key.lstrip("+~").startswith("hydra."):
            value = expand_value(value, key)
        out.append(f"{key}{equals}{value}")
    return out


def has_span(value: str) -> bool:
    """Whether ``value`` is a span, or a list of choices with one among them."""
    return not re.search(r"[\[\](){}'\"$]", value) and any(_SPAN.fullmatch(v.strip()) for v in value.split(","))


def expand_value(value: str, key: str = "span") -> str:
    """Expand the spans in one value; anything else is returned as it is.

    Args:
        value: such as ``0.1..0.9``, ``1..9:2``, ``1..5,10``, ``../data``.
        key: for the error.

    Raises:
        SegError: as :func:`expand_arguments`.
    """
    if not has_span(value):
        return value
    choices: list[str] = []
    for part in value.split(","):
        if found := _SPAN.fullmatch(part.strip()):
            first, last, step = found.groups()
            choices += span(first, last, step, key)
        else:
            choices.append(part)
    # Overlapping spans name a value twice; it is one job.
    return ",".join(dict.fromkeys(choices))


def span(first: str, last: str, step: str | None = None, key: str = "span") -> list[str]:
    """The numbers from ``first`` to at most ``last``, both written as typed.

    Without a step they count in units of the last digit written: ``0.1..0.9`` by 0.1, ``0.10..0.30`` by
    0.01, ``1..20`` by 1.

    Returns:
        Exact decimals without trailing zeros; with a point if any of the three was typed with a fraction.

    Raises:
        SegError: as :func:`expand_arguments`.
    """
    text = f"{key}={first}..{last}" + (f":{step}" if step is not None else "")
    low, high = Decimal(first), Decimal(last)
    if step is not None and not re.fullmatch(_NUMBER, step):
        raise SegError(f"{text}: the step '{step}' is no number; write {first}..{last}:STEP")
    digits = min(_exponent(low), _exponent(high))
    by = Decimal(step) if step is not None else Decimal(1).scaleb(digits)
    if by <= 0:
        raise SegError(f"{text}: the step must be greater than 0")
    if low > high:
        raise SegError(f"{text}: descends, so it is empty; write {last}..{first}")
    whole = all(_exponent(x) >= 0 for x in (low, high, by))
    with localcontext() as context:
        context.prec = 100  # digits; the default of 28 would round what somebody may type
        steps = (high - low) / by
        if steps >= MOST_VALUES:
            raise SegError(f"{text}: more than {MOST_VALUES} values; give a larger step: {first}..{last}:STEP")
        return [_written(low + i * by, whole) for i in range(int(steps) + 1)]


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
    if len(values) > 1 and all(re.fullmatch(_NUMBER, v) for v in values):
        by = Decimal(values[1]) - Decimal(values[0])
        steps = ("", f":{by.normalize():f}") if len(values) > 2 else ("",)
        for text in (f"{values[0]}..{values[-1]}{step}" for step in steps):
            if by > 0 and abs(Decimal(values[-1]) - Decimal(values[0])) / by < MOST_VALUES:
                found = _SPAN.fullmatch(text)
                if found and span(*found.groups()) == values:
                    return text
    return "+".join(values)
