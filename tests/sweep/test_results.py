"""The table of a sweep, its figure, and what is chosen from it."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.sweep.job import headlines
from seg.sweep.results import COLUMNS, Sweep
from seg.sweep.summary import best_row, draw_sweep, without_masks


def steps(*values):
    keys = ("stage", "split", "coverage", "miou")
    return [
        dict(zip(keys, value, strict=True)) | {"iou_background": 0, "iou_foreground": 0, "images": 3}
        for value in values
    ]


def test_the_headline_is_of_trainval_and_of_a_step_that_decides_every_pixel():
    rows = steps(("CAM", "trainval", 1, 0.1), ("CAM", "test", 1, 0.2), ("banded", "trainval", 0.5, 0.9))
    rows += steps(("banded", "test", 0.5, 0.8))
    both = headlines(rows)
    assert (both["miou"], both["miou_test"], both["stage"], both["split"]) == (0.1, 0.2, "CAM", "trainval")
    assert headlines([rows[2], rows[3]])["miou"] == 0.9
    test_alone = headlines(rows[1:2])  # test images are never used to choose
    assert (test_alone["miou"], test_alone["miou_test"], test_alone["images_test"]) == (None, 0.2, 3)
    assert headlines([]) == {"miou": None}


def test_rows_are_replaced_and_sorted_by_value(tmp_path):
    results = Sweep(tmp_path, ["epoch"])
    for epoch, miou in (("10", 0.5), ("9", 0.3), ("10", 0.7)):
        results.add({"epoch": epoch, "folder": f"epoch={epoch}", "status": "ok", "miou": miou, "images": 3})
    results.add({"epoch": "2", "folder": "epoch=2", "status": "failed", "error": "two\nlines", "miou": float("nan")})
    rows = results.read()
    assert list(rows[0]) == ["epoch", *COLUMNS]
    assert [(row["epoch"], row["miou"], row["images"]) for row in rows] == [
        ("2", "", ""),
        ("9", "0.3", "3"),
        ("10", "0.7", "3"),
    ]
    assert rows[0]["error"] == "two lines"
    best = best_row(rows)
    assert best is not None and best["epoch"] == "10"
    assert without_masks(["epoch"], rows) == {}


def test_the_time_left_counts_this_run_only(monkeypatch, capsys):
    sweep = Sweep(Path(), ["epoch"], total=180, skipped=100, started=1000.0)
    monkeypatch.setattr(time, "time", lambda: 1100.0)
    sweep.show({"epoch": 3, "status": "ok", "miou": 0.5}, [{}] * 110)
    assert capsys.readouterr().err == "[110/180, 11:40 left]  epoch=3  mIoU 0.5000\n"


@pytest.mark.parametrize(
    "swept", [{"epoch": "12"}, {"refiner": ["none", "affinity"], "seed": "123", "supervision": ["cam", "bbox"]}]
)
def test_a_figure_of_any_number_of_keys_marks_the_best(swept, tmp_path):
    rows = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    for i, row in enumerate(rows):
        row |= {"miou": str(0.2 + i / 100) if i != 0 else "", "stage": "seeds", "split": "trainval"}
    with Image.open(draw_sweep(tmp_path / "a.png", rows, list(swept), rows[-1])) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert ((pixels[..., 0] > 220) & (pixels[..., 1:].max(-1) < 60)).sum() > 20  # the best cell's frame
