"""Durations, tables and names as text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``38 s``, ``12 min 5 s``, ``3 h 4 min``; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def markdown(frame: "pd.DataFrame") -> str:
    """A frame as a Markdown table: floats with four decimals, a dash for a missing value."""

    def text(cell: object) -> str:
        if cell is None or cell != cell:
            return "-"
        return f"{cell:.4f}" if isinstance(cell, float) else str(cell)

    rows = [frame.columns, ["---"] * len(frame.columns), *frame.to_numpy(object)]
    return "".join(f"| {' | '.join(map(text, row))} |\n" for row in rows)


def shorten(text: str, limit: int) -> str:
    """A text of at most so many characters. The middle goes: names differ at their ends."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"
