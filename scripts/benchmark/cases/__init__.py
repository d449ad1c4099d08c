"""One module per case; each has ``run(lab)``, which yields rows as they are measured."""

import importlib
from collections.abc import Iterator

from benchmark.lab import Lab
from benchmark.rows import Row

#: Names of the cases, which are those of their modules, in the order of the table.
CASES = ("cam", "peers", "walk", "sweep", "prepare", "train", "startup", "memory")


class Skipped(Exception):
    """A case, or the rest of it, can't be measured here; the message says why."""


def run_case(name: str, lab: Lab) -> Iterator[Row]:
    """The rows of a case, one by one.

    Raises:
        Skipped: when something optional that it needs is not there.
    """
    # Every case imports what it measures, and only then.
    yield from importlib.import_module(f"{__name__}.{name}").run(lab)
