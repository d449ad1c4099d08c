"""The embedded data set: drawn animals in the official folder layout of Oxford-IIIT Pet.

It is a toy. It lets every stage run, and be seen to do its work, in minutes and without a network; figures
measured on it say nothing about photographs.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from seg.data.toy.animals import POSES, Animal
from seg.data.toy.coats import BREEDS, Breed
from seg.data.toy.drawing import Array, Ellipse, Frame, Window, clouds, extent
from seg.data.toy.scenes import draw_scene
from seg.errors import SegError

HEADER = """#Image CLASS-ID SPECIES BREED ID
#ID: 1:{classes} Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-{cats}:Cat 1:{dogs}:Dog
#All images with 1st letter as capital are cat images
#images with small first letter are dog images
"""
XML = (
    "<annotation><folder>{folder}</folder><filename>{stem}.jpg</filename>"
    "<source><database>weakseg toy pets</database><image>drawn</image></source>"
    "<size><width>{width}</width><height>{height}</height><depth>3</depth></size><segmented>{segmented}</segmented>"
    "{objects}</annotation>\n"
)
OBJECT = (
    "<object><name>{name}</name><pose>Frontal</pose><truncated>0</truncated><occluded>0</occluded>"
    "<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>"
    "<difficult>0</difficult></object>"
)
PET, BACKGROUND, BORDER = 1, 2, 3


@dataclass(frozen=True)
class Picture:
    """One drawn picture.

    Attributes:
        image: ``uint8 (H, W, 3)`` RGB.
        trimap: ``uint8 (H, W)``, 1 pet, 2 background, 3 border.
        head: ``(xmin, ymin, xmax, ymax)`` of the head in pixels, inside the image and the animal's own box.
    """

    image: NDArray[np.uint8]
    trimap: NDArray[np.uint8]
    head: tuple[int, int, int, int]


def _photograph(rng: np.random.Generator, scene: Array) -> NDArray[np.uint8]:
    """Light and camera: uneven light, white balance, exposure, gamma, grain."""
    high, wide = scene.shape[:2]
    uneven = 1 + float(rng.uniform(0, 0.16)) * clouds(rng, (high, wide), wide * 0.8, 0.3)
    balance = (rng.normal(1, 0.03, 3) * rng.uniform(0.82, 1.15)).astype(np.float32)
    exposed = np.clip(scene * uneven[..., None] * balance, 0, 1.15) / 1.05
    grain = rng.standard_normal(scene.shape, dtype=np.float32) * float(rng.uniform(0.004, 0.02))
    return (np.clip(exposed ** rng.uniform(0.8, 1.15) + grain, 0, 1) * 255).astype(np.uint8)


def _stand(rng: np.random.Generator, animal: Animal, shape: tuple[int, int], room: Window) -> tuple[Frame, Window]:
    """Choose where in a room of the picture an animal stands, how large and how turned, so that all of it is in there.

    Returns the frame over the whole picture and the window that holds the animal, fur included.
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


@dataclass(frozen=True)
class Drawn:
    """Some animals in a scene.

    Attributes:
        image: ``uint8 (H, W, 3)`` RGB.
        animals, heads: ``float32 (H, W)`` for each animal, in [0, 1], what it and its head cover; later ones stand
            before earlier ones.
        rim: pixels of an outline to either side that belong to neither.
    """

    image: NDArray[np.uint8]
    animals: tuple[Array, ...]
    heads: tuple[Array, ...]
    rim: float


def draw_animals(rng: np.random.Generator, breeds: Sequence[Breed], size: int) -> Drawn:
    """Draw an animal of each breed in a scene ``size`` pixels short and up to 1.3 times that long."""
    long = round(size * rng.uniform(1, 1.3))
    shape = (size, long) if rng.random() < 0.7 else (long, size)
    angle = float(rng.uniform(-np.pi, 0))  # light from somewhere above
    light, contrast = (float(np.cos(angle)), float(np.sin(angle))), float(rng.uniform(0.35, 0.75))
    canvas = draw_scene(rng, shape, light, contrast)
    animals, heads = [], []
    for breed, room in zip(breeds, _rooms(shape, len(breeds)), strict=True):
        animal = Animal(breed, int(rng.integers(len(POSES))), int(rng.integers(2**32)))
        frame, window = _stand(rng, animal, shape, room)
        shadow = Ellipse((0, 0.55), (0.75, 0.16)).on(frame).distance / (0.12 * frame.scale)
        canvas *= (1 - 0.4 / (1 + np.exp(np.clip(shadow, -20, 20))))[..., None]
        covered, head = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        covered[window], head[window] = animal.draw(rng, canvas[window], frame.cut(window), light, contrast)
        animals.append(covered)
        heads.append(head)
    return Drawn(_photograph(rng, canvas), tuple(animals), tuple(heads), max(1.0, size / 85))


def outlined(covered: Array, rim: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of what an animal covers, ``bool (H, W)``: its inside, rim and all, and the rim to either side of its outline."""
    solid = ndimage.gaussian_filter(covered, 0.5) > 0.5
    gap = np.where(solid, ndimage.distance_transform_edt(solid), ndimage.distance_transform_edt(~solid))
    return solid, gap <= rim


def draw_picture(rng: np.random.Generator, breed: Breed, size: int) -> Picture:
    """Draw one animal of ``breed`` in a scene, see :func:`draw_animals`."""
    drawn = draw_animals(rng, [breed], size)
    solid, rim = outlined(drawn.animals[0], drawn.rim)
    trimap = np.where(solid, PET, BACKGROUND).astype(np.uint8)
    trimap[rim] = BORDER
    return Picture(drawn.image, trimap, extent((drawn.heads[0] > 0.5) & (trimap != BACKGROUND)))


def check_drawable(what: str, images: int, breeds: int, size: int) -> None:
    """Refuse what cannot be drawn; ``what`` is the message's first word."""
    if not 2 <= breeds <= len(BREEDS):
        raise SegError(f"{what}: breeds={breeds}, but it can draw 2 to {len(BREEDS)} breeds: set data.breeds so")
    if images < 3 * breeds:
        least = 3 * breeds
        raise SegError(f"{what}: images={images} is too few for {breeds} breeds: set data.images={least} or more")
    if size < 48:
        raise SegError(f"{what}: size={size} is too small to draw an animal: set data.size=48 or more")


def draw_toy_pets(out: Path, *, images: int, breeds: int, size: int, seed: int) -> None:
    """Draw the toy data set in the official layout below ``out/oxford-iiit-pet/``.

    Every third image of a breed goes to the test split. A picture depends on the seed, its breed and its
    number alone: a larger set begins with the smaller one's pictures.

    Args:
        out: the data root; it and the folders below are made.
        images: number of pictures over both splits, shared out evenly among the breeds.
        breeds: the first so many of ``BREEDS``.
        size: shorter side of the pictures in pixels.
        seed: the same seed gives the same bytes.

    Raises:
        SegError: breeds, images or size that cannot be drawn; a folder that cannot be written.
    """
    check_drawable("toy_pets", images, breeds, size)
    chosen = sorted(BREEDS[:breeds], key=lambda b: b.name.lower())
    species_id = {b: sum(o.is_cat == b.is_cat for o in chosen[: i + 1]) for i, b in enumerate(chosen)}
    root = out / "oxford-iiit-pet"
    lists: dict[str, list[str]] = {"list": [], "trainval": [], "test": []}
    try:
        for folder in ("images", "annotations/trimaps", "annotations/xmls"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
            for index, breed in enumerate(chosen):
                own = BREEDS.index(breed)
                rngs = [np.random.default_rng([seed, own, 1 + i]) for i in range(len(range(index, images, breeds)))]
                pictures = pool.map(draw_picture, rngs, repeat(breed), repeat(size))
                for number, picture in enumerate(pictures, 1):
                    stem, split = f"{breed.name}_{number}", "test" if number % 3 == 0 else "trainval"
                    Image.fromarray(picture.image).save(root / "images" / f"{stem}.jpg", quality=90)
                    Image.fromarray(picture.trimap).save(root / "annotations" / "trimaps" / f"{stem}.png")
                    if split == "trainval":
                        high, wide = picture.trimap.shape
                        animal = "cat" if breed.is_cat else "dog"
                        head = OBJECT.format(name=animal, box=picture.head)
                        about = {"folder": "OXIIIT", "stem": stem, "width": wide, "height": high, "segmented": 0}
                        text = XML.format(**about, objects=head)
                        (root / "annotations" / "xmls" / f"{stem}.xml").write_text(text, encoding="utf-8")
                    line = f"{stem} {index + 1} {1 if breed.is_cat else 2} {species_id[breed]}\n"
                    lists["list"].append(line)
                    lists[split].append(line)
        cats = sum(b.is_cat for b in chosen)
        header = HEADER.format(classes=breeds, cats=cats, dogs=breeds - cats)
        for name, lines in lists.items():
            text = (header if name == "list" else "") + "".join(lines)
            (root / "annotations" / f"{name}.txt").write_text(text, encoding="utf-8")
    except OSError as error:
        raise SegError(f"toy_pets: cannot write below {root}: {error}; choose a folder that can be written") from error
