"""Decoding of whatever an image file may hold."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from seg.data.dataset import Codes, Region
from seg.data.decode import decode_image, decode_trimap, draw_regions, formats, image_size, image_warnings
from seg.errors import SegError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools


def photo(height: int, width: int) -> np.ndarray:
    """Smooth random colours with some grain, like a photo more than like noise."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(30, 226, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def save(path: Path, array: np.ndarray, mode: str = "RGB", **options: object) -> Path:
    Image.fromarray(array).convert(mode).save(path, **options)
    return path


def test_what_pillow_may_take_a_file_for(tmp_path: Path) -> None:
    array = photo(30, 40)
    for known in ("png", "jpg", "webp", "bmp", "tif", "gif", "jp2", "ppm"):
        decoded, size = decode_image(save(tmp_path / f"a.{known}", array))
        assert size == (30, 40) and decoded.dtype == np.uint8 and decoded.flags.writeable
        assert known not in ("png", "bmp", "tif", "ppm") or (decoded == array).all()
    # Pillow would start Ghostscript for an EPS, whatever its name.
    assert not {"EPS", "PDF", "WMF", "FITS", "PSD", "ICNS"} & set(formats())
    Image.fromarray(array).save(path := tmp_path / "a.jpg", format="EPS")
    for call in (decode_image, image_size, image_warnings, lambda p: decode_trimap(p, (8, 8))):
        with pytest.raises(SegError, match=r"a\.jpg: not a whole image"):
            call(path)


@pytest.mark.parametrize(("height", "width"), [(700, 900), (250, 400)])
def test_large_jpegs_are_decoded_at_a_fraction_and_stay_close(
    tmp_path: Path, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.jpg", photo(height, width), quality=92)
    full, _ = decode_image(path)
    expected = np.asarray(Image.fromarray(full).resize((64, 64), Image.Resampling.BILINEAR))
    loaded = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, *a, **k: (loaded.append(self.size), resize(self, *a, **k))[1]
    )
    decoded, size = decode_image(path, 64)
    assert size == (height, width)
    assert np.abs(decoded.astype(int) - expected).mean() < 0.5
    assert (loaded[0] < (width, height)) == (min(height, width) >= 256)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [None, 16])
def test_exif_orientation(tmp_path: Path, orientation: int, size: int | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", photo(40, 64), exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(path))
    decoded, hw = decode_image(path, size)
    assert hw == (upright.height, upright.width) == ((64, 40) if orientation > 4 else (40, 64))
    if size is not None:
        upright = upright.resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(decoded.astype(int), np.asarray(upright, int), atol=1)
    assert ("images turned by their EXIF orientation" in image_warnings(path)) == (orientation > 1)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([200, 10, 20, 0, 0, 255])
    image.putpixel((3, 1), 1)
    image.save(path := tmp_path / "a.png", transparency=1)
    assert decode_image(path)[0][[0, 1], [0, 3]].tolist() == [[200, 10, 20], [255, 255, 255]]
    image.save(path)
    assert decode_image(path)[0][1, 3].tolist() == [0, 0, 255] and not image_warnings(path)
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = [255, 0, 51]
    Image.fromarray(rgba).save(path)
    assert decode_image(path)[0][0, :, 0].tolist() == [0, 255, 204]
    # Alpha that is 0 everywhere is ignored.
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(path)
    assert decode_image(path)[0][0, 0].tolist() == [10, 20, 30]
    assert image_warnings(path) == ("images with an alpha channel that is 0 everywhere (ignored)",)


@pytest.mark.parametrize(("top", "white"), [(900, 1023), (4095, 4095), (200, 255), (65535, 65535)])
def test_white_of_16_bit_images(tmp_path: Path, top: int, white: int) -> None:
    values = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        decoded, _ = decode_image(tmp_path / name)
        np.testing.assert_array_equal(decoded[..., 0], np.rint(values / white * 255))
        narrow = (f"16-bit images without a value above {white} (used as white)",) * (white < 65535)
        assert image_warnings(tmp_path / name) == narrow


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0.5, 1], [0, 128, 255]), ([-1000, 0, 1000], [0, 128, 255]), ([0, 1, np.nan, np.inf], [0, 255, 0, 0])],
)
def test_float_image(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    assert decode_image(tmp_path / "a.tif")[0][0, :, 0].tolist() == expected


def test_gif_first_frame_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])
    assert (decode_image(path)[0] == [255, 0, 0]).all()
    assert image_warnings(path) == ("images of several frames or pages (first used)",)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "GIF"])
def test_truncated_files_are_named(tmp_path: Path, fmt: str) -> None:
    path = tmp_path / "cut_7.jpg"
    Image.fromarray(photo(100, 120)).save(path, format=fmt)
    content = path.read_bytes()
    for share in (0, 0.02, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        for size in (None, 16):
            with pytest.raises(SegError, match=r"cut_7\.jpg: not a whole image .* git lfs pull") as error:
                decode_image(path, size)
            assert "\n" not in str(error.value)


def test_missing_files_folders_and_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, message in (("gone.jpg", "no such file"), ("", "is a folder, no file"), ("pipe.jpg", "is a pipe")):
        with pytest.raises(SegError, match=message):
            decode_image(tmp_path / name)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16"])
def test_trimap_codes(tmp_path: Path, mode: str) -> None:
    codes = np.array([[1, 2, 3], [0, 4, 255]], np.uint8)
    image = Image.fromarray(codes)
    if mode == "P":
        image.putpalette([i * 7 % 256 for i in range(768)])
    elif mode == "I;16":
        image = Image.fromarray(codes.astype(np.uint16) + np.array([[0, 0, 0], [0, 0, 1000]], np.uint16))
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.png")
    target, resized = decode_trimap(tmp_path / "a.png", (2, 3))
    assert target.tolist() == [[1, 0, 254], [255, 255, 255]] and target.dtype == np.uint8 and not resized


@pytest.mark.parametrize(
    ("codes", "values", "expected"),
    [
        ("binary", [0, 1], [0, 1]),
        ("binary", [255, 255], [1, 1]),
        ("binary", [0, 255, 128, 7], [0, 1, 255, 255]),  # ignored pixels, soft edges
        ("binary", [0, 1, 100, 255], [0, 255, 255, 1]),  # soft edges, of which 1 is one
        ("ids", [0, 1, 15, 254, 255], [0, 1, 1, 1, 255]),
        ("ids", [0, 300, 24000, 7], [0, 1, 1, 1]),
    ],
)
def test_the_conventions_of_masks(tmp_path: Path, codes: Codes, values: list[int], expected: list[int]) -> None:
    Image.fromarray(np.array([values], np.uint16 if max(values) > 255 else np.uint8)).save(tmp_path / "m.png")
    target, resized = decode_trimap(tmp_path / "m.png", (1, len(values)), codes)
    assert target.tolist() == [expected] and not resized


@pytest.mark.parametrize(
    ("codes", "values", "shown"),
    [
        ("binary", [0, 1, 255], "0, 1, 255 where .*mask_codes=.* ids"),
        ("binary", [0, 15], "0, 15 where .* or classes"),
        ("trimap", [0, 255], r"0, 255 where 1 \(foreground\), 2 \(background\) and 3 \(border\)"),
        ("trimap", [0, 1, 3], "0, 1, 3 where"),
    ],
)
def test_masks_of_another_convention_are_refused(tmp_path: Path, codes: Codes, values: list[int], shown: str) -> None:
    path = save(tmp_path / "m.png", np.array([values], np.uint8), "L")
    with pytest.raises(SegError, match=rf"m\.png: holds {shown}") as error:
        decode_trimap(path, (1, len(values)), codes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_unturned_photo_is_turned_along(tmp_path: Path, orientation: int) -> None:
    array = np.zeros((20, 30), np.uint8)
    array[:8, :12] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = save(tmp_path / "a.png", np.stack([array] * 3, 2), exif=exif)
    mask = save(tmp_path / "m.png", array, "L")
    photo_pixels, hw = decode_image(turned)
    target, resized = decode_trimap(mask, hw, "binary", turned)
    assert hw == image_size(turned) == (30, 20) and not resized
    np.testing.assert_array_equal(target, photo_pixels[..., 0] // 255)
    upright = save(tmp_path / "u.png", photo_pixels[..., 0], "L")  # drawn on what one sees: as it is
    np.testing.assert_array_equal(decode_trimap(upright, hw, "binary", turned)[0], target)


@pytest.mark.parametrize(
    ("mode", "size", "message"),
    [
        ("L", (40, 40), "40 x 40 has other proportions than its image of 60 x 40"),
        ("CMYK", (60, 40), "a coloured image where a mask of one channel was expected"),
    ],
)
def test_what_is_no_mask_of_the_image(tmp_path: Path, mode: str, size: tuple[int, int], message: str) -> None:
    Image.new(mode, size).save(tmp_path / "a.tif")
    with pytest.raises(SegError, match=message):
        decode_trimap(tmp_path / "a.tif", (40, 60), "binary")


def test_smaller_regions_are_on_top_crowds_below_and_runs_have_to_fit() -> None:
    square, crowd = (0, 0, 2, 0, 2, 2, 0, 2), Region(255, runs=(1, 2, 5))
    drawn = draw_regions([Region(1, (square, (2, 0, 3, 0, 3, 2, 2, 2))), crowd], (2, 4))
    assert drawn.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0]]
    small = Region(2, ((1, 0, 2, 0, 2, 1, 1, 1),))
    assert draw_regions([small, Region(1, (square,)), crowd], (2, 4)).tolist() == [[1, 2, 0, 0], [1, 1, 0, 0]]
    assert draw_regions([crowd], (2, 4)).tolist() == [[0, 255, 0, 0], [255, 0, 0, 0]]
    assert draw_regions([], (2, 3)).tolist() == [[0] * 3] * 2
    with pytest.raises(SegError, match=r"a region of 3 pixels in an image of 4 x 2"):
        draw_regions([Region(1, runs=(1, 2))], (2, 4))


@pytest.mark.parametrize(("size", "wanted"), [((600, 200), (96, 32)), ((60, 90), (64, 96)), ((900, 9), (96, 24))])
def test_at_its_aspect_the_longer_side_is_what_was_asked_for(
    size: tuple[int, int], wanted: tuple[int, int], tmp_path: Path
) -> None:
    """Also where a JPEG is decoded smaller and turned; a strip is squashed to four to one."""
    ramp = np.repeat(np.linspace(0, 255, size[0]).round().astype(np.uint8), 3 * size[1]).reshape(*size, 3)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(ramp[::-1, ::-1].copy()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    decoded, original = decode_image(tmp_path / "a.jpg", 96, aspect=True)
    assert (decoded.shape[:2], original) == (wanted, size)
    expected = np.linspace(0, 255, wanted[0])[:, None, None]
    assert np.abs(decoded - expected).max() < 8
