"""Co-localisation: what do images have in common where a prior is high? In closed form, without training or masks.

After X.-S. Wei et al., Unsupervised Object Discovery and Co-Localization by Deep Descriptor Transforming, Pattern
Recognition 2019: principal components of frozen features, over the cells of all images. Among the first few, the one
with the largest correlation with the prior is taken (often not the first, which is the magnitude of the activation).
The first map is the sum of that component and a share of the prior. Ours: a ridge regression on the features (least
squares on 0 and 1: Fisher's discriminant) learns that map, split by Otsu's threshold, and is repeated several times,
each time with the cells that were above one half before as targets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class Moments:
    """Means, variances and correlations of features and a prior, in double."""

    def __init__(self) -> None:
        self._total: Tensor | None = None

    def add(self, features: Tensor, prior: Tensor) -> None:
        """Count cells: ``float (n, C)`` features, ``float (n,)`` prior."""
        joined = torch.cat([features, prior[:, None], torch.ones_like(prior)[:, None]], 1)
        gram = (joined.T @ joined).double().cpu()
        self._total = gram if self._total is None else self._total + gram

    def solve(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and standard deviation ``(C,)``, correlations ``(C, C)``, those with the prior ``(C,)``; all double."""
        assert self._total is not None
        gram = self._total / self._total[-1, -1]
        mean = gram[-1, :-1]
        covariance = gram[:-1, :-1] - mean[:, None] * mean[None]
        spread = covariance.diagonal().clamp_min(1e-12).sqrt()
        correlation = covariance / (spread[:, None] * spread[None])
        return mean[:-1], spread[:-1], correlation[:-1, :-1], correlation[:-1, -1]


def prior_component(correlation: Tensor, with_prior: Tensor, components: int) -> Tensor:
    """The principal component, among the first few, with the largest correlation with the prior, signed to be positive.

    Args:
        correlation: ``double (C, C)`` of standardised features. with_prior: ``double (C,)``, of these with the prior.
        components: number of components to choose from.

    Returns:
        ``double (C,)``: weights of the features, whose sum has variance 1 and correlates positively with the prior.
    """
    variances, vectors = torch.linalg.eigh(correlation)
    units = vectors[:, -components:] / variances[-components:].clamp_min(1e-9).sqrt()
    agreement = with_prior @ units
    best = int(agreement.abs().argmax())
    return units[:, best] * agreement[best].sign()


@dataclass(frozen=True)
class Foreground:
    """A linear discriminant of the foreground on principal components.

    Attributes:
        mean, spread: ``double (C,)`` of the features. first: ``double (C,)``, the component of the first map.
        basis: ``double (C, d)``, principal components scaled to variance 1. variances: ``double (d,)`` before scaling.
    """

    mean: Tensor
    spread: Tensor
    first: Tensor
    basis: Tensor
    variances: Tensor

    @classmethod
    def of(cls, moments: Moments, levels: Sequence[slice], components: int = 6, dims: int = 512) -> "Foreground":
        """From moments: ``first`` is the mean of one component a level, ``basis`` has ``dims`` components of all."""
        mean, spread, correlation, with_prior = moments.solve()
        starts = [prior_component(correlation[s, s], with_prior[s], components) for s in levels]
        variances, vectors = torch.linalg.eigh(correlation)
        variances = variances[-dims:].clamp_min(1e-9)
        return cls(mean, spread, torch.cat(starts) / len(starts), vectors[:, -dims:] / variances.sqrt(), variances)

    def project(self, weights: Tensor, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
        """The map of ``float (n, C)`` features to standardised features times ``double (C, k)`` weights."""
        scaled = (weights / self.spread[:, None]).float().to(device)
        shift = (self.mean / self.spread @ weights).float().to(device)
        return lambda features: features @ scaled - shift

    @property
    def coordinates(self) -> Tensor:
        """``double (C, d + 1)``: the weights of the coordinates that :meth:`fit` takes, ``basis`` and ``first``."""
        return torch.cat([self.basis, self.first[:, None]], 1)

    def fit(
        self, points: Tensor, prior: Tensor, prior_weight: float, may: Tensor, rounds: int = 8, ridge: float = 0.03
    ) -> tuple[Tensor, float, Tensor]:
        """Regress the foreground ``rounds`` times.

        Args:
            points: ``float (n, d + 1)``, the ``coordinates`` of cells. prior: ``float (n,)``.
            prior_weight: of the prior in the first map, in standard deviations, where the component has 1.
            may: ``bool (n,)``: False for cells of images that are known to have no foreground.
            ridge: penalty, in units of a feature's variance.

        Returns:
            ``double (C,)`` weights of the standardised features, whose sum has variance 1; the value from which this
            sum is foreground; and ``float (n,)``, this sum of each cell, minus infinity where it may not be foreground.
        """
        from skimage.filters import threshold_otsu

        first, points = unit(unit(points[:, -1]) + prior_weight * unit(prior)), points[:, :-1]
        above = (first >= threshold_otsu(first.numpy())) & may
        for _ in range(rounds):
            share = float(above.float().mean())
            shrunk = (self.variances / (self.variances + ridge)).float()
            fitted = points.T @ (above.float() - share) / len(above) * shrunk
            found = points @ fitted
            above = (found >= 0.5 - share) & may
        scale = float(found.std().clamp_min(1e-9))
        return self.basis @ fitted.double() / scale, (0.5 - share) / scale, torch.where(may, found / scale, -torch.inf)


def colocalise(
    features: Tensor,
    prior: Tensor,
    prior_weight: float = 0.25,
    components: int = 6,
    dims: int = 512,
    rounds: int = 8,
    ridge: float = 0.03,
    gain: float = 2.0,
) -> Tensor:
    """Score maps of what images have in common, from features in memory.

    Args:
        features: ``float (n, C, h, w)`` of a frozen network. prior: ``float (n, h, w)`` in [0, 1], NaN for unknown.
        prior_weight: of the prior in the first map, in standard deviations, where the component has 1.
        components: principal components to choose from for the first map. dims: components that the regression uses.
        rounds, ridge: of the regression. gain: slope of the logistic that brings a map to [0, 1].

    Returns:
        ``float (n, h, w)`` in [0, 1]; the discriminant's boundary is 0.5.

    Examples:
        >>> features = torch.randn(4, 8, 10, 10, generator=torch.Generator().manual_seed(0))
        >>> features[:, :4, 3:8, 3:8] += 3  # what they share
        >>> prior = torch.zeros(4, 10, 10)
        >>> prior[:, 5:7, 5:7] = 1  # a part of it
        >>> (colocalise(features, prior)[:, 3:8, 3:8] > 0.5).float().mean() > 0.9
        tensor(True)
    """
    cells, flat = features.permute(0, 2, 3, 1).flatten(0, 2), prior.nan_to_num(0.5).flatten()
    moments = Moments()
    moments.add(cells, flat)
    foreground = Foreground.of(moments, [slice(0, cells.shape[1])], components, dims)
    points = foreground.project(foreground.coordinates)(cells)
    may = torch.ones_like(flat, dtype=torch.bool)
    weights, boundary, _ = foreground.fit(points, flat, prior_weight, may, rounds, ridge)
    return torch.sigmoid(gain * (foreground.project(weights[:, None])(cells)[:, 0] - boundary)).reshape(prior.shape)


def class_discriminants(
    points: Tensor, named: Tensor, may: Tensor, rounds: int = 3, ridge: float = 0.03
) -> tuple[Tensor, Tensor]:
    """Linear discriminants between classes of cells, from image labels.

    Most images show one class, and their cells are of that class. Cells of images with several classes are reassigned
    in each round to the most likely class of their image (equal class priors, one covariance).

    Args:
        points: ``float (n, d)`` features of foreground cells. named: ``int64 (n,)``, the initial class of each, from 1
            on. may: ``bool (n, K)``, the classes of the cell's image; a cell without any is left out.
        rounds: of reassignment. ridge: added to the covariance, in units of a feature's variance.

    Returns:
        Weights ``(d, K)`` and biases ``(K,)`` of the log-likelihoods, up to a constant; 0 and minus infinity for a
        class without a cell.

    Examples:
        >>> points = torch.tensor([[0.0], [0.1], [1.0], [1.1]])
        >>> named = torch.tensor([1, 1, 2, 2])
        >>> weights, bias = class_discriminants(points, named, torch.nn.functional.one_hot(named).bool())
        >>> (points @ weights + bias).argmax(1).tolist()
        [1, 1, 2, 2]
    """
    points, named, may = (x[may.any(1)] for x in (points, named, may))
    weights, bias = points.new_zeros(points.shape[1], may.shape[1]), points.new_full((may.shape[1],), -torch.inf)
    named = torch.where(may.gather(1, named[:, None])[:, 0], named, may.int().argmax(1))
    for _ in range(rounds if len(points) else 0):
        there = named.unique()
        means = torch.stack([points[named == code].mean(0) for code in there])
        centred = points - means[torch.searchsorted(there, named)]
        covariance = centred.T @ centred / len(centred)
        covariance.diagonal().add_(ridge)
        weights[:, there] = torch.linalg.solve(covariance, means.T)
        bias[there] = -(means.T * weights[:, there]).sum(0) / 2
        named = torch.where(may, points @ weights + bias, -torch.inf).argmax(1)
    return weights, bias


def unit(values: Tensor) -> Tensor:
    """Values brought to mean 0 and standard deviation 1."""
    return (values - values.mean()) / values.std().clamp_min(1e-9)
