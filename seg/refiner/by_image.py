"""The refiners that a library computes on the CPU, image by image."""

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
    """Scores and image to better scores, at the working resolution; images are shared out among the cores.

    Attributes:
        scores: of a supervision, of another refiner, of a segmenter.
    """

    scores: ScoreStage

    @abstractmethod
    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        """The answer for one image, from any thread.

        Args:
            image: ``uint8 (S, S, 3)`` RGB. scores: ``float32 (S, S)`` in [0, 1]; NaN where nothing is known.
            spacing: height and width of a pixel, whose product is 1: images are squashed to a square.

        Returns:
            ``float (S, S)`` in [0, 1], or NaN.
        """

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """One call for each map: with several classes in an image each is told from all else."""
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
        segments: about so many superpixels in an image.
        compactness: weight of the distance beside that of the colour; SLIC's ``m``.
        sigma: of the Gaussian that smooths the image before, in pixels.
    """

    what: ClassVar[str] = "superpixel means"

    segments: int = param(default=200, low=1)
    compactness: float = param(default=10.0, above=0)
    sigma: float = param(default=1.0, low=0)

    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        """Means of what is known; a superpixel of which nothing is known stays unknown."""
        from skimage.segmentation import slic

        how: Any = {"compactness": self.compactness, "sigma": self.sigma, "spacing": spacing}
        return superpixel_means(scores, slic(image, self.segments, start_label=0, channel_axis=-1, **how))


class Seeded(ByImage):
    """Base of the refiners that keep what is sure.

    Attributes:
        background_below, foreground_from: surely so.
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
    """Grady's random walker (:func:`seg.methods.refine.random_walker`), from confident seeds to what is between them.

    Attributes:
        scores: any score maps.
        beta: how much an edge hinders. tolerance: of the linear system's solution.
    """

    what: ClassVar[str] = "random walker"

    beta: float = param(default=130.0, above=0)
    tolerance: float = param(default=1e-3, above=0)

    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        low, high = self.background_below, self.foreground_from
        return random_walker(image, scores, low, high, self.beta, self.tolerance, spacing)


class GrabCut(Seeded):
    """GrabCut (:func:`seg.methods.refine.grabcut`): the mean of the cut, 0 or 1, and of the scores it was made from.

    Attributes:
        scores: any score maps.
        threshold: starts as foreground from it on. iterations: of models and cut.
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
