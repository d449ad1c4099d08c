"""Decoding of photos and masks with Pillow."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from seg.data.dataset import BORDER, MOST_CLASSES, UNKNOWN, Codes, Colours, Region
from seg.data.layout import regular
from seg.errors import SegError, first_line

_ORIENTATION_TAG = 0x0112
# Pillow still raises an error for twice as many pixels.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _table(codes: dict[int, int]) -> bytes:
    return bytes(codes.get(code, 255) for code in range(256))


# The codes of files as targets (0 background, 1 foreground, 254 border, 255 unknown).
_TARGET_CODES: dict[Codes, bytes] = {
    "trimap": _table({1: 1, 2: 0, 3: BORDER}),
    "binary": _table({0: 0, 1: 1, 255: 1}),
    "ids": _table({0: 0} | dict.fromkeys(range(1, 255), 1)),
    "classes": _table({code: code for code in range(MOST_CLASSES + 1)}),
}
_EXPECTED = {
    "trimap": "1 (foreground), 2 (background) and 3 (border) were expected; write these codes (data=image_folder reads "
    "masks of 0 and 255)",
    "binary": "0 and 1, or 0 and 255, were expected; set data.mask_codes=trimap (1 foreground, 2 background, 3 border) "
    "or ids (0 background, 255 unknown, all else foreground) or classes (the same, but 1 and on are the classes)",
}
# What Pillow may decode, whatever a file's name; JPEG includes MPO. Else it would start Ghostscript for an EPS.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "JPEG2000", "AVIF", "PPM")
# A JPEG is decoded at 1/2, 1/4 or 1/8 if this many times the wanted size is left: with 2 the mean difference from
# the full decode is below half a grey level, with 1 it is three.
_DRAFT_GAP = 2


def decode_image(
    path: Path, size: int | None = None, aspect: bool = False
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Decode a photo to RGB and apply its EXIF orientation.

    Grey, palette and CMYK images are converted, transparency is laid on white; the first of several frames or pages is
    used. Grey of more than 8 bits is scaled by the smallest bit depth that holds the image's values, or by its range if
    values are negative. Alpha that is 0 everywhere is ignored.

    Args:
        path: the file; its extension does not matter.
        size: squash to ``size x size`` (antialiased bilinear), or None for the original size.
        aspect: ``size`` is the longer side, and the aspect is kept, see :func:`fitted`.

    Returns:
        uint8 ``(H, W, 3)`` and the original ``(height, width)`` after orientation.

    Raises:
        SegError: the file is missing, truncated or no image.
    """
    with _image_at(path) as image:
        orientation = _orientation(image)
        width, height = image.size
        target = None if size is None else fitted(image.size, size) if aspect else (size, size)
        drafted = image.draft(None, (_DRAFT_GAP * target[0], _DRAFT_GAP * target[1])) if target else None
        rgb = _to_rgb(image)
        if target is not None:
            # The drafted image is rounded up to whole pixels; the box is the photo's part of it.
            box = drafted[1] if drafted else None
            rgb = rgb.resize(target, Image.Resampling.BILINEAR, box=box)
        array = np.array(upright(rgb, orientation), dtype=np.uint8)
    return array, (width, height) if orientation >= 5 else (height, width)


def fitted(size: tuple[int, int], longer: int) -> tuple[int, int]:
    """Scale two sides so that the longer one is ``longer``; the shorter one is at least a quarter of it."""
    first, second = (max(1, round(longer * max(0.25, side / max(size)))) for side in size)
    return first, second


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Apply an EXIF orientation to an image."""
    if orientation == 1:
        return image
    image = Image.fromarray(np.asarray(image))
    image.getexif()[_ORIENTATION_TAG] = orientation
    return ImageOps.exif_transpose(image)


def decode_trimap(
    path: Path,
    hw: tuple[int, int],
    codes: Codes = "trimap",
    photo: Path | None = None,
    colours: Colours | None = None,
) -> tuple[npt.NDArray[np.uint8], bool]:
    """Decode ground truth, resized to the nearest pixel if need be.

    Args:
        path: the file, of one channel (indices of a palette image, grey values of a grey RGB image).
        hw: ``(height, width)`` of the result.
        codes: ``trimap``, Oxford-IIIT Pet's: 1 foreground, 2 background, 3 border; ``binary``: 0 background, 1 or 255
            foreground, values between them in a 0/255 mask unknown; ``ids``: 0 background, 255 unknown, all else (also
            above 255) foreground; ``classes``: 0 background, 1 and on the classes, 255 unknown.
        photo: the mask's photo: if its EXIF orientation swaps the sides, a mask with the sides of the stored photo is
            turned, too.
        colours: see :func:`mask_values`.

    Returns:
        uint8 ``(H, W)``: 0 background, 1 foreground (for ``classes``: 1 and on the classes), 254 border, 255 for any
        other code in the file; and whether the file was resized.

    Raises:
        SegError: the file is missing, truncated or no image, it is in colour, has other proportions than ``hw``, or
            other codes.
    """
    expected = "trimap with the codes 1, 2, 3" if codes == "trimap" else "mask of one channel"
    values = mask_values(path, expected, colours, beyond=UNKNOWN - 1 if codes == "ids" else UNKNOWN)
    if not _are_codes_of(codes, there := set(codes_in(values))):
        shown = ", ".join(map(str, sorted(there)[:6]))
        raise SegError(f"{path}: holds {shown} where {_EXPECTED.get(codes)}")
    if codes == "binary":
        with _image_at(path) as image:
            palette = image.getpalette() if image.mode == "P" else None
        if palette and palette[:6] == [255, 255, 255, 0, 0, 0]:
            raise SegError(f"{path}: a palette with white as 0 and black as 1; save it in grey, 0 being background")
        if len(there) > 2:  # soft edges between 0 and 255; 1 is one of them
            values = np.where(values == 1, np.uint8(2), values)
    target = to_target(values, codes)
    if target.shape == hw:
        return target, False
    if photo is not None and target.shape == hw[::-1] and (orientation := exif_orientation(photo)) >= 5:
        return np.array(upright(Image.fromarray(target), orientation), dtype=np.uint8), False
    scale = target.shape[0] / hw[0], target.shape[1] / hw[1]
    is_cut = any(abs(scale[0] - scale[1]) * side > max(1, 0.02 * scale[0] * side) for side in hw)
    if is_cut or target.size == 1:
        sides = f"{target.shape[1]} x {target.shape[0]} has other proportions than its image of {hw[1]} x {hw[0]}"
        raise SegError(f"{path}: {sides}; give the mask of the whole image")
    resized = Image.fromarray(target).resize((hw[1], hw[0]), Image.Resampling.NEAREST)
    return np.array(resized, dtype=np.uint8), True


def mask_values(
    path: Path, expected: str = "mask of one channel", colours: Colours | None = None, *, beyond: int = UNKNOWN
) -> npt.NDArray[np.uint8]:
    """The codes in a mask's file, ``uint8 (H, W)``: a palette's indices, a grey RGB image's grey values.

    Args:
        path: the file. expected: for messages. colours: codes by colour of an RGB mask; None: grey.
        beyond: the value for codes that do not fit a byte.

    Raises:
        SegError: the file is missing, truncated or no image, or has a colour that is not in ``colours``.
    """
    with _image_at(path) as image:
        values = np.asarray(image)
    if colours and image.mode in ("RGB", "RGBA"):
        flat = values[..., :3].astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        shown, inverse = np.unique(flat, return_inverse=True)
        rgb = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in shown]
        if other := [colour for colour in rgb if colour not in colours]:
            raise SegError(f"{path}: has the colour {other[0]}, which is of no class")
        return np.array([colours[colour] for colour in rgb], np.uint8)[inverse].reshape(flat.shape)
    if image.mode in ("LA", "RGBA") and np.ptp(values[..., :-1]) == 0 < np.ptp(values[..., -1]):
        raise SegError(f"{path}: one colour, with the mask in the alpha channel; save the mask as a grey image")
    if values.ndim == 3:
        is_grey = image.mode in ("RGB", "RGBA") and (values[..., :3] == values[..., :1]).all()
        if image.mode not in ("LA", "PA") and not is_grey:
            raise SegError(f"{path}: a coloured image where a {expected} was expected; save it in grey")
        values = values[..., 0]
    if values.dtype != np.uint8:
        values = np.where((values >= 0) & (values <= 255), values, beyond).astype(np.uint8)
    return values


def codes_in(values: npt.NDArray[np.uint8]) -> list[int]:
    """The codes in ground truth, ascending; ten times as fast as ``np.unique``."""
    codes: list[int] = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    return codes


def to_target(values: npt.NDArray[np.uint8], codes: Codes) -> npt.NDArray[np.uint8]:
    """Translate a file's codes, see :func:`decode_trimap`; three times as fast as indexing a table."""
    translated = bytearray(values.tobytes()).translate(_TARGET_CODES[codes])
    return np.frombuffer(translated, np.uint8).reshape(values.shape)


def draw_regions(regions: Sequence[Region], hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Draw a target with pycocotools: crowds first, then smaller objects over larger ones.

    Returns:
        ``uint8 (H, W)`` with the regions' codes.

    Raises:
        SegError: runs of an image of another size.
    """
    side = max(hw)
    layers = []
    for region in regions:
        if region.runs and (sum(region.runs) != hw[0] * hw[1] or min(region.runs) < 0):
            raise SegError(f"a region of {sum(region.runs)} pixels in an image of {hw[1]} x {hw[0]}")
        if region.runs:
            layers.append((region.code, coco_mask.frPyObjects({"size": hw, "counts": region.runs}, *hw)))
        elif region.polygons:
            # pycocotools walks along every edge, however long.
            polygons = [np.clip(polygon, -side, 2 * side).tolist() for polygon in region.polygons]
            layers.append((region.code, coco_mask.merge(coco_mask.frPyObjects(polygons, *hw))))
    target = np.zeros(hw, np.uint8, order="F")
    for code, rle in sorted(layers, key=lambda layer: (layer[0] != UNKNOWN, -int(coco_mask.area(layer[1])))):
        target[coco_mask.decode(rle).view(bool)] = code
    return np.ascontiguousarray(target)


def _are_codes_of(codes: Codes, there: set[int]) -> bool:
    """Whether the values of a mask follow this convention."""
    if codes == "trimap":
        return not there.isdisjoint({1, 2, 3}) and (0 not in there or 2 in there)
    if codes == "binary":  # or with soft edges or ignored pixels between 0 and 255; ids are small
        is_soft = {0, 255} <= there and (1 not in there or any(64 <= code < 255 for code in there))
        return is_soft or there <= {0, 1} or there <= {0, 255}
    return True


def image_size(path: Path) -> tuple[int, int]:
    """``(height, width)`` of a photo after EXIF orientation. Raises SegError: it is no image."""
    with _image_at(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def exif_orientation(path: Path) -> int:
    """EXIF orientation of a photo, 1 by default. Raises SegError: it is no image."""
    with _image_at(path) as image:
        return _orientation(image)


def image_warnings(path: Path) -> tuple[str, ...]:
    """Warnings about a photo, to be counted over a data set. Raises SegError: it is no image."""
    with _image_at(path) as image:
        found = []
        if image.mode.startswith("I;16") and (white := _deep_values(image)[2]) < 65535:
            found.append(f"16-bit images without a value above {white:g} (used as white)")
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            found.append("images of several frames or pages (first used)")
        if image.has_transparency_data:
            is_clear = image.convert("RGBA").getchannel("A").getextrema()[1] == 0
            how = "that is 0 everywhere (ignored)" if is_clear else "(laid on white)"
            found.append(f"images with an alpha channel {how}")
        if _orientation(image) > 1:
            found.append("images turned by their EXIF orientation")
    return tuple(found)


@contextmanager
def _image_at(path: Path) -> Iterator[Image.Image]:
    """Open an image; any error of the decoder inside the block becomes a SegError."""
    try:
        if path.exists():
            regular(path)
        with Image.open(path, formats=formats()) as image:
            yield image
    except (SegError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise SegError(f"{path}: no such file") from error
    # For broken files Pillow's plugins raise OSError, SyntaxError, ValueError, EOFError, struct.error and others.
    except Exception as error:
        how = "replace or shrink it, convert it to JPEG or PNG, or fetch it with git lfs pull"
        raise SegError(f"{path}: not a whole image ({first_line(error)}); {how}") from error


@cache
def formats() -> tuple[str, ...]:
    """The allowed formats that this build of Pillow has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    try:
        orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # of a broken EXIF block
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # Pillow's own conversion clips at 255
        values, black, white = _deep_values(image)
        values -= black
        values *= 255 / (white - black)
        grey = np.rint(np.clip(values, 0, 255, out=values), out=values).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # without a copy of RGB images
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema()[1] == 0:
        return rgba.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _deep_values(image: Image.Image) -> tuple[npt.NDArray[np.float64], float, float]:
    """Values of an image of more than 8 bits (NaN and infinity become 0), and its black and white.

    White is ``2 ** k - 1`` of the smallest depth k from 8 to 16 that holds the values: X-rays and microscopes use 10 or
    12 of 16 bits. For a float image up to 1 it is 1; beyond 16 bits, and with negative values (CT), the largest value.
    """
    values = np.nan_to_num(np.asarray(image, np.float64), nan=0, posinf=0, neginf=0)
    black, top = float(values.min(initial=0)), float(values.max(initial=0))
    if black < 0:
        return values, black, top
    if image.mode == "F" and top <= 1:
        return values, 0.0, 1.0
    return values, 0.0, next((2.0**bits - 1 for bits in range(8, 17) if top < 2**bits), top)
