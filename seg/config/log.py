"""The log of a run, in its folder."""

import logging
import sys


class RunLog(logging.FileHandler):
    """A file whose trouble (a full disk) ends the run in a line, instead of a traceback for every line of the log."""

    broken = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless one could not be written before."""
        if not self.broken:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Called where a line could not be written: tell of the file.

        Raises:
            OSError: with its name.
        """
        error = sys.exception()
        if isinstance(error, OSError):
            self.broken = True
            raise OSError(error.errno, error.strerror, self.baseFilename) from error
        super().handleError(record)
