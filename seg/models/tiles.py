"""Prediction of large images in overlapping tiles."""

import math
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from seg.models.load import Model
from seg.nets.augment import normalise
from seg.nets.resize import nearest, upsample
from seg.segmenter.predicted import class_maps, logits


class Tiles(NamedTuple):
    """How an image is cut into tiles of the model's ``input_size``.

    Attributes:
        overlap: share of a tile's side that the next one covers too, in [0, 1); the logits are blended there.
        scale: factor by which the image is resized first, above 0.
    """

    overlap: float = 0.25
    scale: float = 1.0


def windows(length: int, side: int, overlap: float) -> list[tuple[int, np.ndarray]]:
    """Tiles along one axis, evenly spaced: each one's start, and its weights, which add up to 1 at every pixel.

    Args:
        length: of the axis in pixels. side: of a tile. overlap: the least share of it that two neighbours both cover.

    Returns:
        Of each tile the first pixel and ``float32 (min(side, length),)`` in (0, 1], linear ramps over the overlap.
    """
    side, shared = min(side, length), min(round(side * overlap), side - 1)
    count = math.ceil((length - shared) / (side - shared))
    starts = np.linspace(0, length - side, count).round().astype(int).tolist()
    ramp = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)).clip(max=shared + 1).astype(np.float32)
    total = np.zeros(length, np.float32)
    for start in starts:
        total[start : start + side] += ramp
    return [(start, ramp / total[start : start + side]) for start in starts]


@torch.inference_mode()
def scores_in_tiles(
    model: Model, image: np.ndarray, tiles: Tiles, batch_size: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Predict an image of any size, ``uint8 (H, W, 3)``; one smaller than a tile is padded by mirroring.

    Only the logits of one row of tiles are in memory: ``4 K W input_size`` bytes for K outputs.

    Returns:
        ``float32 (H, W)`` scores in [0, 1], of the likeliest class, and ``uint8 (H, W)``: its code.
    """
    size, side = image.shape[:2], model.input_size
    if tiles.scale != 1:
        width, height = (max(1, round(n * tiles.scale)) for n in (size[1], size[0]))
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    (h, w), device = image.shape[:2], model.device
    rows, columns = windows(h, side, tiles.overlap), windows(w, side, tiles.overlap)
    scores, codes = np.empty((h, w), np.float32), np.empty((h, w), np.uint8)
    outputs = len(model.names) if model.classes else 1
    kept = torch.zeros(outputs, 0, w, device=device)  # sums of the rows that the next tiles reach as well
    for (top, down), following in zip(rows, [*(start for start, _ in rows[1:]), h], strict=True):
        band = torch.zeros(outputs, len(down), w, device=device)
        band[:, : kept.shape[1]] = kept
        for first in range(0, len(columns), batch_size):
            batch = columns[first : first + batch_size]
            cut = np.stack([_padded(image[top : top + side, left : left + side], side) for left, _ in batch])
            images = normalise(torch.from_numpy(cut).to(device), model.mean, model.std)
            found = logits(model.network, images, side, flip=model.flip)
            for (left, across), one in zip(batch, found, strict=True):
                weights = torch.from_numpy(down[:, None] * across).to(device)
                band[:, :, left : left + len(across)] += one[:, : len(down), : len(across)] * weights
        done, kept = band[:, : following - top], band[:, following - top :]
        maps, class_ids = class_maps(done)
        score, best = maps.float().max(0)
        scores[top:following] = score.cpu().numpy()
        codes[top:following] = np.asarray(class_ids, np.uint8)[best.cpu().numpy()]
    return upsample(scores[None], size)[0], nearest(codes[None], size)[0]


def _padded(image: np.ndarray, side: int) -> np.ndarray:
    """``(side, side, 3)``, mirrored at the right and at the bottom."""
    missing = [(0, side - n) for n in image.shape[:2]]
    return np.pad(image, [*missing, (0, 0)], "symmetric") if any(after for _, after in missing) else image
