"""``python -m seg.compare``: folders with known figures."""

import json
import re
from itertools import product

import pandas as pd
import pytest
from run_figures import write_run

from seg.compare import main
from seg.sweep.results import Sweep


def sweep_of(folder, wrong, seeds=(0, 1, 2)):
    for seed in seeds:
        write_run(folder / f"seed={seed}", wrong + 0.01 * seed, seed=seed, steps=("CAM >= 0.4", "seeds"))
        Sweep(folder, ["seed"]).add({"seed": seed, "status": "ok", "folder": f"seed={seed}"})
    return str(folder)


def test_differences_are_paired_by_seed_and_image(tmp_path, capsys):
    a, b = sweep_of(tmp_path / "a", 0.2), sweep_of(tmp_path / "b", 0.15)
    main([a, b, "--out", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out/compare.csv")
    assert (
        table["stage"].tolist() == ["CAM >= 0.4", "seeds"] and set(table["n"]) == {3} and set(table["images"]) == {40}
    )
    assert (table["difference"] - (table["b"] - table["a"])).abs().max() < 1e-12
    assert table["low"].between(0, table["difference"]).all() and (table["high"] > table["difference"]).all()
    assert (table["std"] < 0.03).all()  # of pairs: over seeds alone the figures differ more
    assert f"{table['difference'][0]:.4f}" in capsys.readouterr().out
    main([b, a, "--out", str(tmp_path / "out")])
    back = pd.read_csv(tmp_path / "out/compare.csv")
    assert back["difference"].tolist() == pytest.approx((-table["difference"]).tolist())
    assert back["low"].tolist() == pytest.approx((-table["high"]).tolist())


def test_steps_that_differ_in_the_threshold_and_last_steps_are_compared(tmp_path):
    write_run(tmp_path / "a", 0.2, steps=("CAM >= 0.4", "seeds"))
    write_run(tmp_path / "b", 0.1, steps=("CAM >= 0.5", "seeds", "refined masks"))
    main([str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path)])
    pairs = ["CAM >= 0.4 / CAM >= 0.5", "seeds", "seeds / refined masks"]
    assert pd.read_csv(tmp_path / "compare.csv")["stage"].tolist() == pairs


def test_combinations_of_one_sweep(tmp_path, capsys, monkeypatch):
    sweep = Sweep(tmp_path / "both", ["net", "refiner", "seed"])
    for net, refiner, seed in product("ab", ("none", "pamr"), (0, 1)):
        name = f"net={net},refiner={refiner},seed={seed}"
        write_run(sweep.folder / name, 0.2 - 0.05 * (net == "b") - 0.1 * (refiner == "pamr"), seed=seed)
        sweep.add({"net": net, "refiner": refiner, "seed": seed, "status": "ok", "folder": name})
    monkeypatch.chdir(tmp_path)
    main(["both/refiner=none,net=a", "both/net=b,refiner=pamr", "--out", "."])
    (row,) = pd.read_csv("compare.csv").to_dict("records")
    assert row["n"] == 2 and row["difference"] > 0.15
    main([f"both/net={net},refiner=none,seed=0" for net in "ab"])  # two jobs
    for wanted, said in {
        "both": "4 of the sweep's combinations; name one: both/net=a,refiner=none, both/net=a,refiner=pamr, both/net=b",
        "both/net=a": "2 of the sweep's combinations; name one: both/net=a,refiner=none, both/net=a,refiner=pamr\n",
        "both/net=c": "none of the sweep's combinations; name one: both/net=a,refiner=none, both/net=a,refiner=pamr, ",
        "other/net=a": "has no metrics.json",
    }.items():
        with pytest.raises(SystemExit, match="2"):
            main([wanted, "both/net=b,refiner=pamr"])
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"first": 1}, r"measured other test images \(1 and 1 of their own\)"),
        ({"border": "foreground"}, "border is ignore and foreground"),
        ({"seeds": (0, 1)}, "differ in their seeds"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path, capsys, change, said):
    a, b = tmp_path / "a", tmp_path / "b"
    write_run(a, 0.2)
    write_run(b, 0.1, first=change.get("first", 0))
    if "border" in change:
        content = json.loads((b / "metrics.json").read_text())
        content["header"] |= change
        (b / "metrics.json").write_text(json.dumps(content))
    if "seeds" in change:
        sweep_of(b, 0.2, change["seeds"])
    with pytest.raises(SystemExit, match="2"):
        main([str(a), str(b)])
    assert re.fullmatch(rf"error: .*{said}.*\n", capsys.readouterr().err)
