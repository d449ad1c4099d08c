"""Overlays, panels and curves."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from seg.report.pictures import FOREGROUND, class_key, curves, overlay, panel, score_overlay

PHOTO = np.full((40, 40, 3), 128, np.uint8)
LEFT_IS_FOREGROUND = np.zeros((40, 40), np.uint8)
LEFT_IS_FOREGROUND[:, :20] = 1
FRUIT = class_key(("background", "apple", "pear", "_plum"))


def blend(code: int, alpha: float = 0.6) -> np.ndarray:
    return 128.0 * (1 - alpha) + np.array(FOREGROUND.colours[code]) * alpha


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def share_of(picture: np.ndarray, rgb: np.ndarray | tuple[int, ...]) -> float:
    """The share of a picture's pixels that have a colour."""
    return float((np.abs(picture - rgb).max(2) <= 2).mean())


def test_overlay_blends_each_code_with_its_colour() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[:10], mask[10:20] = 1, 254
    painted = overlay(PHOTO, mask, alpha=0.5)
    assert painted.shape == (40, 40, 3) and painted.dtype == np.uint8
    for y, code, alpha in ((5, 1, 0.5), (15, 254, 0.5), (30, 0, 0.25)):
        assert np.abs(painted[y, 5] - blend(code, alpha)).max() <= 0.5
    assert (overlay(PHOTO, mask, alpha=0) == PHOTO).all() and (mask[:10] == 1).all()


def test_overlay_shows_undecided_pixels_in_two_greys() -> None:
    red = np.zeros((60, 60, 3), np.uint8)
    red[..., 0] = 200
    mask = np.full((60, 60), 255, np.uint8)
    mask[:, 30:] = 1
    painted = overlay(red, mask).astype(int)
    undecided = painted[:, :30].reshape(-1, 3)
    assert np.ptp(undecided, axis=1).max() <= 1  # no colour, whatever the photo's
    shades, counts = np.unique(undecided[:, 0], return_counts=True)
    assert len(shades) == 2 and counts.min() > 0.1 * counts.sum()
    assert np.ptp(painted[:, 30:], axis=2).min() > 50


def test_overlay_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"photo \(40, 40, 3\) and mask \(40, 41\)"):
        overlay(PHOTO, np.zeros((40, 41), np.uint8))
    with pytest.raises(ValueError, match=r"codes \[7\]"):
        overlay(PHOTO, np.full((40, 40), 7, np.uint8))


def test_score_colours_are_fixed_for_0_to_1_and_unknown_stays_grey() -> None:
    low, mid, high = (score_overlay(PHOTO, np.full((7, 7), v, np.float32)).astype(int) for v in (0, 0.5, 1))
    assert low.sum() < mid.sum() < high.sum()
    half_map = np.full((7, 7), 0.5, np.float32)
    half_map[0, 0] = 0.1  # stretching the colours to this map's own range would change the rest
    assert (score_overlay(PHOTO, half_map)[30, 30] == mid[30, 30]).all()
    ramp = score_overlay(PHOTO, np.array([[0, 1]], np.float32), alpha=1).astype(int)
    assert len(np.unique(ramp[0], axis=0)) > 15  # a ramp, not two blocks
    coloured = (PHOTO * np.array([1, 0.5, 0.25])).astype(np.uint8)
    assert np.ptp(score_overlay(coloured, np.full((3, 3), np.nan, np.float32)), axis=2).max() == 0


def test_classes_have_the_colours_of_pascal_voc() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[:10], mask[10:20], mask[20:30] = 1, 3, 254
    painted = overlay(PHOTO, mask, alpha=1, key=FRUIT)
    assert [painted[y, 0].tolist() for y in (5, 15, 25)] == [[128, 0, 0], [128, 128, 0], [224, 224, 192]]
    assert painted[35, 0].tolist() == [64, 64, 64]  # black, at half the weight
    assert FRUIT.legend[1] == (1, "apple", "#800000")
    assert [code for code, *_ in FRUIT.legend] == [0, 1, 2, 3, 254, 255]
    assert len(class_key([str(i) for i in range(254)]).colours) == 256  # as many as there may be


def test_a_panel_has_a_picture_for_each_image_and_step(tmp_path: Path) -> None:
    row = {"photo": PHOTO, "score": np.eye(2, dtype=np.float32), "target": LEFT_IS_FOREGROUND}
    names = ["pug_1\npug", "$a$\nb"]
    path = panel(tmp_path / "deep/panel.png", [row, {"photo": PHOTO}], names, "$\\badcommand$")
    picture = pixels(path)
    assert list(path.parent.iterdir()) == [path]  # no half-written file beside it
    first, second = np.array_split(picture, 2)
    for colour, there in ((blend(1), True), (blend(0, 0.3), True), ((0xF2,) * 3, False)):
        assert (share_of(first, colour) > 0.03) == there
    assert share_of(second, (0xF2,) * 3) > 0.1 and share_of(second, blend(1)) < 0.01  # "none", twice
    assert share_of(picture, FOREGROUND.colours[254]) > 0  # the legend has all
    # A mask of another size is not blended.
    picture = pixels(panel(tmp_path / "p.png", [{"photo": PHOTO, "target": np.array([[0, 255], [1, 254]], np.uint8)}]))
    assert share_of(picture, blend(1)) > 0.02 and share_of(picture, blend(254)) > 0.02


def test_the_legend_has_the_classes_that_are_drawn(tmp_path: Path) -> None:
    key, count = class_key([f"class number {i}" for i in range(38)]), 38
    mask = np.arange(1600, dtype=np.uint8).reshape(40, 40) % count
    mask[mask == 1] = 0
    picture = pixels(panel(tmp_path / "p.png", [{"photo": PHOTO, "target": mask}], key=key))
    drawn = [code for code in key.names if share_of(picture, key.colours[code]) > 0]
    assert [code for code in drawn if code < count] == [0, *range(2, count)]


def test_curves_draw_a_line_per_number_and_network(tmp_path: Path) -> None:
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


def test_importing_pictures_does_not_load_matplotlib() -> None:
    code = "import sys, seg.report.pictures; sys.exit(any(m.split('.')[0] == 'matplotlib' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
