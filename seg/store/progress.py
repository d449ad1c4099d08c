"""How far a long stage is: a bar on a terminal, a line in the log now and then elsewhere."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Seconds between two lines; what takes less says nothing.
EVERY = 30.0


def log_progress(
    items: Iterable[T],
    what: str,
    total: int | None = None,
    every: float = EVERY,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Iterate, and log a line at most every ``every`` seconds: how many of how many, the rate, the time left.

    The line comes when an item is done, so one slow item delays it; the last item has none, since what follows
    a stage is logged anyway.

    Args:
        items: what to iterate over.
        what: the words that the line begins with.
        total: how many items there are; None to ask ``items``, which may not know.
        every: seconds between two lines, and before the first.
        clock: seconds that only grow.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    started = last = clock()
    for done, item in enumerate(items, 1):
        yield item
        now = clock()
        if now - last >= every and done != total:
            last = now
            log.info("%s: %s", what, describe(done, total, now - started))


def describe(done: int, total: int | None, seconds: float) -> str:
    """``12 of 48 (25 %), 3.0/s, 00:12 left``; slower than one a second is told the other way round: ``2.5 s each``.

    Args:
        done: items done, at least 1. total: of so many; None where nobody knows. seconds: that they took, above 0.
    """
    from tqdm import tqdm

    rate = done / seconds
    pace = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
    if not total:
        return f"{done}, {pace}"
    left = tqdm.format_interval((total - done) / rate)
    return f"{done} of {total} ({100 * done // total} %), {pace}, {left} left"
