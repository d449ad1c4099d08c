"""The one exception a user is meant to read."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class SegError(Exception):
    """Bad input or a bad environment: one line that says what, where, and how to mend it.

    The entrypoint prints the message without a traceback and exits with status 1.
    """

    def __str__(self) -> str:
        """The message, without what would steer a terminal: names of files and what files say are in it."""
        return super().__str__().translate(_STEERS)


#: Control characters but tabs and line breaks, as what is shown in their place.
_STEERS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\ufffd")


def first_line(error: BaseException) -> str:
    """What an error of some library says, in one line of at most 300 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def run_checks(checks: Iterable[Callable[[], Any]]) -> None:
    """Make every check, and raise all that they refuse as one SegError."""
    problems: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except SegError as error:
            problems[str(error)] = None
    if problems:
        raise SegError("; ".join(problems))


@contextmanager
def interruptible() -> Iterator[None]:
    """End the program at Ctrl-C with a line and exit status 130, instead of a traceback; around a ``main``."""
    try:
        yield
    except KeyboardInterrupt:
        print("\ninterrupted; what was built is kept", file=sys.stderr)
        logging.getLogger("torch").setLevel(logging.CRITICAL)  # it has statistics to tell at the end
        sys.exit(130)
