"""Soft-edged shapes and noise for the toy pictures."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating[Any]]  # float32; NumPy's stubs lose that in arithmetic
Point = tuple[float, float]
Window = tuple[slice, slice]


class Frame(NamedTuple):
    """The plane of a picture, or of a window of one, in the units of one object.

    Attributes:
        u, v: ``float32 (H, W)``, right and down in units of the object, for every pixel.
        scale: pixels to one unit.
    """

    u: Array
    v: Array
    scale: float

    @classmethod
    def place(
        cls, shape: tuple[int, int], centre: Point, scale: float, angle: float = 0.0, flip: bool = False
    ) -> "Frame":
        """Lay a frame over a picture of ``shape`` (H, W), its origin at pixel ``centre`` (x, y)."""
        x = ((np.arange(shape[1]) - centre[0]) / scale).astype(np.float32)[None, :]
        y = ((np.arange(shape[0]) - centre[1]) / scale).astype(np.float32)[:, None]
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        u = cos * x + sin * y
        return cls(-u if flip else u, cos * y - sin * x, scale)

    def window(self, centre: Point, reach: float, margin: float) -> Window:
        """The pixels within ``reach`` units and ``margin`` pixels of ``centre``; it may be empty."""
        # u and v are linear in x and y, so the corner pixel and its neighbours give the way back
        ux, uy = float(self.u[0, 1] - self.u[0, 0]), float(self.u[1, 0] - self.u[0, 0])
        vx, vy = float(self.v[0, 1] - self.v[0, 0]), float(self.v[1, 0] - self.v[0, 0])
        du, dv = centre[0] - float(self.u[0, 0]), centre[1] - float(self.v[0, 0])
        det = ux * vy - uy * vx
        x, y = (du * vy - dv * uy) / det, (dv * ux - du * vx) / det
        half = (reach + margin / self.scale) * self.scale
        high, wide = self.u.shape
        rows = slice(min(high, max(0, int(y - half))), max(0, min(high, int(y + half) + 2)))
        return rows, slice(min(wide, max(0, int(x - half))), max(0, min(wide, int(x + half) + 2)))

    def cut(self, window: Window) -> "Frame":
        """The part of the plane in a window."""
        return Frame(self.u[window], self.v[window], self.scale)


class Relief(NamedTuple):
    """A shape drawn on a frame.

    Attributes:
        distance: ``float32 (H, W)``, pixels to the rim, negative inside.
        across, down: ``float32 (H, W)``, position on the bulge: 0 in the middle, +-1 at the rim.
    """

    distance: Array
    across: Array
    down: Array


# Shapes, in the units of their object: `reach` is an enclosing circle (centre, radius); `on` draws it on a frame.


class Ellipse(NamedTuple):
    """An ellipse; its distance is exact at the rim to first order."""

    centre: Point
    radii: Point
    angle: float = 0.0

    def reach(self) -> tuple[Point, float]:
        return self.centre, max(self.radii)

    def on(self, frame: Frame) -> Relief:
        u, v = frame.u - self.centre[0], frame.v - self.centre[1]
        if self.angle:
            cos, sin = float(np.cos(self.angle)), float(np.sin(self.angle))
            u, v = cos * u + sin * v, cos * v - sin * u
        across, down = u / self.radii[0], v / self.radii[1]
        k = np.hypot(across, down)
        slope = np.hypot(across / self.radii[0], down / self.radii[1]) + 1e-6
        return Relief(k * (k - 1) / slope * frame.scale, across, down)


class Limb(NamedTuple):
    """A capsule from ``start`` to ``end`` whose radius runs from ``thick[0]`` to ``thick[1]``."""

    start: Point
    end: Point
    thick: Point

    def reach(self) -> tuple[Point, float]:
        (u0, v0), (u1, v1) = self.start, self.end
        return ((u0 + u1) / 2, (v0 + v1) / 2), float(np.hypot(u1 - u0, v1 - v0)) / 2 + max(self.thick)

    def on(self, frame: Frame) -> Relief:
        du, dv = self.end[0] - self.start[0], self.end[1] - self.start[1]
        u, v = frame.u - self.start[0], frame.v - self.start[1]
        along = np.clip((u * du + v * dv) / (du * du + dv * dv + 1e-9), 0, 1)
        off_u, off_v = u - along * du, v - along * dv
        radius = self.thick[0] + along * (self.thick[1] - self.thick[0])
        return Relief((np.hypot(off_u, off_v) - radius) * frame.scale, off_u / radius, off_v / radius)


class Polygon(NamedTuple):
    """A convex polygon, corners in either order, drawn almost flat."""

    corners: tuple[Point, ...]

    def reach(self) -> tuple[Point, float]:
        u, v = (sum(c[i] for c in self.corners) / len(self.corners) for i in (0, 1))
        return (u, v), max(float(np.hypot(c[0] - u, c[1] - v)) for c in self.corners)

    def on(self, frame: Frame) -> Relief:
        (middle_u, middle_v), radius = self.reach()
        distance = np.full_like(frame.u, -np.inf)
        for (u0, v0), (u1, v1) in zip(self.corners, [*self.corners[1:], self.corners[0]], strict=True):
            length = float(np.hypot(u1 - u0, v1 - v0)) + 1e-9
            nu, nv = (v1 - v0) / length, (u0 - u1) / length
            if nu * (middle_u - u0) + nv * (middle_v - v0) > 0:
                nu, nv = -nu, -nv
            np.maximum(distance, nu * (frame.u - u0) + nv * (frame.v - v0), out=distance)
        flat = 0.5 / radius
        return Relief(distance * frame.scale, (frame.u - middle_u) * flat, (frame.v - middle_v) * flat)


def coverage(distance: Array, softness: float) -> Array:
    """The share of a pixel that a shape covers, in [0, 1], from its distance in pixels."""
    return np.clip(0.5 - distance / softness, 0, 1)


def bulge(relief: Relief, light: Point, contrast: float) -> Array:
    """Brightness of a rounded shape under a light from direction ``light``; 1 is neutral."""
    facing = np.sqrt(np.clip(1 - relief.across**2 - relief.down**2, 0, 1))
    lit = -relief.across * light[0] - relief.down * light[1]
    return 1 + contrast * (0.55 * np.clip(lit, -1, 1) + 0.5 * (facing - 0.6))


def extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The box (xmin, ymin, xmax, ymax) of a mask, its last pixel included."""
    rows, columns = (np.flatnonzero(mask.any(axis=a)) for a in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float, stretch: float = 1.0) -> Array:
    """Smooth noise of standard deviation about 1, ``float32 (H, W)``.

    Args:
        cell: pixels from one random value to the next; below 2 it is grain.
        stretch: how many times longer than high the cells are.
    """
    high, wide = (max(2, round(n / c) + 2) for n, c in zip(shape, (cell, cell * stretch), strict=True))
    coarse = Image.fromarray(rng.standard_normal((high, wide), dtype=np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), dtype=np.float32) * 1.25


def clouds(rng: np.random.Generator, shape: tuple[int, int], cell: float, fall: float = 0.6) -> Array:
    """Noise of many scales, from ``cell`` pixels down to grain, each ``fall`` times the one before."""
    total, weight = np.zeros(shape, np.float32), 1.0
    while cell >= 1.5:
        total += weight * noise(rng, shape, cell)
        cell, weight = cell / 2.2, weight * fall
    return total / (float(total.std()) + 1e-6)


def paint(canvas: Array, colour: Array, alpha: Array) -> None:
    """Lay ``colour`` (..., 3) over ``canvas`` ``float32 (H, W, 3)`` in place, by ``alpha`` (H, W)."""
    canvas += (colour - canvas) * alpha[..., None]
