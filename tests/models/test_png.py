"""A mask as PNG, read back."""

from pathlib import Path

import numpy as np
from PIL import Image

from seg.models.png import save_indexed, voc_palette, write_classes


def test_the_palette_is_pascal_vocs() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {i: tuple(voc_palette()[i].tolist()) for i in known} == known


def test_codes_of_classes_are_the_pixels_in_vocs_colours(tmp_path: Path) -> None:
    codes = np.array([[0, 1, 20], [255, 253, 0]], np.uint8)
    save_indexed(tmp_path / "m.png", codes)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), codes)
        assert image.convert("RGB").getpixel((2, 0)) == (0, 64, 128)  # VOC's tvmonitor
        assert image.convert("RGB").getpixel((0, 1)) == (224, 224, 192)  # and its void
    write_classes(tmp_path / "classes.txt", ("background", "a cat", "two\nlines"))
    assert (tmp_path / "classes.txt").read_text() == "0 background\n1 a cat\n2 two lines\n255 ignored\n"
