"""Superpixels vote: every pixel is given the mean score of the superpixel that it lies in."""

from typing import ClassVar

import numpy as np

from seg.refiner.by_image import ByImage
from seg.store import param


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

        of = slic(
            image,
            n_segments=self.segments,
            compactness=self.compactness,
            sigma=self.sigma,
            spacing=spacing,
            start_label=0,
            channel_axis=-1,
        )
        return means(scores, of)


def means(scores: np.ndarray, of: np.ndarray) -> np.ndarray:
    """``float32 (S, S)``: the mean of the known scores with the same number in ``of``, NaN where none is known.

    Args:
        scores: ``float32 (S, S)``, NaN where nothing is known. of: ``int (S, S)``, from 0 on.
    """
    known = ~np.isnan(scores)
    count = np.bincount(of[known], minlength=of.max() + 1)
    total = np.bincount(of[known], scores[known], minlength=len(count))
    mean = np.full(len(count), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean.astype(np.float32)[of]
