"""Appearance: colours and textures that images share where a prior is high, in closed form without a network.

A ridge regression (targets 0 and 1) on random Fourier features (Rahimi and Recht, NIPS 2007) of pixels' colours and
textures. Its first targets are 1 where the prior is high, later ones where regression and prior together are. This is
the iterated colour model of GrabCut (Rother et al., SIGGRAPH 2004), for several images together as in co-segmentation
(Rother et al., CVPR 2006).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: Standard deviations, in pixels, of the two neighbourhoods in a pixel's description.
NEAR, FAR = 1.5, 4.0


def describe(image: NDArray[np.uint8]) -> Floats:
    """Describe each pixel and its surroundings.

    Args:
        image: ``uint8 (H, W, 3)`` RGB.

    Returns:
        ``float32 (H, W, 13)``: the colour in [0, 1], two log ratios of its channels (which a shadow hardly
        changes), and the mean colour and the standard deviation of brightness in a near and a far neighbourhood.

    Examples:
        >>> describe(np.full((5, 5, 3), 51, np.uint8))[0, 0, :5].round(3).tolist()
        [0.20000000298023224, 0.20000000298023224, 0.20000000298023224, 0.0, 0.0]
    """
    from scipy.ndimage import gaussian_filter

    colour = image.astype(np.float32) / 255
    brightness = colour.mean(-1)
    logs = np.log(colour + 0.05)
    parts = [colour, logs[..., :1] - logs[..., 1:2], logs[..., 2:] - logs[..., 1:2]]
    for size in (NEAR, FAR):
        variance = gaussian_filter(brightness * brightness, size) - gaussian_filter(brightness, size) ** 2
        parts += [gaussian_filter(colour, (size, size, 0)), np.sqrt(variance.clip(0))[..., None]]
    return np.concatenate(parts, -1)


class FourierFeatures:
    """Random Fourier features of standardised vectors, and a constant: ``float32 (n, d)`` to ``(n, count + 1)``.

    Args:
        points: ``float32 (n, d)``, from which mean and standard deviation are taken.
        count: number of features. rng: source of their random weights.

    Examples:
        >>> points = np.arange(12, dtype=np.float32).reshape(4, 3)
        >>> FourierFeatures(points, 8, np.random.default_rng(0))(points).shape
        (4, 9)
    """

    def __init__(self, points: Floats, count: int, rng: np.random.Generator) -> None:
        self.mean, self.spread = points.mean(0), points.std(0).clip(1e-6)
        self.frequencies = rng.normal(size=(len(self.mean), count)).astype(np.float32)
        self.phases = rng.uniform(0, 2 * np.pi, count).astype(np.float32)

    def __call__(self, points: Floats) -> Floats:
        """See the class."""
        cosines = np.cos(((points - self.mean) / self.spread) @ self.frequencies + self.phases)
        return np.concatenate([cosines, np.ones((len(cosines), 1), np.float32)], 1)


def prior_logit(prior: Floats, slope: float) -> Floats:
    """The prior's logit, ``slope * (prior - 1/2)`` clipped to [-3, 3]; 0 where the prior is NaN."""
    return np.clip(slope * (np.nan_to_num(prior, nan=0.5) - 0.5), -3, 3)


def fit_appearance(
    features: Floats,
    prior: Floats,
    start: float = 0.6,
    rounds: int = 3,
    ridge: float = 1e-3,
    gain: float = 6.0,
    prior_slope: float = 6.0,
) -> Floats:
    """Learn which pixels are foreground.

    Args:
        features: ``float32 (n, d + 1)``, features of pixels, the last a constant.
        prior: ``float32 (n,)`` in [0, 1] or NaN.
        start: the first targets are 1 where the prior is at least this. rounds: of regression. ridge: its penalty.
        gain, prior_slope: slopes of the logit in the regression's output and in the prior.

    Returns:
        ``float32 (d + 1,)`` weights.

    Examples:
        >>> features = np.array([[-1, 1], [-1, 1], [1, 1], [1, 1]], np.float32)
        >>> weights = fit_appearance(features, np.array([0, 0, 0.5, 1], np.float32))
        >>> (features @ weights > 0).tolist()
        [False, False, True, True]
    """
    gram = features.T @ features / len(features)
    gram[np.diag_indices(features.shape[1] - 1)] += ridge  # the constant is not penalised
    inverse: Any = np.linalg.inv(gram)
    foreground, logit = prior >= start, prior_logit(prior, prior_slope)
    for _ in range(rounds):
        weights: Floats = inverse @ (features.T @ foreground.astype(np.float32) / len(features))
        output = features @ weights
        if foreground.any() and not foreground.all():  # threshold midway between the two means
            weights[-1] -= (output[foreground].mean() + output[~foreground].mean()) / 2
        foreground = gain * (features @ weights) + logit >= 0
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
    """The probability of foreground by the learnt appearance and the prior together.

    Args:
        image: ``uint8 (H, W, 3)`` RGB. prior: ``float32 (H, W)`` in [0, 1] or NaN.
        fourier: features of pixels' descriptions. weights, gain, prior_slope: as in :func:`fit_appearance`.
        smooth: standard deviation, in pixels, of the Gaussian that smooths the regression's output.

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
    from scipy.ndimage import gaussian_filter

    described = describe(image).reshape(prior.size, -1)
    parts = np.array_split(described, prior.size // 8192 + 1)  # a large image's features would be 100 MB
    output = np.concatenate([fourier(part) @ weights for part in parts])
    logit = gaussian_filter(gain * output.reshape(prior.shape), smooth)
    return 1 / (1 + np.exp(-logit - prior_logit(prior, prior_slope)))
