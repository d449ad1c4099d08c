"""Appearance: which colours and textures do images share where a prior points? In closed form, without a network.

A ridge regression (least squares on 0 and 1) on random Fourier features (Rahimi and Recht, NIPS 2007) of what pixels
look like, learnt from where a prior is high, and then some times over from where it and the prior together are. It is
the iterated colour model of GrabCut (Rother et al., SIGGRAPH 2004), of several images together as in co-segmentation
(Rother et al., CVPR 2006).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float32]

#: Standard deviations, in pixels, of the neighbourhoods that a pixel is described by.
NEAR, FAR = 1.5, 4.0


def describe(image: NDArray[np.uint8]) -> Floats:
    """What a pixel and its surroundings look like.

    Args:
        image: ``uint8 (H, W, 3)`` RGB.

    Returns:
        ``float32 (H, W, 13)``: the colour in [0, 1], its two chromaticities (logarithms of ratios, which a
        shadow hardly changes), and of a near and a far neighbourhood the mean colour and the standard deviation of the
        brightness.

    Examples:
        >>> describe(np.full((5, 5, 3), 51, np.uint8))[0, 0, :5].round(3).tolist()
        [0.20000000298023224, 0.20000000298023224, 0.20000000298023224, 0.0, 0.0]
    """
    colour = image.astype(np.float32) / 255
    bright = colour.mean(-1)
    logs = np.log(colour + 0.05)
    found = [colour, logs[..., :1] - logs[..., 1:2], logs[..., 2:] - logs[..., 1:2]]
    for size in (NEAR, FAR):
        variance = gaussian_filter(bright * bright, size) - gaussian_filter(bright, size) ** 2
        found += [gaussian_filter(colour, (size, size, 0)), np.sqrt(variance.clip(0))[..., None]]
    return np.concatenate(found, -1)


class FourierFeatures:
    """Random Fourier features of standardised vectors, and a constant: ``float32 (n, d)`` to ``(n, count + 1)``.

    Args:
        points: ``float32 (n, d)``, whose mean and standard deviation are taken.
        count: how many features. rng: their source.

    Examples:
        >>> points = np.arange(12, dtype=np.float32).reshape(4, 3)
        >>> FourierFeatures(points, 8, np.random.default_rng(0))(points).shape
        (4, 9)
    """

    def __init__(self, points: Floats, count: int, rng: np.random.Generator) -> None:
        self.mean, self.spread = points.mean(0), points.std(0).clip(1e-6)
        self.mix = rng.normal(size=(len(self.mean), count)).astype(np.float32)
        self.turn = rng.uniform(0, 2 * np.pi, count).astype(np.float32)

    def __call__(self, points: Floats) -> Floats:
        """See the class."""
        waves = np.cos(((points - self.mean) / self.spread) @ self.mix + self.turn)
        return np.concatenate([waves, np.ones((len(waves), 1), np.float32)], 1)


def prior_logit(prior: Floats, slope: float) -> Floats:
    """The prior's part in the logistic: 0 at 1/2 and where it is NaN, held to [-3, 3]."""
    return np.clip(slope * (np.nan_to_num(prior, nan=0.5) - 0.5), -3, 3)


def fit_appearance(
    waves: Floats,
    prior: Floats,
    start: float = 0.6,
    rounds: int = 3,
    ridge: float = 1e-3,
    gain: float = 6.0,
    prior_slope: float = 6.0,
) -> Floats:
    """Learn which pixels are foreground.

    Args:
        waves: ``float32 (n, d + 1)``, features of pixels, the last a constant.
        prior: ``float32 (n,)`` in [0, 1] or NaN.
        start: at first foreground is where the prior is at least this. rounds: of regression. ridge: its penalty.
        gain, prior_slope: slopes of the regression's and the prior's parts in the logistic.

    Returns:
        ``float32 (d + 1,)`` weights.

    Examples:
        >>> waves = np.array([[-1, 1], [-1, 1], [1, 1], [1, 1]], np.float32)
        >>> weights = fit_appearance(waves, np.array([0, 0, 0.5, 1], np.float32))
        >>> (waves @ weights > 0).tolist()
        [False, False, True, True]
    """
    gram = waves.T @ waves / len(waves)
    gram[np.diag_indices(waves.shape[1] - 1)] += ridge  # the constant is not held back
    inverse: Any = np.linalg.inv(gram)
    above, logit = prior >= start, prior_logit(prior, prior_slope)
    for _ in range(rounds):
        weights: Floats = inverse @ (waves.T @ above.astype(np.float32) / len(waves))
        found = waves @ weights
        if above.any() and not above.all():  # Fisher's boundary: how many pixels are foreground is no evidence
            weights[-1] -= (found[above].mean() + found[~above].mean()) / 2
        above = gain * (waves @ weights) + logit >= 0
    return weights


def appearance_scores(
    image: NDArray[np.uint8],
    prior: Floats,
    fourier: FourierFeatures,
    weights: Floats,
    gain: float = 6.0,
    prior_slope: float = 6.0,
    smooth: float = 1.5,
) -> Floats:
    """The logistic of a learnt appearance and the prior together.

    Args:
        image: ``uint8 (H, W, 3)`` RGB. prior: ``float32 (H, W)`` in [0, 1] or NaN.
        fourier: of pixels' descriptions. weights: as of :func:`fit_appearance`. gain, prior_slope: as there.
        smooth: standard deviation, in pixels, of the Gaussian that smooths the regression's answers.

    Returns:
        ``float32 (H, W)`` in [0, 1].

    Examples:
        >>> image = np.zeros((16, 16, 3), np.uint8)
        >>> image[4:12, 4:12] = 250, 60, 0  # an object
        >>> prior = np.full((16, 16), 0.4, np.float32)
        >>> prior[5:7, 5:7] = 0.9  # points to a part of it
        >>> pixels = describe(image).reshape(-1, 13)
        >>> fourier = FourierFeatures(pixels, 64, np.random.default_rng(0))
        >>> weights = fit_appearance(fourier(pixels), prior.ravel())
        >>> scores = appearance_scores(image, prior, fourier, weights)
        >>> bool(scores[5:11, 5:11].min() > scores[:2].max())
        True
    """
    described = describe(image).reshape(prior.size, -1)
    parts = np.array_split(described, prior.size // 8192 + 1)  # a large image's features would be 100 MB
    found = np.concatenate([fourier(part) @ weights for part in parts])
    found = gaussian_filter(gain * found.reshape(prior.shape), smooth)
    return 1 / (1 + np.exp(-found - prior_logit(prior, prior_slope)))
