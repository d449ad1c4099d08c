import csv
import json
import math
import os

import numpy as np
import pandas as pd
import pytest

from seg.errors import SegError
from seg.evaluation.table import format_classes, format_table, headline, write_metrics

FIGURES = {
    "miou": 2 / 3,
    "iou_background": 0.1 + 0.2,
    "iou_foreground": 1 / 7,
    "pixel_accuracy": 0.87654321,
    "per_image_miou": 0.5,
    "images": 298,
    "pixels": 14_000_000,
    "coverage": 1.0,
}
#: Pixels by ground truth (rows) and prediction (columns), of background, cat, dog.
MATRIX = [[50, 5, 0], [10, 20, 10], [0, 5, 0]]
#: Worked out by hand: right / (ground truth + prediction - right).
OF_CLASSES = {"iou_background": 50 / 65, "iou_by_class": {"cat": 20 / 50, "dog": 0.0}, "matrix": MATRIX}


def row(stage="seeds", split="test", **changes):
    return {"stage": stage, "split": split, **FIGURES, **changes}


def test_every_figure_is_under_its_heading():
    head, line = format_table([row()]).splitlines()
    assert head.split() == ["stage", "split", "images", "mIoU", "bg", "fg", "per", "image"]
    assert line.split() == ["seeds", "test", "298", "0.6667", "0.3000", "0.1429", "0.5000"]
    assert head.index("mIoU") + 4 == line.index("0.6667") + 6  # right edges line up
    head, first, second = format_table([row(coverage=0.75, estimated_quality=0.25), row("refined")]).splitlines()
    assert head.endswith("coverage  est. quality")
    assert first.split()[-2:] == ["0.7500", "0.2500"] and second.split()[-2:] == ["1.0000", "-"]
    head, _ = format_table([row(**OF_CLASSES)]).splitlines()
    assert head.split()[4:6] == ["bg", "classes"]


def test_notes_tell_oracles_masks_used_and_what_is_not_measured():
    text = format_table([row("boxes"), row("boxes of trimaps", oracle=True)])
    assert text.splitlines()[2].startswith("boxes of trimaps *") and text.splitlines()[-1].startswith("* oracle")
    assert "*" not in format_table([row("boxes", oracle=False)])
    text = format_table([row("seeds", oracle=True, trained_on_masks=True)])
    assert "seeds * †" in text and [line[0] for line in text.splitlines()[-2:]] == ["*", "†"]
    note = "masks used to choose thresholds and the like: "
    assert format_table([row(masks_used=0), row("refined", masks_used=0)]).splitlines()[-1] == f"{note}0"
    text = format_table([row(masks_used=0), row(split="trainval", masks_used=0), row("refined", masks_used=300)])
    assert text.splitlines()[-1] == f"{note}0 (seeds), 300 (refined)"
    _, line, note = format_table([{"stage": "U-Net", "split": "test", "images": 0, "miou": math.nan}]).splitlines()
    assert line.split() == ["U-Net", "test", "0", "-", "-", "-", "-"]
    assert note == "-: the ground truth of test shows no object, so nothing is measured there"
    assert headline([row(split="trainval", miou=math.nan) | {"masks_used": 0}, row(miou=0.3)])["split"] == "test"


def test_written_numbers_are_read_back_exactly(tmp_path):
    rows = [row(threshold=np.float64(0.1)), row("unet", note='a, b\n"c"'), row(miou=math.nan)]
    folder = tmp_path / "run" / "1"
    json_path, csv_path = write_metrics(folder, rows, {"data": "toy_pets", "root": tmp_path, "best": math.inf})
    assert sorted(os.listdir(folder)) == ["metrics.csv", "metrics.json"]
    read = json.loads(json_path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read["header"] == {"data": "toy_pets", "root": str(tmp_path), "best": None}
    assert read["rows"] == [*rows[:2], row(miou=None)]
    with csv_path.open(newline="") as file:
        sheet = list(csv.DictReader(file))
    assert {key: float(sheet[0][key]) for key in FIGURES} == FIGURES and sheet[2]["miou"] == ""
    assert (sheet[0]["threshold"], sheet[0]["note"]) == ("0.1", "")
    assert (sheet[1]["threshold"], sheet[1]["note"]) == ("", 'a, b\n"c"')
    assert pd.read_csv(csv_path)["stage"].tolist() == ["seeds", "unet", "seeds"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError, match="file/run: metrics cannot be written"):
        write_metrics(tmp_path / "file" / "run", [row()], {})


def test_the_iou_of_each_class_is_that_of_the_last_step_that_decides_every_pixel():
    band = OF_CLASSES | {"iou_by_class": {"cat": 0.9, "dog": math.nan}, "coverage": 0.5}
    rows = [row("CAM", **OF_CLASSES | {"iou_by_class": {"cat": 0.1, "dog": 0.1}}), row(**OF_CLASSES), row("x", **band)]
    first, _, *lines = format_classes(rows).splitlines()
    assert first == "seeds, test, by class:"
    assert " ".join(" ".join(lines).split()) == "background 0.7692 0.5500 cat 0.4000 0.4000 dog 0.0000 0.0500"
    last = format_classes([row("x", **band)]).splitlines()[-1]  # where none decides every pixel
    assert last.split() == ["dog", "-", "0.0500"]
    assert format_classes([row()]) == format_classes([]) == ""


def test_figures_by_class_are_in_json_and_in_a_table_of_their_own(tmp_path):
    rows = [row(**OF_CLASSES), row("x", **OF_CLASSES | {"iou_by_class": {"cat": 0.4, "dog": math.nan}})]
    json_path, csv_path = write_metrics(tmp_path, rows, {})
    first, second = json.loads(json_path.read_text())["rows"]
    assert first == rows[0] and second["iou_by_class"] == {"cat": 0.4, "dog": None}
    with csv_path.open(newline="") as file:
        assert set(next(csv.DictReader(file))) == {"stage", "split", *FIGURES}
    with (tmp_path / "classes.csv").open(newline="") as file:
        sheet = list(csv.reader(file))
    assert sheet[0] == ["stage", "split", "class", "iou", "pixels_of_target", "pixels_of_prediction", "pixels_right"]
    assert sheet[1] == ["seeds", "test", "background", str(50 / 65), "55", "60", "50"]
    assert sheet[2] == ["seeds", "test", "cat", "0.4", "40", "30", "20"]
    assert sheet[6] == ["x", "test", "dog", "", "5", "10", "0"]
