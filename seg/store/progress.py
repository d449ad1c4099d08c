"""How far a long stage is, where nobody watches a bar: a line in the log now and then."""

import logging
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)

#: Seconds between two lines, and before the first; what takes less says nothing.
EVERY = 30.0


class Lines(tqdm):
    """Iterate, and log how many of how many are done, the rate so far and the time left.

    The line comes when an item is done, so one slow item delays it; the last item has none, since what follows
    a stage is logged anyway.

    Args:
        items: what to iterate over. what: the words that the line begins with.
        total: how many items there are; None to ask ``items``, which may not know.
    """

    def __init__(self, items: Iterable[Any], what: str, total: int | None = None) -> None:
        super().__init__(items, what, total, mininterval=EVERY, delay=EVERY, miniters=1, smoothing=0, leave=False)
        known = "{n} of {total} ({percentage:.0f} %), {rate_fmt}, {remaining} left"
        self.bar_format = "{desc}: " + (known if self.total else "{n}, {rate_fmt}")

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """In place of drawing the bar."""
        if not self.disable and self.n != self.total:
            log.info(" ".join(str(self).split()))
