"""A mask as PNG, read back."""

from pathlib import Path

import numpy as np
from PIL import Image

from seg.models.png import save_png, voc_palette

MASK = np.array([[0, 1, 1], [255, 1, 0]], np.uint8)


def test_the_palette_is_pascal_vocs() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {i: tuple(voc_palette()[i].tolist()) for i in known} == known


def test_indices_beyond_what_grey_would_keep(tmp_path: Path) -> None:
    save_png(tmp_path / "m.png", MASK, "palette", label=199)
    assert np.asarray(Image.open(tmp_path / "m.png")).tolist() == [[0, 200, 200], [255, 200, 0]]
