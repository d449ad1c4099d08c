"""Real image files, damaged in every way: decoded, or refused in a line; in seconds, in bounded memory."""

import io
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from limits import COUNT, refused, tried
from PIL import Image

from seg.data.decode import decode_image, decode_trimap, image_size, image_warnings

SIDES = (37, 23)


@cache
def seeds() -> list[bytes]:
    """A small file of every kind that cameras, scanners and tools write."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (*SIDES, 3), dtype=np.uint8)).resize(SIDES)
    deep = Image.fromarray(rng.integers(0, 65536, SIDES, dtype=np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (rgb, "JPEG", {"progressive": True, "exif": turned}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "PNG", {}),
        (rgb.convert("P"), "PNG", {"transparency": 0}),
        (rgb.convert("RGBA"), "PNG", {}),
        (deep, "PNG", {}),
        (Image.fromarray(rng.integers(1, 4, SIDES[::-1], dtype=np.uint8)), "PNG", {}),
        (rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}),
        (rgb, "BMP", {}),
        (rgb, "TIFF", {"compression": "tiff_deflate"}),
        (deep, "TIFF", {"compression": "tiff_lzw"}),
        (Image.fromarray(rng.random(SIDES, np.float32)), "TIFF", {}),
        (rgb, "WEBP", {}),
        (rgb, "PPM", {}),
    ]
    files = [io.BytesIO() for _ in kinds]
    for file, (image, form, options) in zip(files, kinds, strict=True):
        image.save(file, form, **options)
    return [file.getvalue() for file in files]


def mutated(rng: np.random.Generator) -> bytes:
    """A seed with one to four damages: bytes, bits, lengths, pieces cut, doubled or of another file."""
    data = bytearray(seeds()[rng.integers(len(seeds()))])
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
                extremes = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"\x40\0\0\0")
                data[at : at + 4] = extremes[rng.integers(len(extremes))]
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                data[at:] = seeds()[rng.integers(len(seeds()))][at:]
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


@pytest.mark.filterwarnings("ignore")
def test_damaged_images(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    for content in seeds():
        path.write_bytes(content)
        assert decode_image(path, 32)[0].shape == (32, 32, 3)
    for seed in range(COUNT or 150):
        path.write_bytes(mutated(np.random.default_rng(seed)))
        try:
            read(path)
        except BaseException as error:
            raise AssertionError(f"the image of seed {seed}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("side", [2**31 - 1, 13_500])
def test_more_pixels_than_anybody_photographs(side: int, tmp_path: Path) -> None:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    refused(lambda: decode_image(tmp_path / "bomb.png", 32), r"exceeds limit of 178956970 pixels")
