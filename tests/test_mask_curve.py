"""The curve of what a mask is worth, from the folder of a sweep."""

import csv
import json
from pathlib import Path

import pytest

from mask_curve import arguments, draw, read, summary


def sweep(folder):
    """A sweep of two seeds: mIoU on test is 0.5, and a hundredth more per true mask; without the others half of it."""
    rows = []
    for seed in (0, 1):
        for share in ("0.3", "1"):
            for count in (0, 10, 30):
                name = f"{count},{share},{seed}"
                (folder / name).mkdir(parents=True)
                miou = (0.5 + 0.01 * count + 0.02 * seed) * (1 if share == "0.3" or count == 0 else 0.5)
                table = [{"split": "test", "miou": 0.1}, {"split": "trainval", "miou": 0.9}]
                table.insert(2, {"split": "test", "miou": miou})  # the last step
                header = {"true_masks": count, "share": float(share)} if count else {}
                (folder / name / "metrics.json").write_text(json.dumps({"header": header, "rows": table}))
                rows.append(
                    {"seed": seed, "labelled.count": count, "labelled.share": share, "status": "ok", "folder": name}
                )
    rows.append(rows[-1] | {"status": "failed", "folder": "nowhere"})
    with (folder / "miou_results_all.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_mean_and_spread_over_the_seeds(tmp_path):
    sweep(tmp_path)
    points = summary(read(tmp_path))
    found = {(bool(o), n): (runs, mean) for o, n, runs, mean in points[["others", "true_masks", "runs", "mean"]].values}
    expected = {(True, n): (2, 0.51 + 0.01 * n) for n in (0, 10, 30)}
    expected |= {(False, n): (2, (0.51 + 0.01 * n) / 2) for n in (10, 30)}  # nothing is learnt from nothing
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value)
    assert points["std"][points["others"]].tolist() == pytest.approx([0.02 / 2**0.5] * 3)
    draw(tmp_path / "curve.png", points)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_given_wins_over_what_is_swept():
    said = arguments(Path("out"), ["seed=0,1", "labelled.count=0,5"])
    assert said == [
        "-m",
        "seg.run",
        "-m",
        "seed=0,1",
        "labelled.count=0,5",
        "labelled.share=0.3,1",
        "hydra.sweep.dir=out",
    ]


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no finished run that was measured on test images"):
        read(tmp_path)
