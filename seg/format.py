"""Durations, sizes and names as short text."""


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


def size(count: float | None) -> str:
    """Bytes for people, in steps of 1000: ``512 B``, ``1.2 kB``, ``45 MB``; a dash for None."""
    if count is None:
        return "–"
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def shorten(text: str, limit: int) -> str:
    """A text of at most so many characters. The middle goes: names differ at their ends."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"
