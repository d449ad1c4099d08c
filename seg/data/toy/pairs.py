"""The embedded data set of many classes: drawn animals, mostly two of different breeds, in Pascal VOC's layout.

A toy, as :mod:`seg.data.toy.pets`, whose animals and scenes these are.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seg.data.toy.coats import BREEDS
from seg.data.toy.drawing import extent
from seg.data.toy.pets import OBJECT, XML, check_drawable, draw_animals, outlined
from seg.errors import SegError

# How many animals a picture has, of twenty.
_COUNTS = (0,) * 2 + (1,) * 5 + (2,) * 13
UNKNOWN = 255


def class_mask(shape: tuple[int, int], solids: list[NDArray[np.bool_]], rims: list[NDArray[np.bool_]]) -> np.ndarray:
    """Ids from 1 for each animal, ``uint8 (H, W)``, the later before the earlier; their rims are unknown."""
    mask = np.zeros(shape, np.uint8)
    for number, (solid, rim) in enumerate(zip(solids, rims, strict=True), 1):
        mask[solid] = number
        mask[rim] = UNKNOWN
    return mask


def breeds_of(number: int, breeds: int, seed: int) -> list[int]:
    """Which breeds are in a picture. Of each block of ``breeds`` pictures every breed is the first of one.

    In the first block none is empty: it is of the training images, which so have all breeds.
    """
    rng = np.random.default_rng([seed, breeds, number])
    count = _COUNTS[rng.integers(len(_COUNTS))]
    first, step = number % breeds, int(rng.integers(1, breeds))
    return [first, (first + step) % breeds][: max(count, int(number < breeds))]


def _draw(number: int, *, breeds: int, size: int, seed: int) -> tuple[Image.Image, Image.Image, str]:
    """Photo, mask and XML of a picture."""
    own, stem = breeds_of(number, breeds, seed), f"scene_{number + 1:04d}"
    rng = np.random.default_rng([seed, breeds, number, 1])
    drawn = draw_animals(rng, [BREEDS[b] for b in own], size)
    high, wide = drawn.image.shape[:2]
    outlines = [outlined(covered, drawn.rim) for covered in drawn.animals]
    places = class_mask((high, wide), [solid for solid, _ in outlines], [rim for _, rim in outlines])
    codes = np.zeros(256, np.uint8)
    codes[UNKNOWN] = UNKNOWN
    objects = ""
    for place, breed in enumerate(own, 1):
        codes[place] = breed + 1
        left, top, right, bottom = extent(places == place)
        box = (left, top, right + 1, bottom + 1)
        objects += OBJECT.format(name=BREEDS[breed].name, box=box)
    mask = Image.fromarray(codes[places]).convert("P")
    coats = [(0, 0, 0), *(tuple(round(255 * c) for c in BREEDS[b].coat) for b in range(breeds))]
    mask.putpalette([c for coat in coats for c in coat] + [224] * 3 * (256 - len(coats)))
    about = {"folder": "VOC2012", "stem": stem, "width": wide, "height": high, "segmented": 1}
    return Image.fromarray(drawn.image), mask, XML.format(**about, objects=objects)


def draw_toy_scenes(out: Path, *, images: int, breeds: int, size: int, seed: int) -> None:
    """Draw the toy data set below ``out/VOCdevkit/VOC2012/``, with ``out/classes.txt``.

    Of three blocks of ``breeds`` pictures the third is for validation. A picture depends on the seed, the number of
    breeds and its own number alone: a larger set begins with the smaller one's pictures.

    Args:
        out: the data root; it and the folders below are made.
        images: number of pictures over both splits.
        breeds: the first so many of ``BREEDS``, which are the classes.
        size: shorter side of the pictures in pixels.
        seed: the same seed gives the same bytes.

    Raises:
        SegError: breeds, images or size that cannot be drawn; a folder that cannot be written.
    """
    check_drawable("toy_scenes", images, breeds, size)
    root = out / "VOCdevkit" / "VOC2012"
    lists: dict[str, list[str]] = {"train": [], "val": []}
    try:
        for folder in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
            drawn = pool.map(partial(_draw, breeds=breeds, size=size, seed=seed), range(images))
            for number, (photo, mask, xml) in enumerate(drawn):
                stem = f"scene_{number + 1:04d}"
                photo.save(root / "JPEGImages" / f"{stem}.jpg", quality=90)
                mask.save(root / "SegmentationClass" / f"{stem}.png")
                (root / "Annotations" / f"{stem}.xml").write_text(xml, encoding="utf-8")
                lists["val" if number // breeds % 3 == 2 else "train"].append(stem)
        for name, stems in (lists | {"trainval": sorted(lists["train"] + lists["val"])}).items():
            text = "".join(f"{stem}\n" for stem in stems)
            (root / "ImageSets/Segmentation" / f"{name}.txt").write_text(text, encoding="utf-8")
        names = ["background", *(breed.name for breed in BREEDS[:breeds])]
        (out / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    except OSError as error:
        raise SegError(
            f"toy_scenes: cannot write below {root}: {error}; choose a folder that can be written"
        ) from error
