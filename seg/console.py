"""Standard output that may be a pipe whose reader has gone: ``python -m seg.run --help | head -1``."""

import os
import stat
import sys
from contextlib import suppress
from typing import Any

#: What a shell reports of a program that SIGPIPE has ended.
STATUS = 141


class Pipe:
    """A stream to a pipe. When nobody reads it any more, the program ends without a word, as others do.

    By SystemExit, which neither Hydra nor logging takes for an error to print a traceback of. (Not by the signal's own
    action: it would also end a program one of whose sockets was closed from the other side.)
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """The rest is the stream's."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As of a text stream."""
        try:
            return int(self._stream.write(text))
        except BrokenPipeError:
            self._end()
            raise

    def flush(self) -> None:
        """As of a text stream."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._end()
            raise

    def _end(self) -> None:
        # What is still in the buffer has to go somewhere at the interpreter's end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):
            os.dup2(nowhere, self._stream.fileno())
        sys.exit(STATUS)


def handle_broken_pipe() -> None:
    """Let the standard streams be :class:`Pipe` where they are pipes; called once, at the start of a program."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with suppress(OSError, ValueError, AttributeError):
            # A file's name need not be text; a line about it must not end in an error of its own.
            stream.reconfigure(errors="backslashreplace")
            if not isinstance(stream, Pipe) and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
                setattr(sys, name, Pipe(stream))


def flush() -> None:
    """Write out what is buffered, while a closed pipe can still be met quietly."""
    if isinstance(sys.stdout, Pipe):
        sys.stdout.flush()
