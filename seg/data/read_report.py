"""What is met while a folder of data is read: peculiarities that are counted, and problems that end the reading."""

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
    """Gathered over a whole folder, so that all problems are reported together.

    Attributes:
        warnings: how often each peculiarity was met, by a sentence that names it.
        examples: up to three names for each of them.
        problems: a line each; any of them ends the reading.
    """

    warnings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def warn(self, sentence: str, names: Iterable[str]) -> None:
        """Count the names under a sentence; without names nothing is noted."""
        names = list(names)
        if names:
            self.warnings[sentence] += len(names)
            self.examples[sentence] = (*self.examples.get(sentence, ()), *names)[:_SHOWN_EXAMPLES]

    @contextmanager
    def gathering(self, where: str) -> Iterator[None]:
        """Note a SegError that is raised inside as a problem, which begins with ``where``."""
        try:
            yield
        except SegError as error:
            self.problems.append(str(error) if str(error).startswith(where) else f"{where}: {error}")

    def lines(self) -> list[str]:
        """A line for each peculiarity."""
        out = []
        for sentence, count in self.warnings.items():
            names = ", ".join(self.examples.get(sentence, ()))
            more = ", ..." if count > _SHOWN_EXAMPLES else ""
            out.append(f"data: {sentence}: {count}" + (f" ({names}{more})" if names else ""))
        return out

    def log(self, level: int) -> None:
        """Log a line for each peculiarity."""
        for line in self.lines():
            _logger.log(level, "%s", line)

    def stop_if_any(self, folder: Path) -> None:
        """Raise the problems, the first five in full, as one SegError."""
        problems, hidden = self.problems, len(self.problems) - _SHOWN_PROBLEMS
        if len(problems) == 1:
            raise SegError(problems[0])
        if problems:
            more = [f"and {hidden} more"] * (hidden > 0)
            raise SegError(f"{len(problems)} problems in {folder}: {'; '.join(problems[:_SHOWN_PROBLEMS] + more)}")
