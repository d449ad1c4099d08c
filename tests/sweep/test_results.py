"""The table of a sweep, its figure, and what is chosen from it."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.sweep.job import headlines
from seg.sweep.results import COLUMNS, Sweep, average_seeds
from seg.sweep.summary import best_row, describe_best, draw_sweep, without_masks


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


def test_seeds_are_averaged_and_never_chosen(tmp_path):
    results = Sweep(tmp_path, ["epoch", "data.source.seed"])
    figures = {"1": (0.2, 0.4, 0.6), "2": (0.5, 0.5, None), "3": (0.3, 0.4, 0.2)}
    for epoch, values in figures.items():
        for seed, miou in enumerate(values):
            row = {"epoch": epoch, "data.source.seed": seed, "folder": f"{epoch},{seed}", "miou": miou, "images": 3}
            row |= {"iou_background": miou, "iou_foreground": miou, "held_out_accuracy": miou, "stage": "seeds"}
            results.add(row | {"status": "failed" if miou is None else "ok", "split": "trainval"})
    keys, rows = average_seeds(results.read(), results.swept)
    assert keys == ["epoch"] and [row["seeds"] for row in rows] == [3, 2, 3]
    assert [row["miou"] for row in rows] == pytest.approx([0.4, 0.5, 0.3])
    assert [row["miou_std"] for row in rows] == pytest.approx([0.2, 0.0, 0.1])
    best = best_row(rows)
    assert best is not None and best["epoch"] == "1"  # of those whose every seed ended well
    said = describe_best(keys, rows, best)
    assert "epoch=1  mIoU 0.4000 +- 0.2000 over 3 seeds" in said[0] and "3 trainval images" in said[0]
    assert "without masks: epoch=1 " in said[1]
    assert average_seeds(results.read(), ["seed"]) == ([], [])


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
