"""The figure of a sweep."""

import itertools

import numpy as np
import pytest
from PIL import Image

from seg.sweep.figure import draw_sweep


@pytest.mark.parametrize(
    "swept",
    [
        {"epoch": "12"},
        {"epoch": "123", "threshold": "12"},
        {"refiner": ["none", "affinity"], "seed": "123", "supervision": ["cam", "bbox"]},
    ],
)
def test_a_figure_of_any_number_of_keys_marks_the_best(swept, tmp_path):
    rows = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    for i, row in enumerate(rows):
        row |= {"miou": str(0.2 + i / 100) if i != 0 else "", "stage": "seeds", "split": "trainval"}
    with Image.open(draw_sweep(tmp_path / "a.png", rows, list(swept), rows[-1])) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels[..., 0] > 220) & (pixels[..., 1:].max(-1) < 60)
    assert red.sum() > 20  # the best cell's frame
