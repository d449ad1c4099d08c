"""Timing: repeated, interleaved, told by median and interquartile range."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing.

    Attributes:
        values: one per repetition, in the order in which they were taken.
        unit: ``s`` or ``MB``.
    """

    values: tuple[float, ...]
    unit: str = "s"

    @property
    def median(self) -> float:
        """The middle value, or the mean of the two in the middle."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Interquartile range, interpolated linearly; 0 for a single value."""
        low, high = np.percentile(self.values, [25, 75])
        return float(high - low)

    def scaled(self, factor: float) -> "Sample":
        """Every value times ``factor``, for a part that stands for a whole."""
        return Sample(tuple(v * factor for v in self.values), self.unit)

    def __str__(self) -> str:
        n = len(self.values)
        around = f" (IQR {self.spread:.2g}, n={n})" if n > 1 else " (n=1)"
        return f"{self.median:.3g} {self.unit}{around}"


def interleaved(calls: Sequence[Callable[[], object]], repeats: int, warm_up: int = 1) -> list[Sample]:
    """Time several things in turn (A, B, A, B, ...), so that a machine that slows down slows all of them.

    Args:
        calls: what to time, called without arguments.
        repeats: measurements of each.
        warm_up: rounds that are not counted.

    Returns:
        Seconds of each call, in the order of ``calls``.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(warm_up + repeats):
        for call, own in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            if turn >= warm_up:
                own.append(time.perf_counter() - started)
    return [Sample(tuple(own)) for own in seconds]
