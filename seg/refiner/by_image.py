"""Refiners of single images on the CPU."""

import importlib.util
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seg.errors import SegError
from seg.methods.refine import grabcut, random_walker, superpixel_means
from seg.store import Products, param
from seg.supervision.scores import ScoreMaps, ScoreStage, per_map


class ByImage(ScoreStage):
    """Base: refines the score maps of an image by its colours at the working resolution, in threads.

    Attributes:
        scores: of a supervision, another refiner or a segmenter.
    """

    scores: ScoreStage

    @abstractmethod
    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        """Refine one map; called from several threads.

        Args:
            image: ``uint8 (S, S, 3)`` RGB. scores: ``float32 (S, S)`` in [0, 1]; NaN where unknown.
            spacing: height and width of a pixel, with a product of 1: images were resized to a square.

        Returns:
            ``float (S, S)`` in [0, 1], or NaN.
        """

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        scores: ScoreMaps = store.get(self.scores)
        return self.save(out, scores.data, scores.rows, self._refined(scores, store), scores.ids)

    def _refined(self, scores: ScoreMaps, store: Products) -> Iterator[np.ndarray]:
        squash = np.sqrt(np.divide(*scores.data.sizes[scores.rows].T)).tolist()
        spacings = [[(s, 1 / s)] * len(own) for s, own in zip(squash, scores.ids, strict=True)]
        return per_map(self.refine, scores, spacings, store.runtime, self.what)


class Superpixels(ByImage):
    """Scores averaged over the superpixels of SLIC (Achanta et al., TPAMI 2012), scikit-image's.

    Attributes:
        scores: any score maps.
        segments: approximate number of superpixels per image.
        compactness: weight of distance against colour; SLIC's ``m``.
        sigma: of the Gaussian that smooths the image first, in pixels.
    """

    what: ClassVar[str] = "superpixel means"

    segments: int = param(default=200, low=1)
    compactness: float = param(default=10.0, above=0)
    sigma: float = param(default=1.0, low=0)

    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        """Means of known scores; a superpixel without any stays unknown."""
        from skimage.segmentation import slic

        how: Any = {"compactness": self.compactness, "sigma": self.sigma, "spacing": spacing}
        return superpixel_means(scores, slic(image, self.segments, start_label=0, channel_axis=-1, **how))


class Seeded(ByImage):
    """Base of refiners that start from confident seeds.

    Attributes:
        background_below, foreground_from: scores of the seeds.
    """

    background_below: float = param(default=0.25, low=0, high=1)
    foreground_from: float = param(default=0.75, low=0, high=1)

    def validate(self) -> None:
        low, high = self.background_below, self.foreground_from
        if low > high:
            raise SegError(
                f"{type(self).__name__}.background_below={low:g}: must not lie above foreground_from={high:g}"
            )


class RandomWalker(Seeded):
    """Grady's random walker (:func:`seg.methods.random_walker`) from confident seeds.

    Attributes:
        scores: any score maps.
        beta: how strongly an edge separates pixels. tolerance: of the linear system's solution.
    """

    what: ClassVar[str] = "random walker"

    beta: float = param(default=130.0, above=0)
    tolerance: float = param(default=1e-3, above=0)

    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        low, high = self.background_below, self.foreground_from
        return random_walker(image, scores, low, high, self.beta, self.tolerance, spacing)


class GrabCut(Seeded):
    """GrabCut (:func:`seg.methods.grabcut`): the mean of the cut, 0 or 1, and the scores that it started from.

    Attributes:
        scores: any score maps.
        threshold: from it on a pixel starts as foreground. iterations: of colour models and cut.
    """

    what: ClassVar[str] = "GrabCut"

    threshold: float = param(default=0.5, low=0, high=1)
    iterations: int = param(default=5, low=1)

    def check(self, store: Products) -> None:
        if importlib.util.find_spec("cv2") is None:
            raise SegError("refiner=grabcut: needs OpenCV, which is not installed: pip install 'weakseg[grabcut]'")

    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        """The mean of cut and scores; the cut alone where a score is unknown."""
        low, high = self.background_below, self.foreground_from
        cut = grabcut(image, scores, self.threshold, low, high, self.iterations)
        return np.where(np.isnan(scores), cut, (cut + scores) / 2)
