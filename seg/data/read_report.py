"""What is met while a folder of data is read: peculiarities to live with, and problems to stop for."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from seg.errors import SegError

log = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 5
_SHOWN_EXAMPLES = 3


@dataclass
class ReadReport:
    """Gathered over a whole folder, so that all problems of a kind are reported together.

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
        """A SegError within is one problem more, which begins with ``where``."""
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

    def tell(self, level: int) -> None:
        """A line in the log for each peculiarity."""
        for line in self.lines():
            log.log(level, "%s", line)

    def stop_if_any(self, folder: Path, *, one_line: bool = False) -> None:
        """Raise the problems, the first few in full, as one SegError."""
        found = self.problems
        if len(found) == 1:
            raise SegError(found[0])
        if found:
            more = [f"and {len(found) - _SHOWN_PROBLEMS} more"] if len(found) > _SHOWN_PROBLEMS else []
            lines = [*found[:_SHOWN_PROBLEMS], *more]
            between = "; " if one_line else "\n  "
            raise SegError(f"{len(found)} problems in {folder}:{between.lstrip(';')}{between.join(lines)}")
