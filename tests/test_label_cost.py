"""What labels cost, and the copies of the data that a budget allows."""

from pathlib import Path

import pandas as pd
import pytest

from label_cost import KINDS, best, command, plan, seconds, spread, subset


@pytest.mark.parametrize(("kind", "published"), [("image labels", 20.0), ("masks", 239.7)])
def test_the_seconds_of_voc_are_the_published_ones(kind, published):
    assert seconds(kind, classes=20, present=1.5, objects=2.8) == pytest.approx(published, abs=0.05)


def test_points_and_scribbles_cost_one_more_than_published_for_the_background():
    voc = {"classes": 20, "present": 1.5, "objects": 2.8}
    assert seconds("points + image labels", **voc) == pytest.approx(22.1 + 2.4)
    assert seconds("scribbles", **voc) == pytest.approx(34.9 + 10.9, abs=0.06)


def test_a_budget_buys_images():
    rows = plan([5, 60], images=100)
    assert (rows["seconds"] <= 3600).all() and rows["images"].between(8, 100).all()
    bought = rows.groupby("labels")["images"].apply(list)
    assert bought["boxes"] == [42, 100] and bought["masks"] == [45]  # 3 masks teach nothing
    assert bought["image labels"] == [100]  # both budgets buy all
    rows["mIoU"] = [0.1 * i for i in range(len(rows))]
    assert best(rows, 60).startswith(f"for 60 minutes: {rows['labels'].iloc[-1]} of ")


def test_a_copy_has_fewer_images_and_the_same_ground_truth(official, tmp_path):
    root, copy = official(trainval=6, test=4), tmp_path / "copy"
    for _ in range(2):  # what a killed run left is completed
        subset(root, copy, 4, 2)
    lists = copy / "oxford-iiit-pet/annotations"
    assert [len((lists / f"{name}.txt").read_text().splitlines()) for name in ("trainval", "test")] == [4, 2]
    assert (copy / "oxford-iiit-pet/images").is_symlink() and (lists / "trimaps").is_symlink()
    assert len((root / "oxford-iiit-pet/annotations/trainval.txt").read_text().splitlines()) == 6
    assert spread(list("abcde"), 3) == ["a", "c", "e"]
    with pytest.raises(SystemExit, match="neither oxford-iiit-pet"):
        subset(tmp_path, copy, 4, 2)


def test_what_is_given_wins_and_what_a_run_lacks_is_left_out():
    given = ["data=oxford_pet", "data.root=pets", "colocalise.weights=w", "segmenter.input_size=96"]
    for kind in KINDS:
        said = command(kind, 10, Path("out"), Path("out/x/data"), 50, given)
        assert "segmenter.input_size=96" in said and "segmenter.input_size=160" not in said
        assert "data.root=out/x/data" in said and "data.root=pets" not in said and "segmenter.epochs=5" in said
        assert ("colocalise.weights=w" in said) == (kind != "masks")
    assert "epoch=5" in command("image labels", 10, Path("out"), Path("out/x/data"), 50, given)
    assert pd.Series([seconds(kind) for kind in KINDS]).gt(0).all()
