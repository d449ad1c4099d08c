"""A mask as PNG, read back."""

from seg.models.png import voc_palette


def test_the_palette_is_pascal_vocs() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {i: tuple(voc_palette()[i].tolist()) for i in known} == known
