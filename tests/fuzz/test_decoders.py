"""Real image files, damaged in every way: decoded, or refused in a line; in seconds, in bounded memory."""

import io
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from limits import COUNT, refused, tried
from PIL import Image

from seg.data import decode
from seg.data.decode import decode_image, decode_trimap, image_size, image_warnings

SIDES = (37, 23)


def _saved(image: Image.Image, form: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


@cache
def seeds() -> dict[str, bytes]:
    """A small file of every kind that cameras, scanners and tools write."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (*SIDES, 3), dtype=np.uint8)).resize(SIDES)
    trimap = Image.fromarray(rng.integers(1, 4, SIDES[::-1], dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, SIDES, dtype=np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: dict[str, Callable[[], bytes]] = {
        "jpeg": lambda: _saved(rgb, "JPEG"),
        "progressive": lambda: _saved(rgb, "JPEG", progressive=True, exif=turned),
        "cmyk": lambda: _saved(rgb.convert("CMYK"), "JPEG"),
        "png": lambda: _saved(rgb, "PNG"),
        "palette": lambda: _saved(rgb.convert("P"), "PNG", transparency=0),
        "alpha": lambda: _saved(rgb.convert("RGBA"), "PNG"),
        "deep": lambda: _saved(deep, "PNG"),
        "trimap": lambda: _saved(trimap, "PNG"),
        "gif": lambda: _saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)]),
        "bmp": lambda: _saved(rgb, "BMP"),
        "tiff": lambda: _saved(rgb, "TIFF", compression="tiff_deflate"),
        "lzw": lambda: _saved(deep, "TIFF", compression="tiff_lzw"),
        "float": lambda: _saved(Image.fromarray(rng.random(SIDES, np.float32)), "TIFF"),
        "webp": lambda: _saved(rgb, "WEBP"),
        "ppm": lambda: _saved(rgb, "PPM"),
    }
    return {name: make() for name, make in kinds.items()}


def mutated(rng: np.random.Generator) -> bytes:
    """A seed with one to four damages: bytes, bits, lengths, pieces cut, doubled or of another file."""
    names = list(seeds())
    data = bytearray(seeds()[names[rng.integers(len(names))]])
    for _ in range(rng.integers(1, 5)):
        at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 33))
        # Headers are short, and decide most.
        at = at if rng.random() < 0.5 else at % 64
        match int(rng.integers(7)):
            case 0:
                data[at : at + 1] = bytes([int(rng.integers(256))])
            case 1 if at < len(data):
                data[at] ^= 1 << int(rng.integers(8))
            case 2:
                extremes = (
                    b"\x00\x00\x00\x00",
                    b"\xff\xff\xff\xff",
                    b"\x7f\xff\xff\xff",
                    b"\x00\x00\xff\xff",
                    b"\x40\0\0\0",
                )
                data[at : at + 4] = extremes[rng.integers(len(extremes))]
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                other = seeds()[names[rng.integers(len(names))]]
                data[at:] = other[at:]
        data = data or bytearray(b"\xff")
    return bytes(data)


def read(path: Path) -> None:
    """All that a run reads of an image and of ground truth."""
    photo = tried(lambda: decode_image(path, 32))
    if photo is not None:
        assert photo[0].shape == (32, 32, 3) and photo[0].dtype == np.uint8 and min(photo[1]) > 0
    size = tried(lambda: image_size(path))
    assert photo is None or size == photo[1]
    tried(lambda: image_warnings(path))
    for codes in ("trimap", "binary", "ids"):
        target = tried(lambda codes=codes: decode_trimap(path, (20, 30), codes, path))  # type: ignore[misc]
        assert target is None or (target[0].shape == (20, 30) and set(np.unique(target[0])) <= {0, 1, 2, 255})


def test_every_seed_is_read(tmp_path: Path) -> None:
    for name, content in seeds().items():
        (tmp_path / name).write_bytes(content)
        assert decode_image(tmp_path / name, 32)[0].shape == (32, 32, 3)


@pytest.mark.filterwarnings("ignore")
def test_damaged_images(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    for seed in range(COUNT or 150):
        path.write_bytes(mutated(np.random.default_rng(seed)))
        try:
            read(path)
        except BaseException as error:
            raise AssertionError(f"the image of seed {seed}: {type(error).__name__}: {error}") from error


# -- what was found before -------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.fixture
def fresh_limit() -> object:
    decode._most_pixels.cache_clear()
    yield
    decode._most_pixels.cache_clear()


@pytest.mark.parametrize("sides", [(2**31 - 1, 2**31 - 1), (13_500, 13_500)])
def test_more_pixels_than_anybody_photographs(sides: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(*sides))
    refused(lambda: decode_image(path, 32), "pixels, and at most 178956970 are decoded; .* variable WEAKSEG_MAX_PIXELS")


@pytest.mark.usefixtures("fresh_limit")
def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(seeds()["png"])
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS
    )  # which decoding sets, is as before at the end
    monkeypatch.setenv("WEAKSEG_MAX_PIXELS", "800")
    refused(lambda: image_size(path), "too many pixels, and at most 800 are decoded")
    decode._most_pixels.cache_clear()
    monkeypatch.setenv("WEAKSEG_MAX_PIXELS", "many")
    refused(lambda: image_size(path), "WEAKSEG_MAX_PIXELS=many: must be a number of pixels")
    decode._most_pixels.cache_clear()
    monkeypatch.setenv("WEAKSEG_MAX_PIXELS", "851")
    assert image_size(path) == SIDES[::-1]
