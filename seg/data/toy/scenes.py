"""The scenes behind the toy animals: cluttered rooms and gardens, independent of the breed."""

import numpy as np
from scipy import ndimage

from seg.data.toy.coats import BREEDS, NEUTRAL
from seg.data.toy.drawing import Array, Ellipse, Frame, Limb, Point, Polygon, bulge, clouds, coverage, noise, paint

# Objects have the colours of every breed and of the neutral parts, so colour alone does not find an animal.
ANIMAL_COLOURS = np.array([c for b in BREEDS for c in (b.coat, b.mark)] + list(NEUTRAL))


def _colour(rng: np.random.Generator) -> Array:
    """Sometimes the colour of an animal's coat, else any colour."""
    if rng.random() < 0.35:
        colour = ANIMAL_COLOURS[rng.integers(len(ANIMAL_COLOURS))] + rng.normal(0, 0.05, 3)
    else:
        colour = rng.uniform(0.15, 0.85) + rng.normal(0, 0.1, 3)
    return np.clip(colour.astype(np.float32), 0.04, 0.97)


def _slope(rng: np.random.Generator, length: int) -> Array:
    return np.linspace(rng.uniform(0.78, 1.18), rng.uniform(0.78, 1.18), length, dtype=np.float32)


def _surface(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """A wall, a floor, a lawn or a carpet, ``float32 (H, W, 3)``: two colours, a texture, a gradient."""
    high, wide = shape
    first, second = _colour(rng), _colour(rng)
    first = 0.7 * first + 0.3 * second
    kind = rng.integers(4)
    if kind == 0:  # plaster, earth
        mix = 0.5 + 0.22 * clouds(rng, shape, wide * 0.4)
    elif kind == 1:  # boards or a striped cloth
        frame = Frame.place(shape, (wide / 2, high / 2), wide, float(rng.uniform(0, np.pi)))
        wave = np.sin(frame.u * float(rng.uniform(20, 90)) + 0.4 * noise(rng, shape, wide * 0.3))
        mix = 0.5 + 0.3 * np.tanh(3 * wave) + 0.1 * clouds(rng, shape, wide * 0.2)
    elif kind == 2:  # grass, rug
        blades = noise(rng, shape, 2.2, float(rng.choice([0.35, 1.0, 3.0])))
        mix = 0.5 + 0.17 * blades + 0.2 * clouds(rng, shape, wide * 0.3)
    else:  # leaves, pebbles
        lumps = np.tanh(2 * noise(rng, shape, float(rng.uniform(4, 11))))
        mix = 0.5 + 0.35 * lumps + 0.1 * clouds(rng, shape, wide * 0.2)
    strength = float(rng.uniform(0.35, 1.0))
    mix = np.clip(0.5 + strength * (mix - 0.5), 0, 1)[..., None]
    ramp = _slope(rng, wide)[None, :, None] * _slope(rng, high)[:, None, None]
    return (first * mix + second * (1 - mix)) * ramp


def _thing(rng: np.random.Generator) -> tuple[Ellipse | Limb | Polygon, ...]:
    """The shapes of one object: cushion, board, post, box, ball, or a limb-like bunch of sticks."""
    a, b = (float(x) for x in rng.uniform(0.35, 1.0, 2))
    kind = rng.integers(5)
    if kind == 0:
        return (Ellipse((0, 0), (a, b)),)
    if kind == 1:
        return (Polygon(((-a, -b), (a, -b), (a, b), (-a, b))),)
    if kind == 2:
        return (Limb((-1.6, 0), (1.6, 0), (0.13 * (a + b), 0.1 * (a + b))),)
    if kind == 3:
        return tuple(Limb((0, 0.3 * i), (1.2, float(rng.normal(0.3 * i, 0.5))), (0.12, 0.07)) for i in range(3))
    return Ellipse((0, 0), (a, 0.8 * b)), Ellipse((-a, -0.5 * b), (0.4, 0.4))


def _lay(rng: np.random.Generator, scene: Array, frame: Frame, light: Point, contrast: float) -> None:
    """Paint one object, of two colours and with a shadow around it, in place."""
    shape = frame.u.shape
    first, second = _colour(rng), _colour(rng)
    marks = np.clip(noise(rng, shape, float(rng.uniform(3, 14))) * 1.5 - 0.6, 0, 1) * float(rng.choice([0, 0.4, 0.8]))
    texture = 1 + 0.06 * noise(rng, shape, 1.5, float(rng.choice([0.4, 1, 3])))
    colour = (first + (second - first) * marks[..., None]) * texture[..., None]
    for part in _thing(rng):
        relief = part.on(frame)
        scene *= (1 - 0.3 * np.exp(-np.clip(relief.distance, 0, None) / 3))[..., None]
        paint(scene, colour * bulge(relief, light, contrast)[..., None], coverage(relief.distance, 1.4))


def draw_scene(rng: np.random.Generator, shape: tuple[int, int], light: Point, contrast: float) -> Array:
    """Draw one scene of ``shape`` (H, W): ``float32 (H, W, 3)``, about [0, 1]."""
    high, wide = shape
    scene = _surface(rng, shape)
    horizon = Frame.place(shape, (wide / 2, high * float(rng.uniform(0.3, 0.75))), wide, float(rng.normal(0, 0.05)))
    paint(scene, _surface(rng, shape), coverage(-horizon.v * horizon.scale, 1.5))
    for _ in range(rng.integers(3, 9)):
        centre = (float(rng.uniform(0, wide)), float(rng.uniform(0, high)))
        scale = float(np.exp(rng.uniform(np.log(0.05), np.log(0.24)))) * wide
        frame = Frame.place(shape, centre, scale, float(rng.uniform(0, 2 * np.pi)))
        window = frame.window((0, 0), 1.9, 6)
        if window[0].start < window[0].stop and window[1].start < window[1].stop:
            _lay(rng, scene[window], frame.cut(window), light, contrast)
    blur = float(rng.choice([0, 0.4, 0.9]))  # depth of field
    return ndimage.gaussian_filter(scene, (blur, blur, 0)) if blur else scene
