"""Overlays, panels and curves."""

import numpy as np
import pandas as pd
from PIL import Image

from seg.report.pictures import FOREGROUND, class_key, curves, overlay, panel, score_overlay

PHOTO = np.full((40, 40, 3), 128, np.uint8)
LEFT_IS_FOREGROUND = np.zeros((40, 40), np.uint8)
LEFT_IS_FOREGROUND[:, :20] = 1
FRUIT = class_key(("background", "apple", "pear", "_plum"))


def blend(code, alpha=0.6):
    return 128.0 * (1 - alpha) + np.array(FOREGROUND.colours[code]) * alpha


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def share_of(picture, rgb):
    """The share of a picture's pixels that have a colour."""
    return float((np.abs(picture - rgb).max(2) <= 2).mean())


def test_overlay_blends_each_code_with_its_colour():
    mask = np.zeros((40, 40), np.uint8)
    mask[:10], mask[10:20] = 1, 254
    painted = overlay(PHOTO, mask, alpha=0.5)
    assert painted.shape == (40, 40, 3) and painted.dtype == np.uint8
    for y, code, alpha in ((5, 1, 0.5), (15, 254, 0.5), (30, 0, 0.25)):
        assert np.abs(painted[y, 5] - blend(code, alpha)).max() <= 1
    assert (overlay(PHOTO, mask, alpha=0) == PHOTO).all() and (mask[:10] == 1).all()


def test_score_colours_are_fixed_for_0_to_1_and_unknown_stays_grey():
    low, mid, high = (score_overlay(PHOTO, np.full((7, 7), v, np.float32)).astype(int) for v in (0, 0.5, 1))
    assert low.sum() < mid.sum() < high.sum()
    half_map = np.full((7, 7), 0.5, np.float32)
    half_map[0, 0] = 0.1  # stretching the colours to this map's own range would change the rest
    assert (score_overlay(PHOTO, half_map)[30, 30] == mid[30, 30]).all()
    ramp = score_overlay(PHOTO, np.array([[0, 1]], np.float32), alpha=1).astype(int)
    assert len(np.unique(ramp[0], axis=0)) > 15  # a ramp, not two blocks
    coloured = (PHOTO * np.array([1, 0.5, 0.25])).astype(np.uint8)
    assert np.ptp(score_overlay(coloured, np.full((3, 3), np.nan, np.float32)), axis=2).max() == 0


def test_classes_have_the_colours_of_pascal_voc():
    mask = np.zeros((40, 40), np.uint8)
    mask[:10], mask[10:20], mask[20:30] = 1, 3, 254
    painted = overlay(PHOTO, mask, alpha=1, key=FRUIT)
    assert [painted[y, 0].tolist() for y in (5, 15, 25)] == [[128, 0, 0], [128, 128, 0], [224, 224, 192]]
    assert abs(int(painted[35, 0, 0]) - 64) <= 1  # black, at half the weight
    assert FRUIT.legend[1] == (1, "apple", "#800000")
    assert [code for code, *_ in FRUIT.legend] == [0, 1, 2, 3, 254, 255]
    assert len(class_key([str(i) for i in range(254)]).colours) == 256  # as many as there may be


def test_a_panel_has_a_picture_for_each_image_and_step(tmp_path):
    small = np.array([[0, 255], [1, 254]], np.uint8)  # of another size than the photo: it is not blended
    row = {"photo": PHOTO, "score": np.eye(2, dtype=np.float32), "target": LEFT_IS_FOREGROUND}
    path = panel(tmp_path / "deep/panel.png", [row, {"photo": PHOTO, "target": small}], ["pug_1", "$a$"], "$\\bad$")
    assert list(path.parent.iterdir()) == [path]  # no half-written file beside it
    first, second = np.array_split(pixels(path), 2)
    for colour in (blend(1), blend(0, 0.3)):
        assert share_of(first, colour) > 0.02
    assert share_of(second, blend(1)) > 0.01 and share_of(second, blend(254)) > 0.01
    assert share_of(second, FOREGROUND.colours[254]) > 0  # the legend
    assert (
        share_of(
            pixels(panel(path, [{"photo": PHOTO, "x": np.eye(40, dtype=np.uint8)}], ["a"], key=FRUIT)), (0, 128, 0)
        )
        == 0
    )


def test_curves_draw_a_line_per_number_and_network(tmp_path):
    epochs = np.arange(1, 6)
    plain = pd.DataFrame({"epoch": epochs, "loss": 1 / epochs})
    one = pixels(curves(tmp_path / "one.png", {"$\\net{$": plain}))
    richer = plain.assign(val_loss=2 / epochs, accuracy=[0.1, None, 0.3, 0.4, 0.5], seconds=9.0)
    two = pixels(curves(tmp_path / "two.png", {"classifier": richer, "unet": plain}))
    assert two.shape[1] > 1.7 * one.shape[1]
    blue, orange, green = (31, 119, 180), (255, 127, 14), (44, 160, 44)
    assert share_of(one, blue) and not share_of(one, orange)
    assert share_of(two[: len(two) // 2], orange)  # the second loss
    assert share_of(two[len(two) // 2 :], blue)  # the metric
    assert not share_of(two, green)  # seconds are no curve
