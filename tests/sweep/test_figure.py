"""The picture of a sweep."""

import numpy as np
import pytest
from PIL import Image

from seg.sweep.figure import choose_axes, draw_sweep


@pytest.mark.parametrize(
    ("swept", "axes"),
    [
        ({"epoch": "123", "threshold": "12"}, ["epoch", "threshold"]),
        ({"epoch": "12"}, ["epoch"]),
        ({"epoch": "12", "threshold": "12", "seed": "123"}, ["epoch", "threshold"]),
        ({"refiner": ["none", "affinity"], "seed": "123", "supervision": ["cam", "bbox"]}, ["refiner", "seed"]),
    ],
)
def test_pictures_of_any_number_of_keys(swept, axes, tmp_path):
    rows = [{}]
    for key, values in swept.items():
        rows = [{**row, key: value} for row in rows for value in values]
    for i, row in enumerate(rows):
        row |= {"miou": str(0.2 + i / 100) if i != 0 else "", "stage": "seeds", "split": "trainval"}
    assert choose_axes(rows, list(swept)) == axes
    assert draw_sweep(tmp_path / "a.png", rows, list(swept), rows[-1]) == tmp_path / "a.png"
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels[..., 0] > 220) & (pixels[..., 1:].max(-1) < 60)
    assert red.sum() > 20  # the best cell's frame
