"""The table over seeds, of folders with known figures."""

import re

import numpy as np
import pandas as pd
import pytest
from run_figures import write_run

from seg.errors import SegError
from seg.sweep.results import Sweep
from seg.sweep.seeds import read_runs, seeds_frame, summarise_seeds


def sweep_of(folder, cells):
    """A sweep over ``net`` and ``seed``, with the share of wrong pixels of each job, None for one that failed."""
    sweep, mious = Sweep(folder, ["net", "seed"]), {}
    for (net, seed), wrong in cells.items():
        name = f"net={net},seed={seed}"
        if wrong is not None:
            mious[net, seed] = write_run(folder / name, wrong, seed=seed, first=10 * seed)
        sweep.add({"net": net, "seed": seed, "status": "failed" if wrong is None else "ok", "folder": name})
    return mious


def test_mean_deviation_number_and_interval_by_the_other_keys(tmp_path):
    mious = sweep_of(tmp_path, {("a", 0): 0.1, ("a", 1): 0.2, ("b", 0): 0.3, ("b", 1): None})
    lines = summarise_seeds(tmp_path)
    table = pd.read_csv(tmp_path / "seeds.csv").set_index("net")
    of_a = np.array([mious["a", 0], mious["a", 1]])
    assert table.loc["a", "miou_mean"] == pytest.approx(of_a.mean()) and table["n"].to_dict() == {"a": 2, "b": 1}
    assert table.loc["a", "miou_std"] == pytest.approx(of_a.std(ddof=1)) and np.isnan(table.loc["b", "miou_std"])
    assert table["images"].to_dict() == {"a": 50, "b": 40}  # those that any seed measured
    assert ((table["miou_low"] < table["miou_mean"]) & (table["miou_mean"] < table["miou_high"])).all()
    assert (table["miou_high"] - table["miou_low"] < 0.04).all()  # of images that are alike
    cell = f"{of_a.mean():.4f} ± {of_a.std(ddof=1):.4f}"
    markdown, latex = ((tmp_path / f"seeds.{suffix}").read_text() for suffix in ("md", "tex"))
    assert cell in lines[0] and f"| {cell} |" in markdown and cell.replace("±", r"$\pm$") in latex
    assert [line.count("|") for line in markdown.splitlines()] == [10] * 4
    assert not any(word in "".join(lines) for word in ("best", "oracle", "masks used"))
    write_run(tmp_path / "net=b,seed=0", 0.3, steps=["truth"])
    said = "\n".join(summarise_seeds(tmp_path))
    assert "truth * †" in said and re.search(r"masks used *\n", said) and re.search(r" 7 *\n", said)
    assert "\n* oracle:" in said and "\n† trained on masks:" in said


def test_what_is_no_sweep_over_seeds_is_refused(tmp_path):
    Sweep(tmp_path, ["epoch"]).add({"epoch": 1, "status": "ok", "folder": "epoch=1"})
    with pytest.raises(SegError, match="is a sweep without seeds"):
        read_runs(tmp_path)
    with pytest.raises(SegError, match=r"has no metrics\.json and per_image\.npz; name a run, or a sweep over seeds"):
        read_runs(tmp_path / "epoch=1")
    assert seeds_frame([], {}).empty
