"""What labels cost, and the copies of the data that a budget allows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from label_cost import best, plan, seconds, spread, subset


@pytest.mark.parametrize(("kind", "published"), [("image labels", 20.0), ("masks", 239.7)])
def test_the_seconds_of_voc_are_the_published_ones(kind: str, published: float) -> None:
    assert seconds(kind, classes=20, present=1.5, objects=2.8) == pytest.approx(published, abs=0.05)


def test_a_budget_buys_images() -> None:
    rows = plan([5, 60], images=100)
    assert (rows["seconds"] <= 3600).all() and rows["images"].between(8, 100).all()
    bought = rows.groupby("labels")["images"].apply(list)
    assert bought["boxes"] == [42, 100] and bought["masks"] == [45]  # 3 masks teach nothing
    assert bought["image labels"] == [100]  # both budgets buy all
    rows["mIoU"] = [0.1 * i for i in range(len(rows))]
    assert best(rows, 60).startswith(f"for 60 minutes: {rows['labels'].iloc[-1]} of ")


def test_a_copy_has_fewer_images_and_the_same_ground_truth(official: Callable[..., Path], tmp_path: Path) -> None:
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
