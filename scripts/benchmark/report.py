"""The table as JSON and as Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.rows import Row
from seg.files import atomic_path, write_json

_COLUMNS = ("what", "ours", "against", "its", "ratio", "goal", "met")


def write_report(
    folder: Path, header: Mapping[str, Any], rows: Mapping[str, Sequence[Row]], without: Mapping[str, str]
) -> None:
    """Write ``bench.json`` and ``bench.md``.

    Args:
        folder: where; made if it is not there.
        header: what :func:`benchmark.machine.describe` gives.
        rows: lines of the table by case.
        without: cases, or parts of them, that gave no rows, and why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = [{"case": case, **row.as_dict()} for case, own in rows.items() for row in own]
    write_json(folder / "bench.json", {"header": dict(header), "rows": table, "without": dict(without)})
    with atomic_path(folder / "bench.md") as tmp:
        tmp.write_text(as_markdown(header, rows, without))


def as_markdown(header: Mapping[str, Any], rows: Mapping[str, Sequence[Row]], without: Mapping[str, str]) -> str:
    """The report for people: the machine, the table, the notes by number."""
    lines = ["# Bench", ""]
    for key, value in header.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value
        lines.append(f"* {key.replace('_', ' ')}: {f'`{shown}`' if key == 'command' else shown}")
    lines += ["", _line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    notes: list[str] = []
    for row in (row for own in rows.values() for row in own):
        what = row.what
        if row.note:
            notes.append(row.note)
            what += f" [{len(notes)}]"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        met = {None: "", True: "yes", False: "NO"}[row.met]
        base = "" if row.base is None else str(row.base)
        lines.append(_line([what, str(row.ours), row.against, base, ratio, row.goal_text, met]))
    lines += ["", "Times are medians; IQR is the interquartile range of n interleaved repetitions.", ""]
    lines += [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    if without:
        lines += ["", "Left out:", "", *(f"* {case}: {why}" for case, why in without.items())]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
