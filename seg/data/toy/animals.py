"""The animals of the toy pictures: parts, poses and painting."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from seg.data.toy.coats import Breed, Coat
from seg.data.toy.drawing import Array, Ellipse, Frame, Limb, Point, Polygon, bulge, coverage, extent, noise, paint


class Part(NamedTuple):
    shape: Ellipse | Limb | Polygon
    zone: str  # neutral | body | head | ear | muzzle | dark | eye


Pose = Callable[[np.random.Generator, Breed], Iterator[Part]]


def _head(rng: np.random.Generator, breed: Breed, at: Point, front: float) -> Iterator[Part]:
    """Ears, skull, muzzle, eyes and nose; ``front`` is 1 for a face to the viewer, 0 for a profile."""
    u, v = at
    r = float(rng.uniform(0.22, 0.27))
    wide, turn = 0.85 - 0.1 * front, float(rng.uniform(-0.15, 0.15))
    for side in (-1.0, 1.0):
        base = u + side * r * wide * (0.75 if front else 0.55) + turn * r
        if breed.ears == "pointed":
            tip = (base + side * r * 0.25, v - r * float(rng.uniform(1.6, 1.9)))
            yield Part(Polygon(((base - r * 0.42, v - r * 0.45), (base + r * 0.42, v - r * 0.35), tip)), "ear")
        elif breed.ears == "folded":
            yield Part(Ellipse((base, v - r * 0.75), (r * 0.42, r * 0.3), side * 0.6), "ear")
    yield Part(Ellipse(at, (r * 1.05, r)), "head")
    muzzle_u = u - r * (0.75 * (1 - front)) + turn * r * 0.5
    long = 1.0 if breed.is_cat else 1.35
    muzzle = (muzzle_u - (1 - front) * r * 0.2 * long, v + r * 0.38)
    yield Part(Ellipse(muzzle, (r * 0.46 * long, r * 0.36)), "muzzle")
    nose = (muzzle[0] - (1 - front) * r * 0.36 * long, muzzle[1] - r * 0.12)
    yield Part(Ellipse(nose, (r * 0.14, r * 0.1)), "dark")
    for side in (-1.0, 1.0) if front else (-0.35, 0.5):
        eye = (u + side * r * 0.42 + turn * r - (1 - front) * r * 0.25, v - r * 0.12)
        yield Part(Ellipse(eye, (r * 0.15, r * 0.15)), "eye")
        yield Part(Ellipse(eye, (r * 0.07, r * 0.13)), "dark")
    if breed.ears == "floppy":  # drawn last, over the cheeks
        for side in (-1.0, 1.0) if front else (0.7,):
            yield Part(Ellipse((u + side * r * 0.95, v + r * 0.15), (r * 0.3, r * 0.72), -side * 0.25), "ear")


def _tail(rng: np.random.Generator, root: Point, breed: Breed) -> Iterator[Part]:
    angle, bend = float(rng.uniform(-1.2, 0.5)), float(rng.uniform(-0.5, 0.35))
    thick, step = float(rng.uniform(0.04, 0.055)) + 0.015 * breed.fluff, float(rng.uniform(0.13, 0.18))
    here = root
    for i in range(4):
        there = (here[0] + step * float(np.cos(angle)), here[1] + step * float(np.sin(angle)))
        yield Part(Limb(here, there, (thick * (1 - 0.1 * i), thick * (0.9 - 0.1 * i))), "neutral")
        here, angle = there, angle + bend


def _standing(rng: np.random.Generator, breed: Breed) -> Iterator[Part]:
    long, deep = float(rng.uniform(0.44, 0.54)), float(rng.uniform(0.21, 0.27))
    ground = float(rng.uniform(0.5, 0.62))
    yield from _tail(rng, (long * 0.9, -0.08), breed)
    for hip, near in ((-0.3, 0), (0.36, 0), (-0.36, 1), (0.3, 1)):
        foot = hip + float(rng.uniform(-0.14, 0.14))
        if near and hip == -0.36:
            yield Part(Ellipse((0, 0), (long, deep)), "body")
            yield Part(Ellipse((0.05, deep * 0.72), (long * 0.62, deep * 0.34)), "neutral")
        yield Part(Limb((hip, 0.06), (foot, ground - 0.03 * (1 - near)), (0.105, 0.062)), "neutral")
        yield Part(Ellipse((foot - 0.03, ground - 0.03 * (1 - near)), (0.085, 0.055)), "neutral")
    head = (-long - float(rng.uniform(0.05, 0.17)), float(rng.uniform(-0.4, -0.14)))
    yield Part(Limb((-long * 0.72, -0.02), head, (0.2, 0.16)), "body")
    yield from _head(rng, breed, head, float(rng.random() < 0.5))


def _sitting(rng: np.random.Generator, breed: Breed) -> Iterator[Part]:
    wide, lean = float(rng.uniform(0.27, 0.34)), float(rng.uniform(-0.12, 0.12))
    yield from _tail(rng, (wide * 0.7, 0.4), breed)
    for side in (-1.0, 1.0):
        yield Part(Ellipse((side * wide * 0.75, 0.36), (0.2, 0.24), side * 0.3), "neutral")
    yield Part(Ellipse((lean * 0.5, 0.1), (wide, 0.46)), "body")
    for side in (-1.0, 1.0):
        foot = (side * 0.13 + lean * 0.3, float(rng.uniform(0.54, 0.62)))
        yield Part(Limb((side * 0.13 + lean * 0.5, 0.12), foot, (0.095, 0.07)), "neutral")
        yield Part(Ellipse((foot[0], foot[1] + 0.01), (0.09, 0.055)), "neutral")
    yield from _head(rng, breed, (lean, float(rng.uniform(-0.5, -0.42))), 1.0)


def _lying(rng: np.random.Generator, breed: Breed) -> Iterator[Part]:
    long, deep = float(rng.uniform(0.52, 0.62)), float(rng.uniform(0.2, 0.26))
    yield from _tail(rng, (long * 0.9, 0.1), breed)
    yield Part(Ellipse((0.05, 0), (long, deep)), "body")
    yield Part(Ellipse((0.34, 0.08), (0.23, 0.19)), "neutral")
    for drop in (0.13, 0.19):
        paw = (-long - float(rng.uniform(0.05, 0.3)), drop + float(rng.uniform(0.0, 0.05)))
        yield Part(Limb((-long * 0.55, drop - 0.04), paw, (0.095, 0.06)), "neutral")
    yield Part(Limb((0.4, 0.19), (0.05, 0.22), (0.08, 0.06)), "neutral")
    head = (-long * float(rng.uniform(0.75, 0.95)), float(rng.uniform(-0.3, -0.12)))
    yield from _head(rng, breed, head, float(rng.random() < 0.7))


POSES: tuple[Pose, ...] = (_standing, _sitting, _lying)


class Animal(NamedTuple):
    """One animal in one pose; its parts do not depend on the frame."""

    breed: Breed
    pose: int
    seed: int

    def parts(self) -> Iterator[Part]:
        """Its parts, from the farthest to the nearest."""
        return POSES[self.pose](np.random.default_rng(self.seed), self.breed)

    def extent(self, angle: float, flip: bool) -> tuple[float, float, float, float]:
        """Its box (left, top, right, bottom) in its own units, rotated by ``angle``."""
        grid = 80
        frame = Frame.place((grid, grid), (grid / 2, grid / 2), grid / 3.6, angle, flip)
        inside = np.zeros((grid, grid), bool)
        for part in self.parts():
            window = frame.window(*part.shape.reach(), 1)
            inside[window] |= part.shape.on(frame.cut(window)).distance < 0.5
        left, top, right, bottom = ((n - grid / 2) / frame.scale for n in extent(inside))
        return left, top, right, bottom

    def draw(
        self, rng: np.random.Generator, canvas: Array, frame: Frame, light: Point, contrast: float
    ) -> tuple[Array, Array]:
        """Paint it on ``canvas`` ``float32 (H, W, 3)`` in place.

        Returns its coverage, ``float32 (H, W)`` in [0, 1]: of the whole and of the head.
        """
        shape = frame.u.shape
        coat = Coat(rng, frame, self.breed)
        ragged = noise(rng, shape, 1.6) * (0.2 + 0.55 * self.breed.fluff) * min(1.0, frame.scale / 75)
        animal, head = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for part in self.parts():
            fine = part.zone in ("dark", "eye")
            window = frame.window(*part.shape.reach(), 1 if fine else 0.06 * frame.scale + 3)
            relief, under = part.shape.on(frame.cut(window)), canvas[window]
            distance = relief.distance if fine else relief.distance + ragged[window]  # fur
            alpha = coverage(distance, 1.4)
            if not fine:  # a part shades the parts behind it
                shade = np.exp(-np.clip(distance, 0, None) / (0.03 * frame.scale)) * animal[window]
                under *= (1 - 0.3 * shade)[..., None]
                np.maximum(animal[window], alpha, out=animal[window])
                if part.zone in ("head", "ear", "muzzle"):
                    np.maximum(head[window], alpha, out=head[window])
            paint(under, coat.colour(part.zone, window) * bulge(relief, light, contrast)[..., None], alpha)
        return animal, head
