"""The table of a sweep, and what is chosen from it."""

import time

import pytest

from seg.errors import SegError
from seg.evaluation.table import headline
from seg.sweep.results import Results, Session
from seg.sweep.summary import best_row, without_masks


def test_the_headline_decides_every_pixel():
    rows = [
        {"stage": name, "split": split, "coverage": coverage, "miou": miou, "iou_background": 0, "iou_foreground": 0}
        | {"images": 3}
        for name, split, coverage, miou in [
            ("CAM", "trainval", 1, 0.1),
            ("CAM", "test", 1, 0.2),
            ("banded", "trainval", 0.5, 0.9),
        ]
    ]
    assert headline(rows)["miou"] == 0.1
    assert headline(rows[1:2])["miou"] == 0.2
    assert headline(rows[2:])["miou"] == 0.9
    with pytest.raises(SegError, match="nothing was measured"):
        headline([])


def test_rows_are_replaced_and_sorted_by_value(tmp_path):
    results = Results(tmp_path, ["epoch"])
    for epoch, miou in (("10", 0.5), ("9", 0.3), ("10", 0.7)):
        results.add({"epoch": epoch, "folder": f"epoch={epoch}", "status": "ok", "miou": miou})
    results.add({"epoch": "2", "folder": "epoch=2", "status": "failed", "error": "two\nlines", "miou": float("nan")})
    assert [(row["epoch"], row["miou"]) for row in results.read()] == [("2", ""), ("9", "0.3"), ("10", "0.7")]
    assert results.read()[0]["error"] == "two lines"
    best = best_row(results.read())
    assert best is not None and best["epoch"] == "10"
    assert without_masks(["epoch"], [dict(row, held_out_accuracy="") for row in results.read()]) is None


def test_the_time_left_counts_this_run_only(monkeypatch):
    session = Session(["epoch"], total=180, skipped=100, started=1000.0)
    monkeypatch.setattr(time, "time", lambda: 1100.0)
    rows = [{"status": "ok"}] * 109 + [{"status": "failed"}]
    assert session.progress(rows) == "110/180  1 failed  11:40 left"
    assert session.progress(rows[:100]) == "100/180"
