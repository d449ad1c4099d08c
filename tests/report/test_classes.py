"""What a report says of classes: IoU and confusions of the last step that decides every pixel."""

from typing import Any

import numpy as np
import pytest

from seg.report.classes import MOST, by_class


def row(matrix: np.ndarray, **changes: Any) -> dict[str, Any]:
    """A row of the stage table that has this confusion matrix."""
    names = [f"class {i}" for i in range(1, len(matrix))]
    figures = {"coverage": 1.0, "iou_background": 0.5, "iou_by_class": dict.fromkeys(names, 0.25)}
    return {"stage": "seeds", "split": "test", "matrix": matrix.tolist(), **figures, **changes}


def test_shares_are_of_the_truths_pixels() -> None:
    found = by_class([row(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))])
    assert found is not None
    assert found.names == ["background", "class 1", "class 2"] and found.pixels == 12
    assert found.shares[:2].tolist() == [[0.75, 0.25, 0], [0.25, 0.75, 0]] and np.isnan(found.shares[2]).all()
    assert [(one.truth, one.prediction, one.right) for one in found.figures] == [(8, 7, 6), (4, 5, 3), (0, 0, 0)]


def test_it_is_the_last_step_that_decides_every_pixel() -> None:
    some = np.eye(3, dtype=int)
    found = by_class([row(some), row(some, stage="prediction", split="trainval"), row(some, coverage=0.5)])
    assert found is not None and (found.stage, found.split) == ("prediction", "trainval")
    assert by_class([]) is None
    assert by_class([{"stage": "seeds", "split": "test", "coverage": 1.0}]) is None  # the foreground alone


@pytest.mark.parametrize("count", [MOST, 254])
def test_of_too_many_classes_the_most_mistaken_are_told_apart(count: int) -> None:
    matrix = np.diag(np.arange(1000, 1000 + count))
    wrong = np.arange(count - 5, count - 1)
    matrix[wrong, wrong + 1] = 50
    found = by_class([row(matrix)])
    assert found is not None and len(found.figures) == count and found.pixels == matrix.sum()
    assert len(found.names) == len(found.shares) == MOST and found.names[0] == "background"
    if count > MOST:
        # In their order; what is mistaken is among them, and the shares of each are as of the whole table.
        assert found.names[-1] == f"{count - MOST + 1} other classes"
        assert found.names[-6:-1] == [f"class {i}" for i in range(count - 5, count)]
        assert found.shares[-3, -2] == 50 / matrix[-2].sum() and found.shares[-1, -1] == 1
        assert found.shares.sum(1) == pytest.approx(1)
