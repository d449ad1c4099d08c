"""The one exception a user is meant to read."""

import difflib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names, as the end of a message; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


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
    """Around a ``main``: end at Ctrl-C with a line and exit status 130, where a pipe is closed (``| head``) with 141.

    A line of the log that cannot be written, to a closed pipe or a full disk, ends nothing.
    """
    logging.raiseExceptions = False
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            # A file's name need not be text; a line about it must not end in an error of its own.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os._exit(141)  # as of a program that SIGPIPE has ended; at its end Python would flush once more
    except KeyboardInterrupt:
        print("\ninterrupted; what was built is kept", file=sys.stderr)
        logging.getLogger("torch").setLevel(logging.CRITICAL)  # it has statistics to tell at the end
        sys.exit(130)
