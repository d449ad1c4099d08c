"""Base of the refiners that a library computes on the CPU, image by image."""

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from seg.errors import SegError
from seg.store import Products
from seg.supervision.scores import ScoreMaps, ScoreStage


class ByImage(ScoreStage):
    """Scores and image to better scores, at the working resolution; images are shared out among the cores.

    Attributes:
        scores: of a supervision, of another refiner, of a segmenter.
    """

    scores: ScoreStage

    @abstractmethod
    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        """The answer for one image, whatever thread asks.

        Args:
            image: ``uint8 (S, S, 3)`` RGB. scores: ``float32 (S, S)`` in [0, 1]; NaN where nothing is known.
            spacing: height and width of a pixel, whose product is 1: images are squashed to a square.

        Returns:
            ``float (S, S)`` in [0, 1], or NaN.
        """

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """One call per image. (Threads: the libraries let go of the interpreter lock where it takes long.)"""
        scores: ScoreMaps = store.get(self.scores)
        return self.save(out, scores.data, scores.rows, self._refined(scores, store), scores.ids)

    def _refined(self, scores: ScoreMaps, store: Products) -> Iterator[np.ndarray]:
        """Map by map: with several classes in an image each is told from all else."""
        data = scores.data
        with ThreadPoolExecutor(store.runtime.worker_count) as pool:
            for positions in store.runtime.bar([*scores.batches()], self.what):
                rows = scores.rows[positions]
                squash = np.sqrt(data.sizes[rows, 0] / data.sizes[rows, 1])
                spacings = [(float(s), float(1 / s)) for s in squash]
                maps, image, _ = scores.per_class(positions)
                images = data.images[rows[image]]
                for refined in pool.map(self.refine, images, maps, [spacings[i] for i in image]):
                    yield refined[None]


def seeds_of(scores: np.ndarray, background_below: float, foreground_from: float) -> np.ndarray:
    """Which pixels are surely what.

    Args:
        scores: ``float32 (S, S)``, NaN where nothing is known.
        background_below: sure background below it, and at exactly 0. foreground_from: sure foreground from it on.

    Returns:
        ``int64 (S, S)``: 0 unsure, 1 background, 2 foreground.
    """
    seeds = np.zeros(scores.shape, np.int64)
    seeds[(scores < np.float32(background_below)) | (scores == 0)] = 1
    seeds[scores >= np.float32(foreground_from)] = 2
    return seeds


def check_seeds(stage: Any) -> None:
    """Refuse bounds of the seeds that are the wrong way round."""
    low, high = stage.background_below, stage.foreground_from
    if low > high:
        raise SegError(f"{type(stage).__name__}.background_below={low:g}: must not lie above foreground_from={high:g}")
