import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from seg.report import pictures
from seg.report.pictures import (
    CELL,
    COLOURS,
    PALETTE_ABOVE,
    cell_box,
    class_key,
    curves,
    overlay,
    panel,
    panel_size,
    score_overlay,
)

COLUMNS = ("photo", "score", "seeds", "refined", "prediction", "truth")
PHOTO = np.full((40, 40, 3), 128, np.uint8)
LEFT_IS_FOREGROUND = np.zeros((40, 40), np.uint8)
LEFT_IS_FOREGROUND[:, :20] = 1


def blend(code, photo=128.0, alpha=0.6):
    return photo * (1 - alpha) + np.array(COLOURS[code]) * alpha


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def inside(picture, row, column, x=0.5, y=0.5):
    """Colour at a place of a cell, in shares of its width and height."""
    left, top, width, height = cell_box(row, column)
    return picture[top + int(y * height), left + int(x * width)]


def cell(picture, row, column):
    left, top, width, height = cell_box(row, column)
    return picture[top : top + height, left : left + width]


def test_overlay_blends_each_code_with_its_colour():
    mask = np.zeros((40, 40), np.uint8)
    mask[:10], mask[10:20] = 1, 254
    painted = overlay(PHOTO, mask, alpha=0.5)
    assert painted.shape == (40, 40, 3)
    assert painted.dtype == np.uint8
    assert np.abs(painted[5, 5] - blend(1, alpha=0.5)).max() <= 0.5
    assert np.abs(painted[15, 5] - blend(254, alpha=0.5)).max() <= 0.5
    assert np.abs(painted[30, 5] - blend(0, alpha=0.25)).max() <= 0.5


def test_overlay_of_nothing_is_the_photo_and_of_all_the_colour():
    photo = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    mask = np.ones((30, 50), np.uint8)
    assert (overlay(photo, mask, alpha=0) == photo).all()
    assert (overlay(photo, mask, alpha=1) == COLOURS[1]).all()


def test_overlay_shows_undecided_pixels_in_two_greys():
    red = np.zeros((60, 60, 3), np.uint8)
    red[..., 0] = 200
    mask = np.full((60, 60), 255, np.uint8)
    mask[:, 30:] = 1
    painted = overlay(red, mask).astype(int)
    undecided = painted[:, :30].reshape(-1, 3)
    assert np.ptp(undecided, axis=1).max() <= 1  # no colour, whatever the photo's
    shades, counts = np.unique(undecided[:, 0], return_counts=True)
    assert len(shades) == 2
    assert counts.min() > 0.1 * counts.sum()
    assert np.ptp(painted[:, 30:], axis=2).min() > 50


def test_overlay_leaves_its_input_alone():
    photo, mask = PHOTO.copy(), LEFT_IS_FOREGROUND.copy()
    overlay(photo, mask)
    assert (photo == PHOTO).all()
    assert (mask == LEFT_IS_FOREGROUND).all()


def test_overlay_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"photo \(40, 40, 3\) and mask \(40, 41\)"):
        overlay(PHOTO, np.zeros((40, 41), np.uint8))
    with pytest.raises(ValueError, match=r"codes \[7\]"):
        overlay(PHOTO, np.full((40, 40), 7, np.uint8))


def test_score_colours_are_fixed_for_0_to_1_whatever_the_map_holds():
    low, mid, high = (score_overlay(PHOTO, np.full((7, 7), v, np.float32)).astype(int) for v in (0, 0.5, 1))
    assert low.sum() < mid.sum() < high.sum()
    half_map = np.full((7, 7), 0.5, np.float32)
    half_map[0, 0] = 0.1  # stretching the colours to this map's own range would change the rest
    assert (score_overlay(PHOTO, half_map)[30, 30] == mid[30, 30]).all()


def test_score_is_upsampled_bilinearly_and_unknown_stays_grey():
    ramp = score_overlay(PHOTO, np.array([[0, 1]], np.float32), alpha=1).astype(int)
    assert len(np.unique(ramp[0], axis=0)) > 15  # a ramp, not two blocks
    assert (ramp[0, :10] == ramp[0, 0]).all()  # align_corners=False: flat up to the centre of the first cell
    coloured = PHOTO * np.array([1, 0.5, 0.25])
    unknown = score_overlay(coloured.astype(np.uint8), np.full((3, 3), np.nan, np.float32))
    assert np.ptp(unknown, axis=2).max() == 0


def test_panel_shows_the_right_thing_in_the_right_cell(tmp_path):
    undecided = np.full((40, 40), 255, np.uint8)
    row = {"photo": PHOTO, "seeds": undecided, "truth": LEFT_IS_FOREGROUND}
    row["score"] = np.eye(2, dtype=np.float32)
    path = panel(tmp_path / "deep" / "panel.png", [row, {**row, "truth": 1 - LEFT_IS_FOREGROUND}], COLUMNS)
    picture = pixels(path)
    assert picture.shape == (*panel_size(2, 6)[::-1], 3)
    assert list(path.parent.iterdir()) == [path]  # no half-written file beside it
    photo, score, seeds, refined, _, truth = range(6)
    assert np.abs(inside(picture, 0, photo) - 128).max() <= 2
    foreground, background = blend(1), blend(0, alpha=0.3)
    assert np.abs(inside(picture, 0, truth, x=0.2) - foreground).max() <= 2
    assert np.abs(inside(picture, 0, truth, x=0.8) - background).max() <= 2
    assert np.abs(inside(picture, 1, truth, x=0.2) - background).max() <= 2
    assert np.abs(inside(picture, 1, truth, x=0.8) - foreground).max() <= 2
    assert inside(picture, 0, score, 0.05, 0.05).sum() > inside(picture, 0, score, 0.95, 0.05).sum() + 100
    assert np.ptp(cell(picture, 0, seeds), axis=2).max() <= 2
    missing = cell(picture, 0, refined)
    assert np.abs(inside(picture, 0, refined, y=0.2) - 0xF2).max() <= 1  # pale, with the word in its middle
    assert (missing[CELL // 3 : -CELL // 3] < 170).any()
    assert not (missing[: CELL // 3] < 170).any()


def test_panel_writes_titles_names_and_heading(tmp_path):
    row = {"photo": PHOTO, "truth": LEFT_IS_FOREGROUND}
    left, top, _, _ = cell_box(0, 0)

    def ink(picture):
        return {
            "titles": int((picture[top - 22 : top - 1, left:] < 128).all(2).sum()),
            "names": int((picture[top : top + CELL, : left - 2] < 128).all(2).sum()),
            "heading": int((picture[: top - 24] < 128).all(2).sum()),
        }

    columns = ("photo", "truth")
    spaces = {" ": PHOTO, "  ": LEFT_IS_FOREGROUND}  # titles that leave no ink
    bare = ink(pixels(panel(tmp_path / "a.png", [row | spaces], [*spaces])))
    assert bare == {"titles": 0, "names": 0, "heading": 0}
    full = ink(pixels(panel(tmp_path / "b.png", [row], columns, [("pug_1", "pug")], heading="toy_pets")))
    assert min(full.values()) > 20


def test_panel_takes_masks_of_another_size_without_blending_codes(tmp_path):
    row = {"photo": PHOTO, "truth": np.array([[0, 255], [1, 254]], np.uint8)}
    picture = pixels(panel(tmp_path / "p.png", [row], ("truth",)))
    assert np.abs(inside(picture, 0, 0, 0.25, 0.75) - blend(1)).max() <= 2
    assert np.abs(inside(picture, 0, 0, 0.75, 0.75) - blend(254)).max() <= 2


def test_a_panel_of_six_by_six_stays_small_even_of_noise(tmp_path):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 60, 60, 3), np.uint8)
    rows = [{"photo": photo, "seeds": rng.choice(np.array([0, 1, 254], np.uint8), (60, 60))} for photo in coarse]
    for row in rows:
        row |= {"score": rng.random((7, 7), np.float32)}
        row |= dict.fromkeys(("refined", "prediction", "truth"), row["seeds"])
    path = panel(tmp_path / "noise.png", rows, COLUMNS, names=[("american_bulldog_100", "american_bulldog")] * 6)
    assert path.stat().st_size < 1_500_000
    assert path.stat().st_size < PALETTE_ABOVE + 100_000


def test_panel_refuses_what_it_cannot_draw(tmp_path):
    with pytest.raises(ValueError, match="at least one row"):
        panel(tmp_path / "p.png", [], COLUMNS)
    with pytest.raises(ValueError, match="lacks its photo"):
        panel(tmp_path / "p.png", [{"truth": LEFT_IS_FOREGROUND}], COLUMNS)
    with pytest.raises(ValueError, match="truth is int64"):
        panel(tmp_path / "p.png", [{"photo": PHOTO, "truth": LEFT_IS_FOREGROUND.astype(np.int64)}], COLUMNS)
    assert not list(tmp_path.iterdir())


def test_curves_draw_a_line_per_number_and_network(tmp_path):
    epochs = np.arange(1, 6)
    plain = pd.DataFrame({"epoch": epochs, "loss": 1 / epochs})
    one = pixels(curves(tmp_path / "one.png", {"classifier": plain}))
    richer = plain.assign(val_loss=2 / epochs, accuracy=[0.1, None, 0.3, 0.4, 0.5], seconds=9.0, lr=1e-3)
    two = pixels(curves(tmp_path / "two.png", {"classifier": richer, "unet": plain}))
    assert two.shape[1] > 1.7 * one.shape[1]

    def has(picture, rgb):
        return (np.abs(picture - rgb).max(2) <= 3).any()

    blue, orange, green = (31, 119, 180), (255, 127, 14), (44, 160, 44)
    assert has(one, blue)
    assert not has(one, orange)
    assert has(two[: len(two) // 2], orange)  # the second loss
    assert has(two[len(two) // 2 :], blue)  # the metric
    assert not has(two, green)  # seconds and lr are no curves


def test_curves_refuse_what_they_cannot_draw(tmp_path):
    with pytest.raises(ValueError, match="at least one network"):
        curves(tmp_path / "c.png", {})
    with pytest.raises(ValueError, match="unet has no column 'epoch'"):
        curves(tmp_path / "c.png", {"unet": pd.DataFrame({"loss": [1.0]})})


def test_importing_pictures_does_not_load_matplotlib():
    code = "import sys, seg.report.pictures; sys.exit(any(m.split('.')[0] == 'matplotlib' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_overlay_is_the_same_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (70, 50, 3), dtype=np.uint8)
    mask = rng.choice(np.asarray([0, 1, 254, 255], np.uint8), (70, 50))
    whole = overlay(photo, mask)
    monkeypatch.setattr(pictures, "BLOCK", 333)
    assert (overlay(photo, mask) == whole).all()


def test_names_are_no_mathematics(tmp_path):
    row = {"photo": PHOTO, "$\\frac{": LEFT_IS_FOREGROUND}
    panel(tmp_path / "panel.png", [row], [*row], [("$x^", "a$b$c")], heading="$\\badcommand$")
    table = pd.DataFrame({"epoch": [1, 2], "loss": [1.0, 0.5]})
    curves(tmp_path / "curves.png", {"$\\net{$": table})
    assert (tmp_path / "panel.png").is_file() and (tmp_path / "curves.png").is_file()


# -- several classes -----------------------------------------------------------------------------------

FRUIT = class_key(("background", "apple", "pear", "_plum"))


def test_classes_have_the_colours_of_pascal_voc():
    mask = np.zeros((40, 40), np.uint8)
    mask[:10], mask[10:20], mask[20:30] = 1, 3, 254
    painted = overlay(PHOTO, mask, alpha=1, key=FRUIT)
    assert [painted[y, 0].tolist() for y in (5, 15, 25)] == [[128, 0, 0], [128, 128, 0], [224, 224, 192]]
    assert painted[35, 0].tolist() == [64, 64, 64]  # black, at half the weight
    with pytest.raises(ValueError, match=r"codes \[4\]: only 0, 1, 2, 3, 254 and 255"):
        overlay(PHOTO, np.full((40, 40), 4, np.uint8), key=FRUIT)
    assert FRUIT.legend[1] == (1, "apple", "#800000")
    assert [code for code, *_ in FRUIT.legend] == [0, 1, 2, 3, 254, 255]
    assert len(class_key([str(i) for i in range(254)]).colours) == 256  # as many as there may be


def test_the_legend_has_the_classes_that_are_drawn_and_grows_with_them(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[:20] = 3
    picture = pixels(panel(tmp_path / "few.png", [{"photo": PHOTO, "truth": mask}], ("photo", "truth"), key=FRUIT))
    foot = picture[sum(cell_box(0, 0)[1::2]) :]

    def has(picture, code):
        return (np.abs(picture - FRUIT.colours[code]).max(2) == 0).any()

    assert has(foot, 3) and not has(foot, 1) and not has(foot, 254)
    assert picture.shape[:2] == panel_size(1, 2)[::-1]
    many = class_key([f"class number {i}" for i in range(38)])
    every = np.arange(1600, dtype=np.uint8).reshape(40, 40) % 38
    picture = pixels(panel(tmp_path / "many.png", [{"photo": PHOTO, "truth": every}], ("truth",), key=many))
    foot = picture[sum(cell_box(0, 0)[1::2]) :]
    assert len(foot) > 12 * 18 and all((np.abs(foot - many.colours[i]).max(2) == 0).any() for i in range(38))
