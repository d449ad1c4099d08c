"""The toy data sets: drawn animals, one in a picture (``toy_pets``) or mostly two (``toy_scenes``).

Every stage runs on them in minutes and offline; figures on them say nothing about photographs.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from seg.data.toy.animals import POSES, Animal
from seg.data.toy.coats import BREEDS, Breed
from seg.data.toy.drawing import Array, Ellipse, Frame, Window, clouds, extent
from seg.data.toy.scenes import draw_scene
from seg.errors import SegError

UNKNOWN = 255
PET, BACKGROUND, BORDER = 1, 2, 3
# The numbers of animals of twenty scenes.
_COUNTS = (0,) * 2 + (1,) * 5 + (2,) * 13
Box = tuple[int, int, int, int]
# Stem, photo ``uint8 (H, W, 3)``, mask, and XML or "" for none.
_Files = tuple[str, NDArray[np.uint8], Image.Image, str]


class Picture(NamedTuple):
    """Some animals in a scene.

    Attributes:
        image: ``uint8 (H, W, 3)`` RGB.
        animals: ``uint8 (H, W)``: 0 background, from 1 on the animals, later ones before earlier ones, 255 their rims.
        heads: ``bool (H, W)`` for each animal, the mask of its head.
    """

    image: NDArray[np.uint8]
    animals: NDArray[np.uint8]
    heads: tuple[NDArray[np.bool_], ...]


def draw_picture(rng: np.random.Generator, breeds: Sequence[Breed], size: int) -> Picture:
    """Draw an animal of each breed in a scene ``size`` pixels short and up to 1.3 times that long."""
    long = round(size * rng.uniform(1, 1.3))
    shape = (size, long) if rng.random() < 0.7 else (long, size)
    angle = float(rng.uniform(-np.pi, 0))  # light from somewhere above
    light, contrast = (float(np.cos(angle)), float(np.sin(angle))), float(rng.uniform(0.35, 0.75))
    canvas = draw_scene(rng, shape, light, contrast)
    solids, heads = [], []
    for breed, room in zip(breeds, _rooms(shape, len(breeds)), strict=True):
        animal = Animal(breed, int(rng.integers(len(POSES))), int(rng.integers(2**32)))
        frame, window = _stand(rng, animal, shape, room)
        shadow = Ellipse((0, 0.55), (0.75, 0.16)).on(frame).distance / (0.12 * frame.scale)
        canvas *= (1 - 0.4 / (1 + np.exp(np.clip(shadow, -20, 20))))[..., None]
        covered, head = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        covered[window], head[window] = animal.draw(rng, canvas[window], frame.cut(window), light, contrast)
        solids.append(ndimage.gaussian_filter(covered, 0.5) > 0.5)
        heads.append(head > 0.5)
    return Picture(_photograph(rng, canvas), layered(shape, solids, max(1.0, size / 85)), tuple(heads))


def layered(shape: tuple[int, int], solids: Sequence[NDArray[np.bool_]], rim: float) -> NDArray[np.uint8]:
    """The animals' masks as numbers from 1, later ones in front; 255 up to ``rim`` pixels from an outline."""
    out = np.zeros(shape, np.uint8)
    for number, solid in enumerate(solids, 1):
        out[solid] = number
        gap = np.where(solid, ndimage.distance_transform_edt(solid), ndimage.distance_transform_edt(~solid))
        out[gap <= rim] = UNKNOWN
    return out


def _photograph(rng: np.random.Generator, scene: Array) -> NDArray[np.uint8]:
    """Light and camera: uneven light, white balance, exposure, gamma, grain."""
    high, wide = scene.shape[:2]
    uneven = 1 + float(rng.uniform(0, 0.16)) * clouds(rng, (high, wide), wide * 0.8, 0.3)
    balance = (rng.normal(1, 0.03, 3) * rng.uniform(0.82, 1.15)).astype(np.float32)
    exposed = np.clip(scene * uneven[..., None] * balance, 0, 1.15) / 1.05
    grain = rng.standard_normal(scene.shape, dtype=np.float32) * float(rng.uniform(0.004, 0.02))
    return (np.clip(exposed ** rng.uniform(0.8, 1.15) + grain, 0, 1) * 255).astype(np.uint8)


def _stand(rng: np.random.Generator, animal: Animal, shape: tuple[int, int], room: Window) -> tuple[Frame, Window]:
    """Draw an animal's place, size and angle so that it lies inside of its part of the picture.

    Returns the frame over the whole picture and the window of the animal with its fur.
    """
    angle, flip = float(rng.normal(0, 0.13)), bool(rng.random() < 0.5)
    left, top, right, bottom = animal.extent(angle, flip)
    above, before = (side.start for side in room)
    high, wide = (side.stop - side.start for side in room)
    scale = float(rng.uniform(0.74, 0.98)) * min(wide / (right - left), high / (bottom - top))
    x = before + float(rng.uniform(0.03, 0.97)) * (wide - scale * (right - left)) - scale * left
    y = above + float(rng.uniform(0.03, 0.97)) * (high - scale * (bottom - top)) - scale * top
    fur = 3 + 0.05 * scale
    rows = slice(max(0, int(y + scale * top - fur)), int(y + scale * bottom + fur))
    columns = slice(max(0, int(x + scale * left - fur)), int(x + scale * right + fur))
    return Frame.place(shape, (x, y), scale, angle, flip), (rows, columns)


def _rooms(shape: tuple[int, int], count: int) -> list[Window]:
    """A part of the picture for each animal, side by side along its longer side; neighbours share a quarter."""
    along = int(shape[1] >= shape[0])
    each = shape[along] if count < 2 else shape[along] / (1 + 0.75 * (count - 1))
    starts = [round(0.75 * each * place) for place in range(count)]
    parts = [slice(start, min(shape[along], start + round(each))) for start in starts]
    return [(slice(0, shape[0]), part) if along else (part, slice(0, shape[1])) for part in parts]


def draw_toy_pets(out: Path, *, images: int, breeds: int, size: int, seed: int) -> None:
    """Draw an animal in each picture, in the official layout below ``out/oxford-iiit-pet/``.

    Every third image of a breed is in the test split. A picture depends on the seed, its breed and its number only.

    Args:
        out: the data root; it is created.
        images: number of pictures in both splits, the same for each breed.
        breeds: number of breeds, from the start of ``BREEDS``.
        size: shorter side of the pictures in pixels.
        seed: the same seed gives the same bytes.

    Raises:
        SegError: breeds, images or size that cannot be drawn, or a folder that cannot be written.
    """
    _check("toy_pets", images, breeds, size)
    chosen = sorted(BREEDS[:breeds], key=lambda b: b.name.lower())
    jobs = [(breed, n) for i, breed in enumerate(chosen) for n in range(1, 1 + len(range(i, images, breeds)))]
    lists: dict[str, list[str]] = {"list": [], "trainval": [], "test": []}
    for breed, number in jobs:
        index, kind = chosen.index(breed) + 1, 1 if breed.is_cat else 2
        of_kind = sum(other.is_cat == breed.is_cat for other in chosen[:index])
        for name in ("list", "trainval" if number % 3 else "test"):
            lists[name].append(f"{breed.name}_{number} {index} {kind} {of_kind}\n")

    def draw(job: tuple[Breed, int]) -> _Files:
        breed, number = job
        picture = draw_picture(np.random.default_rng([seed, BREEDS.index(breed), number]), [breed], size)
        trimap = np.array([BACKGROUND, PET], np.uint8)[np.minimum(picture.animals, 1)]
        trimap[picture.animals == UNKNOWN] = BORDER
        head = extent(picture.heads[0] & (picture.animals > 0))
        stem, objects = f"{breed.name}_{number}", [("cat" if breed.is_cat else "dog", head)]
        xml = _xml(stem, trimap.shape, objects) if number % 3 else ""
        return stem, picture.image, Image.fromarray(trimap), xml

    folders = ("images", "annotations/trimaps", "annotations/xmls")
    texts = {f"annotations/{name}.txt": "".join(lines) for name, lines in lists.items()}
    _write("toy_pets", out / "oxford-iiit-pet", folders, texts, draw, jobs)


def breeds_of(number: int, breeds: int, seed: int) -> list[int]:
    """The breeds in a scene. In each block of ``breeds`` pictures every breed is the first of one picture.

    No picture of the first block is empty, so the training images have all breeds.
    """
    rng = np.random.default_rng([seed, breeds, number])
    count = _COUNTS[rng.integers(len(_COUNTS))]
    first, step = number % breeds, int(rng.integers(1, breeds))
    return [first, (first + step) % breeds][: max(count, int(number < breeds))]


def draw_toy_scenes(out: Path, *, images: int, breeds: int, size: int, seed: int) -> None:
    """Draw scenes, mostly of two animals of different breeds, below ``out/VOCdevkit/VOC2012/``.

    The classes' names are in ``out/classes.txt``. Every third block of ``breeds`` pictures is for validation. A picture
    depends on the seed, the number of breeds and its own number only. Arguments and errors: see :func:`draw_toy_pets`.
    """
    _check("toy_scenes", images, breeds, size)
    stems = [f"scene_{number + 1:04d}" for number in range(images)]
    coats = [(0, 0, 0), *(tuple(round(255 * c) for c in breed.coat) for breed in BREEDS[:breeds])]
    palette = [c for coat in coats for c in coat] + [224] * 3 * (256 - len(coats))

    def draw(number: int) -> _Files:
        own = breeds_of(number, breeds, seed)
        rng = np.random.default_rng([seed, breeds, number, 1])
        picture = draw_picture(rng, [BREEDS[b] for b in own], size)
        codes = np.zeros(256, np.uint8)
        codes[UNKNOWN] = UNKNOWN
        objects = []
        for place, breed in enumerate(own, 1):
            codes[place] = breed + 1
            left, top, right, bottom = extent(picture.animals == place)
            objects.append((BREEDS[breed].name, (left, top, right + 1, bottom + 1)))
        mask = Image.fromarray(codes[picture.animals]).convert("P")
        mask.putpalette(palette)
        xml = _xml(stems[number], picture.animals.shape, objects)
        return stems[number], picture.image, mask, xml

    folders = ("JPEGImages", "SegmentationClass", "Annotations")
    val = [stem for number, stem in enumerate(stems) if number // breeds % 3 == 2]
    lists = {"train": [stem for stem in stems if stem not in val], "val": val, "trainval": sorted(stems)}
    texts = {f"ImageSets/Segmentation/{name}.txt": "".join(f"{s}\n" for s in own) for name, own in lists.items()}
    names = ["background", *(breed.name for breed in BREEDS[:breeds])]
    texts["../../classes.txt"] = "".join(f"{name}\n" for name in names)
    _write("toy_scenes", out / "VOCdevkit/VOC2012", folders, texts, draw, range(images))


def _xml(stem: str, shape: tuple[int, ...], objects: Sequence[tuple[str, Box]]) -> str:
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for name, (left, top, right, bottom) in objects
    )
    size = f"<size><width>{shape[1]}</width><height>{shape[0]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{stem}.jpg</filename>{size}{boxes}</annotation>\n"


def _check(what: str, images: int, breeds: int, size: int) -> None:
    if not 2 <= breeds <= len(BREEDS) or images < 3 * breeds or size < 48:
        raise SegError(
            f"{what}: images={images}, breeds={breeds}, size={size}: it draws 2 to {len(BREEDS)} breeds, 3 or more "
            "images of each, 48 or more pixels large; set data.images, data.breeds or data.size"
        )


def _write(
    what: str,
    root: Path,
    folders: tuple[str, str, str],
    texts: dict[str, str],
    draw: Callable[[Any], _Files],
    jobs: Iterable[Any],
) -> None:
    """Draw in threads; photos, masks and XML go into the three folders, ``texts`` are files by name."""
    try:
        images, masks, xmls = (root / folder for folder in folders)
        for folder in (images, masks, xmls, *((root / name).parent for name in texts)):
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
            for stem, image, mask, xml in pool.map(draw, jobs):
                Image.fromarray(image).save(images / f"{stem}.jpg", quality=90)
                mask.save(masks / f"{stem}.png")
                if xml:
                    (xmls / f"{stem}.xml").write_text(xml, encoding="utf-8")
        for name, text in texts.items():
            (root / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SegError(f"{what}: cannot write below {root}: {error}; choose a folder that can be written") from error
