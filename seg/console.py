"""Standard output that may be a pipe whose reader has gone: ``python -m seg.run --help | head -1``."""

import os
import select
import signal
import sys
from contextlib import suppress
from typing import Any

#: What a shell reports of a program that SIGPIPE has ended.
STATUS = 141


def handle_broken_pipe() -> None:
    """End the program quietly when nobody reads its output any more; called once, at the start of a program.

    Not by the signal's own action: that would also end a program one of whose sockets was closed from the other side.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            # A file's name need not be text; a line about it must not end in an error of its own.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, _end_without_reader)


def _end_without_reader(*_: Any) -> None:
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        os._exit(STATUS)


def flush() -> None:
    """Write out what is buffered, while a closed pipe can still be met quietly."""
    with suppress(BrokenPipeError):
        sys.stdout.flush()
