"""GrabCut: models of the colours before and behind, and a cut along edges."""

import importlib.util
from typing import ClassVar

import numpy as np

from seg.errors import SegError
from seg.refiner.by_image import ByImage, check_seeds, seeds_of
from seg.store import Products, param


class GrabCut(ByImage):
    """Masks by OpenCV's GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004), as scores that know their doubts.

    The score is the mean of the cut, 0 or 1, and of what it was made from: from 1/2 on where the cut says foreground,
    near to 1/2 where the two disagree. (Ours: a segmenter's ``soft`` and ``band`` need to know which pixels moved.)

    What is surely background or foreground stays so; the rest starts on the side that its score says and may change.
    Where nothing is known it starts as foreground, as the paper's unknown region does. A score of exactly 0, as outside
    of a box (``supervision.clip=true``), is surely background: the paper's rectangle.

    Attributes:
        scores: any score maps.
        threshold: starts as foreground from it on.
        background_below, foreground_from: surely so.
        iterations: of models and cut.
    """

    what: ClassVar[str] = "GrabCut"

    threshold: float = param(default=0.5, low=0, high=1)
    background_below: float = param(default=0.25, low=0, high=1)
    foreground_from: float = param(default=0.75, low=0, high=1)
    iterations: int = param(default=5, low=1)

    def validate(self) -> None:
        """The right way round."""
        check_seeds(self)

    def check(self, store: Products) -> None:
        """Refuse to begin without OpenCV."""
        if importlib.util.find_spec("cv2") is None:
            raise SegError("refiner=grabcut: needs OpenCV, which is not installed: pip install 'weakseg[grabcut]'")

    def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        """The mean of cut and scores; the cut alone where a score is unknown."""
        cut = self.cut(image, scores)
        return np.where(np.isnan(scores), cut, (cut + scores) / 2)

    def cut(self, image: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """OpenCV's answer.

        Args:
            image: ``uint8 (S, S, 3)`` RGB. scores: ``float32 (S, S)`` in [0, 1]; NaN where nothing is known.

        Returns:
            ``float32 (S, S)`` of 0 and 1. Without colours of both sides to compare what starts as a mask is the
            answer, and NaN where nothing is known.
        """
        import cv2

        sure = seeds_of(scores, self.background_below, self.foreground_from)
        # OpenCV's numbers: 0 and 1 are surely background and foreground, 2 and 3 probably.
        labels = np.where(sure > 0, sure - 1, np.where(scores < np.float32(self.threshold), 2, 3)).astype(np.uint8)
        sides = (labels % 2).astype(np.float32)
        if sides.min() == sides.max():
            return np.where(np.isnan(scores), np.float32(np.nan), sides)
        behind, before = np.zeros((2, 1, 65))
        cv2.setRNGSeed(0)  # of this thread: the models of colours start from random clusters
        image, mode = np.ascontiguousarray(image), cv2.GC_INIT_WITH_MASK
        cv2.grabCut(image, labels, (0, 0, 0, 0), behind, before, self.iterations, mode)
        return (labels % 2).astype(np.float32)
