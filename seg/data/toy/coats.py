"""Breeds of the toy animals, and the coat of one animal of a breed."""

from typing import NamedTuple

import numpy as np

from seg.data.toy.drawing import Array, Frame, Window, clouds, noise

Colour = tuple[float, float, float]


class Breed(NamedTuple):
    """A breed: two coat colours (RGB in [0, 1]), a pattern, ears and fluff.

    Names of cats have a capital, those of dogs do not, as in Oxford-IIIT Pet.
    """

    name: str
    coat: Colour
    mark: Colour
    pattern: str
    ears: str
    fluff: float

    @property
    def is_cat(self) -> bool:
        return self.name[0].isupper()


BREEDS = (
    Breed("Ginger_Tiger", (0.80, 0.52, 0.26), (0.42, 0.20, 0.08), "stripes", "pointed", 0.7),
    Breed("Seal_Mask", (0.87, 0.79, 0.66), (0.20, 0.14, 0.12), "mask", "pointed", 0.6),
    Breed("Silver_Cloud", (0.50, 0.55, 0.62), (0.72, 0.76, 0.82), "plain", "folded", 1.6),
    Breed("dotted_hound", (0.92, 0.91, 0.88), (0.10, 0.09, 0.10), "spots", "floppy", 0.4),
    Breed("rust_setter", (0.45, 0.19, 0.10), (0.62, 0.30, 0.16), "plain", "floppy", 1.3),
    Breed("saddle_collie", (0.78, 0.62, 0.40), (0.09, 0.08, 0.08), "patches", "pointed", 1.0),
    Breed("Ink_Tuxedo", (0.09, 0.09, 0.11), (0.93, 0.92, 0.90), "bib", "pointed", 0.7),
    Breed("brindle_mastiff", (0.50, 0.37, 0.22), (0.17, 0.12, 0.09), "stripes", "folded", 0.4),
)
# Legs, tail and belly have one of these colours for any breed, so the classifier does not need them: its map is
# mediocre, as on photographs.
NEUTRAL: tuple[Colour, ...] = (
    (0.90, 0.87, 0.82),
    (0.74, 0.66, 0.55),
    (0.55, 0.46, 0.36),
    (0.38, 0.33, 0.29),
    (0.62, 0.61, 0.60),
    (0.24, 0.21, 0.20),
)


class Coat:
    """The colour of every zone of one animal, computed once over the whole picture."""

    def __init__(self, rng: np.random.Generator, frame: Frame, breed: Breed) -> None:
        shape, unit = frame.u.shape, frame.scale
        jitter = rng.normal(0, 0.02, 3)
        colours = (np.array(c) * rng.uniform(0.9, 1.1) + jitter for c in (breed.coat, breed.mark))
        coat, mark = (np.clip(c, 0.03, 1).astype(np.float32) for c in colours)
        tone = rng.normal(0, 0.05) + rng.normal(0, 0.015, 3)
        neutral = (np.array(NEUTRAL[rng.integers(len(NEUTRAL))]) + tone).astype(np.float32)
        soft = clouds(rng, shape, unit * 0.3)
        marked = self._marks(rng, frame, breed.pattern)
        face = {"mask": 0.92, "bib": 0.1, "patches": 0.85}.get(breed.pattern)
        ear = {"mask": 0.95, "patches": 0.9, "spots": 0.8, "plain": 0.3}.get(breed.pattern, 0.25)
        muzzle = {"mask": 1.0, "bib": 1.0, "plain": 0.6, "stripes": 0.1}.get(breed.pattern, 0.15)
        fade = 0.07 * soft
        share = {
            "body": np.clip(marked + fade * 0.5, 0, 1),
            "head": np.clip((marked if face is None else face) + fade, 0, 1),
            "ear": np.clip(ear + fade, 0, 1),
            "muzzle": np.clip(muzzle + fade, 0, 1),
        }
        lie = noise(rng, shape, 1.3, 3.5), noise(rng, shape, 1.3, 1 / 3.5)
        fur = np.where(clouds(rng, shape, unit * 0.4) > 0, *lie) * 0.045 + 0.05 * soft
        light = (1 + fur)[..., None]
        self._zones = {z: ((1 - s[..., None]) * coat + s[..., None] * mark) * light for z, s in share.items()}
        self._zones["neutral"] = neutral * light
        flat = {"dark": (0.06, 0.06, 0.06), "eye": (0.75, 0.68, 0.2) if breed.is_cat else (0.35, 0.2, 0.08)}
        self._flat = {zone: np.array(colour, np.float32) for zone, colour in flat.items()}

    def _marks(self, rng: np.random.Generator, frame: Frame, pattern: str) -> Array:
        """Where the body carries the marking colour, in [0, 1]."""
        shape, unit = frame.u.shape, frame.scale
        if pattern == "stripes":
            wave = np.sin(frame.u * float(rng.uniform(30, 38)) + 1.1 * noise(rng, shape, unit * 0.22) + 4 * frame.v)
            return np.clip(1.6 * wave - 0.2, 0, 1)
        if pattern == "spots":
            return np.clip((noise(rng, shape, max(3.0, unit * 0.085)) - 0.75) * 3, 0, 1)
        if pattern == "patches":  # a saddle: dark above, coat below
            return np.clip((0.03 - frame.v + 0.06 * noise(rng, shape, unit * 0.2)) * 12, 0, 1)
        if pattern == "mask":  # the fore end darkens
            return np.clip((-0.3 - frame.u + 0.05 * noise(rng, shape, unit * 0.2)) * 2, 0, 0.5)
        if pattern == "bib":
            away = np.hypot(frame.u + 0.35, frame.v - 0.1)
            return np.clip((0.1 - away + 0.04 * noise(rng, shape, unit * 0.2)) * 12, 0, 1)
        return np.clip(0.25 + 0.25 * noise(rng, shape, unit * 0.25), 0, 0.7)

    def colour(self, zone: str, window: Window) -> Array:
        """The colour of a zone in a window, ``float32 (h, w, 3)`` or ``(3,)``."""
        return self._zones[zone][window] if zone in self._zones else self._flat[zone]
