"""The table of a sweep over seeds: a row per step, split and combination of the other swept keys."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seg.errors import SegError
from seg.evaluation.per_image import RunFigures, image_ids, resampled_miou
from seg.evaluation.table import MARKS, frame_text, marks
from seg.files import atomic_path
from seg.format import markdown
from seg.methods.bootstrap import percentile_interval
from seg.sweep.results import CSV

#: Metrics of the table and their headings.
FIGURES = {
    "miou": "mIoU",
    "iou_foreground": "fg",
    "boundary_iou": "boundary",
    "per_image_miou": "per image",
}

#: Runs by the values of the other swept keys, and by seed.
Runs = Mapping[tuple[str, ...], Mapping[tuple[str, ...], RunFigures]]


def is_seed(key: str) -> bool:
    """Whether a swept key is a seed: ``seed``, ``classifier.seed``."""
    return key.rpartition(".")[2] == "seed"


def read_runs(folder: Path) -> tuple[list[str], Runs]:
    """The successful runs of a sweep over seeds, or a single run.

    Returns:
        The other swept keys, and the runs.

    Raises:
        SegError: the folder is neither.
    """
    if not (folder / CSV).is_file():
        return [], {(): {(): RunFigures.read(folder)}}
    table = pd.read_csv(folder / CSV, dtype=str, keep_default_na=False)
    swept = [*table.columns[: table.columns.get_loc("status")]]
    seeds, keys = [k for k in swept if is_seed(k)], [k for k in swept if not is_seed(k)]
    if not seeds:
        raise SegError(f"{folder}: is a sweep without seeds; give sweeps over seeds, or folders of runs")
    runs: dict[tuple[str, ...], dict[tuple[str, ...], RunFigures]] = {}
    for row in table[table["status"] == "ok"].to_dict("records"):
        cell = runs.setdefault(tuple(row[key] for key in keys), {})
        cell[tuple(row[key] for key in seeds)] = RunFigures.read(folder / row["folder"])
    return keys, runs


def seeds_frame(keys: Sequence[str], runs: Runs) -> pd.DataFrame:
    """The table in full precision.

    Returns:
        ``keys``, ``stage``, ``split``, ``images``, ``n`` (seeds), ``masks_used``; mean and standard deviation (n - 1)
        of each metric over seeds; and the 95% bootstrap interval of the mean mIoU over images.
    """
    rows = []
    for values, by_seed in runs.items():
        for key in dict.fromkeys(key for run in by_seed.values() for key in run.rows):
            having = [run for run in by_seed.values() if key in run.rows]
            figures = pd.DataFrame([run.rows[key] for run in having]).reindex(columns=[*FIGURES]).astype(float)
            row: dict[str, Any] = dict(zip(keys, values, strict=True))
            row |= {"stage": key[0] + marks(having[0].rows[key]), "split": key[1]}
            row |= {"images": len(image_ids(having, key)), "n": len(having)}
            row["masks_used"] = max(run.rows[key].get("masks_used") or 0 for run in having)
            for name in FIGURES:
                row |= {f"{name}_mean": figures[name].mean(), f"{name}_std": figures[name].std()}
            row["miou_low"], row["miou_high"] = percentile_interval(resampled_miou(having, key).mean(0))
            rows.append(row)
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as text: ``mean ± standard deviation``, the interval after the mIoU, and the masks used if any were."""
    out = frame.loc[:, :"n"].copy()
    for name, heading in FIGURES.items():
        if f"{name}_mean" in frame:
            pairs = frame.reindex(columns=[f"{name}_mean", f"{name}_std"]).to_numpy()
            out[heading] = ["-" if m != m else f"{m:.4f}" + (f" ± {s:.4f}" if s == s else "") for m, s in pairs]
        if name == "miou" and "miou_low" in frame:
            out["95% interval"] = interval_text(frame["miou_low"], frame["miou_high"])
    if frame["masks_used"].any():
        out["masks used"] = frame["masks_used"]
    return out


def interval_text(low: Iterable[float], high: Iterable[float]) -> list[str]:
    """``[low, high]`` of each pair, or a dash."""
    return ["-" if a != a else f"[{a:.4f}, {b:.4f}]" for a, b in zip(low, high, strict=True)]


def write_table(folder: Path, name: str, frame: pd.DataFrame, text: pd.DataFrame) -> None:
    """Write ``NAME.csv`` in full precision, and the text as ``NAME.md`` and ``NAME.tex`` (booktabs)."""
    latex = text.to_latex(index=False, escape=True)
    for sign, command in (("±", r"$\pm$"), (">=", r"$\geq$"), ("†", r"$\dagger$")):
        latex = latex.replace(sign, command)
    contents = {
        "csv": frame.to_csv(index=False, lineterminator="\n"),
        "md": markdown(text),
        "tex": latex,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in contents.items():
        with atomic_path(folder / f"{name}.{suffix}") as tmp:
            tmp.write_text(content, encoding="utf-8")


def summarise_seeds(folder: Path, most: int = 60) -> list[str]:
    """Write ``seeds.csv``, ``seeds.md`` and ``seeds.tex`` of a sweep over seeds.

    Returns:
        Lines to print, with at most ``most`` rows; none if nothing was measured.
    """
    frame = seeds_frame(*read_runs(folder))
    if frame.empty:
        return []
    text = shown(frame)
    write_table(folder, "seeds", frame, text)
    left = [f"and {len(text) - most} more rows"] if len(text) > most else []
    note = "mean ± standard deviation over the seeds; the interval of the mean mIoU is over resampled images"
    notes = [note, *(said for said in MARKS.values() if frame["stage"].str.contains(f" {said[0]}", regex=False).any())]
    return [frame_text(text.head(most)), *left, *notes, str(folder / "seeds.csv")]
