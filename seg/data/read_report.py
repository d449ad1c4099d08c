"""Warnings and problems found while a data set is read: warnings are counted, problems are raised together."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from seg.errors import SegError

_logger = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 5
_SHOWN_EXAMPLES = 3


@dataclass
class ReadReport:
    """Warnings and problems of a data set.

    Attributes:
        warnings: count by message.
        examples: up to three names for each message.
        problems: a line each; any of them is an error.
    """

    warnings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def warn(self, message: str, names: Iterable[str]) -> None:
        """Count the names under a message; without names there is no warning."""
        names = list(names)
        if names:
            self.warnings[message] += len(names)
            self.examples[message] = (*self.examples.get(message, ()), *names)[:_SHOWN_EXAMPLES]

    def add(self, other: "ReadReport") -> None:
        """Add the warnings and problems of another report."""
        self.warnings += other.warnings
        for message, names in other.examples.items():
            self.examples[message] = (*self.examples.get(message, ()), *names)[:_SHOWN_EXAMPLES]
        self.problems += other.problems

    @contextmanager
    def collecting(self, where: str) -> Iterator[None]:
        """Add a SegError that is raised in the block to the problems, prefixed with ``where``."""
        try:
            yield
        except SegError as error:
            self.problems.append(str(error) if str(error).startswith(where) else f"{where}: {error}")

    @property
    def why(self) -> str:
        """The warnings as the end of an error's line."""
        return "".join(f"; {message}: {count}" for message, count in self.warnings.items())

    def lines(self) -> list[str]:
        """A line for each warning."""
        out = []
        for message, count in self.warnings.items():
            names = ", ".join(self.examples.get(message, ()))
            more = ", ..." if count > _SHOWN_EXAMPLES else ""
            out.append(f"data: {message}: {count}" + (f" ({names}{more})" if names else ""))
        return out

    def log(self, level: int) -> None:
        """Log a line for each warning."""
        for line in self.lines():
            _logger.log(level, "%s", line)

    def raise_problems(self, folder: Path) -> None:
        """Raise one SegError with the first five problems, if there are any."""
        problems, hidden = self.problems, len(self.problems) - _SHOWN_PROBLEMS
        if len(problems) == 1:
            raise SegError(problems[0])
        if problems:
            more = [f"and {hidden} more"] * (hidden > 0)
            raise SegError(f"{len(problems)} problems in {folder}: {'; '.join(problems[:_SHOWN_PROBLEMS] + more)}")
