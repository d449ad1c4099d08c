"""What a mask is worth: mIoU of the segmenter by the number of true masks, with and without the labels of the others.

    python scripts/mask_curve.py FOLDER pipeline=cam_affinity segmenter=unet seed=0,1,2

sweeps ``labelled.count`` and ``labelled.share`` (with whatever else is said; what is done already is skipped) into
FOLDER, and draws its ``curve.csv`` and ``curve.png`` from it. Test images alone are measured. FOLDER alone draws again.
"""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

SWEPT = ("labelled.count=0,10,30,100,300", "labelled.share=0.3,1")


def arguments(folder: Path, given: list[str]) -> list[str]:
    """The sweep's, of which the ones that are given win."""
    named = {text.partition("=")[0] for text in given}
    usual = [text for text in SWEPT if text.partition("=")[0] not in named]
    return ["-m", "seg.run", "-m", *given, *usual, f"hydra.sweep.dir={folder}"]


def read(folder: Path) -> pd.DataFrame:
    """A row per run: ``true_masks``, ``others`` (whether pseudo masks of the others were learnt), ``miou`` on test.

    Raises:
        SystemExit: in one line, if nothing in the folder was measured on test images.
    """
    table = folder / "miou_results_all.csv"
    jobs = pd.read_csv(table).query("status == 'ok'") if table.is_file() else pd.DataFrame()
    found = []
    for job in jobs.to_dict("records"):
        if job.get("labelled.count") == 0 and job.get("labelled.share") == 1:
            continue  # without a mask there is nothing else to learn from: it is the run with another share
        written = json.loads((folder / job["folder"] / "metrics.json").read_text())
        count, share = (written["header"].get(name, 0) for name in ("true_masks", "share"))
        found += [(count, share < 1, row["miou"]) for row in written["rows"] if row["split"] == "test"][-1:]
    if not found:
        raise SystemExit(f"{folder}: no finished run that was measured on test images; give the overrides of a sweep")
    return pd.DataFrame(found, columns=["true_masks", "others", "miou"])


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Number of runs, mean and standard deviation (of a sample; nan of one run) by ``others`` and ``true_masks``."""
    by = runs.groupby(["others", "true_masks"])["miou"]
    return by.agg(["size", "mean", "std"]).rename(columns={"size": "runs"}).reset_index()


def draw(path: Path, points: pd.DataFrame) -> None:
    """The two curves with their standard deviations as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for others, name in ((True, "beside the pseudo masks of all others"), (False, "true masks alone")):
        part = points[points["others"] == others]
        axes.errorbar(part["true_masks"], part["mean"], part["std"].fillna(0), marker="o", capsize=3, label=name)
    axes.set_xscale("symlog", linthresh=10)
    ticks = sorted(set(points["true_masks"]))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("images with a true mask")
    axes.set_ylabel("mIoU on test images")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main(folder: Path, given: list[str]) -> None:
    """Sweep, if overrides are given, and draw."""
    if given:
        subprocess.run([sys.executable, *arguments(folder, given)], check=True)
    points = summary(read(folder))
    points.to_csv(folder / "curve.csv", index=False, float_format="%.4f")
    draw(folder / "curve.png", points)
    print(points.to_string(index=False, float_format="%.4f"), folder / "curve.png", sep="\n")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
