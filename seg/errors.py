"""Errors that are meant for the user, and how the command line shows them."""

import difflib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class SegError(Exception):
    """Bad input or a bad environment: one line of what, where, and how to fix it, shown without a traceback."""

    def __str__(self) -> str:
        """The message without control characters, which names and contents of files may have."""
        return super().__str__().translate(_CONTROL)


#: Control characters but tabs and line breaks, and what is shown in their place.
_CONTROL = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\ufffd")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 300 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """The known names most similar to ``name``, as the end of a message; empty if none is similar."""
    near = difflib.get_close_matches(name, list(known), most)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def run_checks(checks: Iterable[Callable[[], Any]]) -> None:
    """Run every check, and raise the messages of all that failed as one SegError."""
    problems: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except SegError as error:
            problems[str(error)] = None
    if problems:
        raise SegError("; ".join(problems))


@contextmanager
def entrypoint() -> Iterator[None]:
    """Around a ``main``: a SegError is one line and exit status 2, Ctrl-C 130, and a closed pipe (``| head``) 141.

    A log line that cannot be written, because of a closed pipe or a full disk, is dropped.
    """
    logging.raiseExceptions = False
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            # A file's name may be no valid text, and is printed all the same.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os._exit(141)  # as after SIGPIPE; a normal exit would flush again
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; what was built is kept", file=sys.stderr)
        logging.getLogger("torch").setLevel(logging.CRITICAL)  # it logs statistics at exit
        sys.exit(130)
