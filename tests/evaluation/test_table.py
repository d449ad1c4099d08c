import csv
import json
import math
import os

import numpy as np
import pandas as pd
import pytest

from seg.errors import SegError
from seg.evaluation.table import format_classes, format_table, headline, without_figures, write_metrics
from seg.methods.metrics import Confusion

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


def row(stage="seeds", split="test", **changes):
    return {"stage": stage, "split": split, **FIGURES, **changes}


def cells(line):
    return line.split()


def test_table_says_every_figure_under_its_heading():
    lines = format_table([row()]).splitlines()
    assert cells(lines[0]) == ["IoU", "IoU", "per-image"]
    assert cells(lines[1]) == ["stage", "split", "images", "mIoU", "bg", "fg", "mean"]
    assert cells(lines[3]) == ["seeds", "test", "298", "0.6667", "0.3000", "0.1429", "0.5000"]
    for column in ("mIoU", "images"):  # right edges line up
        assert lines[3][: lines[1].index(column) + len(column)].rstrip()[-1].isdigit()


def test_coverage_is_a_column_only_when_something_is_missing():
    assert "coverage" not in format_table([row(), row()])
    text = format_table([row(), row(coverage=0.75)])
    assert "coverage" in text.splitlines()[1]
    assert text.splitlines()[-1].endswith("0.7500")


def test_the_estimate_is_a_column_where_it_was_made():
    assert "quality" not in format_table([row()])
    lines = format_table([row(coverage=0.75, estimated_quality=0.25), row("refined")]).splitlines()
    assert lines[1].endswith("quality") and lines[3].endswith("0.7500   0.2500") and lines[4].endswith("-")


def test_how_many_masks_were_used_is_a_note():
    said = "masks used to choose thresholds and the like: "
    assert "masks used" not in format_table([row()])
    assert format_table([row(masks_used=0), row("refined", masks_used=0)]).splitlines()[-1] == f"{said}0"
    text = format_table([row(masks_used=0), row(split="trainval", masks_used=0), row("refined", masks_used=300)])
    assert text.splitlines()[-1] == f"{said}0 (seeds), 300 (refined)"


def test_table_is_never_wider_than_100_columns():
    name = "refined by affinity, 256 steps, from seeds of boxes of the whole body"
    text = format_table([row(name, "trainval", coverage=0.5, oracle=True)])
    assert max(map(len, text.splitlines())) <= 100
    wrapped = " ".join(line[:29].strip() for line in text.splitlines()[3:-1])
    assert wrapped == f"{name} *"


def test_oracles_are_marked_and_explained():
    text = format_table([row("boxes"), row("boxes of trimaps", oracle=True)])
    assert [line.split("  ")[0] for line in text.splitlines()[3:5]] == ["boxes", "boxes of trimaps *"]
    assert text.splitlines()[-1].startswith("* oracle")
    assert "*" not in format_table([row("boxes", oracle=False)])


def test_what_is_missing_is_a_dash():
    *_, line, note = format_table([{"stage": "U-Net", "split": "test", "images": 0, "miou": math.nan}]).splitlines()
    assert cells(line) == ["U-Net", "test", "0", "-", "-", "-", "-"]
    assert note == "-: the ground truth of test shows no object, so nothing is measured there"
    assert headline([row(split="trainval", miou=math.nan) | {"masks_used": 0}, row(miou=0.3)])["split"] == "test"
    assert format_table([]) == "no stage was evaluated"


def test_table_takes_the_evaluations_own_answer():
    confusion = Confusion()
    confusion.add(np.array([[1, 0, 255]], np.uint8), np.array([[1, 1, 0]], np.uint8))
    text = format_table([{"stage": "s", "split": "test", **confusion.compute().as_dict()}])
    expected = "s test 1 0.2500 0.0000 0.5000 0.2500 0.6667"
    assert cells(text.splitlines()[3]) == expected.split()


def test_written_numbers_are_read_back_exactly(tmp_path):
    rows = [row(threshold=np.float64(0.1)), row("unet", note='a, b\n"c"')]
    folder = tmp_path / "run" / "1"
    header = {"data": "toy_pets", "border": "ignore", "root": tmp_path}
    json_path, csv_path = write_metrics(folder, rows, header)
    assert sorted(os.listdir(folder)) == ["metrics.csv", "metrics.json"]
    whole = json.loads(json_path.read_text())
    assert whole["header"] == {"data": "toy_pets", "border": "ignore", "root": str(tmp_path)}
    assert whole["rows"] == rows
    with csv_path.open(newline="") as file:
        sheet = list(csv.DictReader(file))
    assert {key: float(sheet[0][key]) for key in FIGURES} == FIGURES
    assert (sheet[0]["threshold"], sheet[0]["note"]) == ("0.1", "")
    assert (sheet[1]["threshold"], sheet[1]["note"]) == ("", 'a, b\n"c"')
    assert pd.read_csv(csv_path)["stage"].tolist() == ["seeds", "unet"]


def test_nan_is_null_and_an_empty_cell(tmp_path):
    rows = [row(miou=math.nan, coverage=np.float32("nan"))]
    json_path, csv_path = write_metrics(tmp_path, rows, {"best": math.inf})
    whole = json.loads(json_path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert whole["rows"][0]["miou"] is whole["rows"][0]["coverage"] is whole["header"]["best"] is None
    assert math.isnan(pd.read_csv(csv_path)["miou"][0])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError, match="file/run: metrics cannot be written"):
        write_metrics(tmp_path / "file" / "run", [row()], {})


def test_where_nothing_was_measured_the_masks_are_counted_and_the_pictures_named(tmp_path):
    made = {"CAM >= 0.4": range(12), "seeds": range(3)}
    lines = without_figures(made, {"seeds": 0.5}, tmp_path / "panel.png").splitlines()
    assert [line.split() for line in lines[2:4]] == [["CAM", ">=", "0.4", "12", "-"], ["seeds", "3", "0.5000"]]
    assert lines[4].startswith("nothing was measured: ") and str(tmp_path / "panel.png") in lines[4]
    assert "figures=true" in without_figures({"seeds": range(3)}, {}, None)


# -- several classes -----------------------------------------------------------------------------------

#: Pixels by ground truth (rows) and prediction (columns), of background, cat, dog.
MATRIX = [[50, 5, 0], [10, 20, 10], [0, 5, 0]]
#: Worked out by hand: right / (ground truth + prediction - right).
OF_CLASSES = {"iou_background": 50 / 65, "iou_by_class": {"cat": 20 / 50, "dog": 0.0}, "matrix": MATRIX}


def test_the_mean_over_classes_is_called_so():
    lines = format_table([row(**OF_CLASSES)]).splitlines()
    assert cells(lines[1]) == ["stage", "split", "images", "mIoU", "bg", "classes", "mean"]
    assert cells(lines[3])[5] == "0.1429" and lines[3].index("0.1429") + 6 == lines[1].index("classes") + 7
    wide = format_table([row("refined by affinity, 256 steps, from seeds", "trainval", coverage=0.5, **OF_CLASSES)])
    assert max(map(len, wide.splitlines())) <= 100


def test_the_iou_of_each_class_is_that_of_the_last_step_that_decides_every_pixel():
    band = OF_CLASSES | {"iou_by_class": {"cat": 0.9, "dog": 0.9}, "coverage": 0.5}
    rows = [row("CAM", **OF_CLASSES | {"iou_by_class": {"cat": 0.1, "dog": 0.1}}), row(**OF_CLASSES), row("x", **band)]
    first, *lines = format_classes(rows).splitlines()
    assert first.endswith(": seeds, test")
    assert " ".join(" ".join(lines).split()) == "background 0.7692 55.0% cat 0.4000 40.0% dog 0.0000 5.0%"
    assert "0.9000" in format_classes([row("x", **band)])  # where none decides every pixel
    assert format_classes([row()]) == format_classes([]) == ""
    absent = OF_CLASSES | {"iou_by_class": {"cat": math.nan, "dog": 0.0}}
    assert cells(format_classes([row(**absent)]).splitlines()[1])[4] == "-"


@pytest.mark.parametrize("name", ["c", "American_Pit_Bull_Terrier_of_the_whole_world"])
def test_37_classes_are_read_downwards_and_at_most_100_columns_wide(name):
    names = [f"{name}_{i}" for i in range(37)]
    figures = {"matrix": np.eye(38, dtype=int).tolist(), "iou_by_class": dict.fromkeys(names, 0.5)}
    lines = format_classes([row(**OF_CLASSES | figures)]).splitlines()[1:]
    assert max(map(len, lines)) <= 100 and len(lines) <= 19
    columns = [[line[i : i + 28].split() for line in lines] for i in range(0, 84, 28)] if name == "c" else []
    assert [c[0] for c in columns[0]] == ["background", *names[: len(lines) - 1]] if columns else True
    assert all(f"_{i} " in " ".join(lines) for i in range(37))  # however long, the end is left


def test_figures_by_class_are_in_json_and_in_a_table_of_their_own(tmp_path):
    rows = [row(**OF_CLASSES), row("x", **OF_CLASSES | {"iou_by_class": {"cat": 0.4, "dog": math.nan}})]
    json_path, csv_path = write_metrics(tmp_path, rows, {})
    assert sorted(os.listdir(tmp_path)) == ["classes.csv", "metrics.csv", "metrics.json"]
    assert "        [10, 20, 10],\n" in json_path.read_text()  # a line of the matrix is a line
    (first, second) = json.loads(json_path.read_text())["rows"]
    assert first == rows[0] and second["iou_by_class"] == {"cat": 0.4, "dog": None}
    with csv_path.open(newline="") as file:
        assert set(next(csv.DictReader(file))) == {"stage", "split", *FIGURES}
    with (tmp_path / "classes.csv").open(newline="") as file:
        sheet = list(csv.reader(file))
    assert sheet[0] == ["stage", "split", "class", "iou", "pixels_of_target", "pixels_of_prediction", "pixels_right"]
    assert sheet[1] == ["seeds", "test", "background", str(50 / 65), "55", "60", "50"]
    assert sheet[2] == ["seeds", "test", "cat", "0.4", "40", "30", "20"]
    assert sheet[3] == ["seeds", "test", "dog", "0.0", "5", "10", "0"]
    assert sheet[6] == ["x", "test", "dog", "", "5", "10", "0"]
