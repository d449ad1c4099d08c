"""Co-localisation: what do images share where a prior points? In closed form; no network is trained, no mask is used.

After X.-S. Wei et al., Unsupervised Object Discovery and Co-Localization by Deep Descriptor Transforming, Pattern
Recognition 2019: principal components of frozen features, over the cells of all images together. Of the first few the
one that goes best with the prior is taken (often not the first, which is the activation's size), in its direction; that
and a share of the prior are the first map. Ours: that map, split by Otsu's threshold, is what a ridge regression on the
features then learns (least squares on 0 and 1: Fisher's discriminant), several times over, each from the cells that the
one before put above one half.
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
    """The principal component, of the first few, that goes best with the prior, in its direction.

    Args:
        correlation: ``double (C, C)`` of standardised features. with_prior: ``double (C,)``, theirs with the prior.
        components: how many are looked at.

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
        mean, spread: ``double (C,)`` of the features. first: ``double (C,)``, weights of the first map.
        basis: ``double (C, d)``, the principal components with variance 1. variances: ``double (d,)``, their own.
    """

    mean: Tensor
    spread: Tensor
    first: Tensor
    basis: Tensor
    variances: Tensor

    @classmethod
    def of(cls, moments: Moments, levels: Sequence[slice], components: int = 6, dims: int = 512) -> "Foreground":
        """From moments: the first map is the mean over ``levels`` of the features; ``dims`` components of all."""
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

    def fit(
        self, points: Tensor, first: Tensor, may: Tensor, rounds: int = 8, ridge: float = 0.03
    ) -> tuple[Tensor, float, Tensor]:
        """Regress the foreground ``rounds`` times.

        Args:
            points: ``float (n, d)``, cells on the basis. first: ``float (n,)``, the first map.
            may: ``bool (n,)``: False for cells of images that are known to show nothing.
            ridge: penalty, in units of a feature's variance.

        Returns:
            ``double (C,)`` weights of the standardised features, whose sum has variance 1; the boundary on it, where
            the foreground begins; and ``bool (n,)``, the cells that are foreground.
        """
        from skimage.filters import threshold_otsu

        above = (first >= threshold_otsu(first.numpy())) & may
        for _ in range(rounds):
            share = float(above.float().mean())
            shrunk = (self.variances / (self.variances + ridge)).float()
            fitted = points.T @ (above.float() - share) / len(above) * shrunk
            found = points @ fitted
            above = (found >= 0.5 - share) & may
        unit = float(found.std().clamp_min(1e-9))
        return self.basis @ fitted.double() / unit, (0.5 - share) / unit, above


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
    """Score maps of what images share, all of them in memory.

    Args:
        features: ``float (n, C, h, w)`` of a frozen network. prior: ``float (n, h, w)`` in [0, 1], NaN for unknown.
        prior_weight: of the prior in the first map, in standard deviations, beside the component's 1.
        components: principal components that are looked at for the first map. dims: those that the regression uses.
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
    points = foreground.project(torch.cat([foreground.basis, foreground.first[:, None]], 1))(cells)
    first = unit(unit(points[:, -1]) + prior_weight * unit(flat))
    may = torch.ones_like(first, dtype=torch.bool)
    weights, boundary, _ = foreground.fit(points[:, :-1], first, may, rounds, ridge)
    return torch.sigmoid(gain * (foreground.project(weights[:, None])(cells)[:, 0] - boundary)).reshape(prior.shape)


def class_discriminants(
    points: Tensor, named: Tensor, may: Tensor, rounds: int = 3, ridge: float = 0.03
) -> tuple[Tensor, Tensor]:
    """Linear discriminants that tell classes of cells apart, from what their images are known to show.

    Most images show one class, whose cells are surely of it. Those of images with several are put, round by round, to
    the class of their image that the others' cells speak for (equal priors, one covariance).

    Args:
        points: ``float (n, d)`` features of the foreground's cells. named: ``int64 (n,)``, the class that each is taken
            for at first, from 1 on. may: ``bool (n, K)``, those that it may be of; a cell without any is left out.
        rounds: of that. ridge: added to the covariance, in units of a feature's variance.

    Returns:
        Weights ``(d, K)`` and biases ``(K,)``: log-likelihoods but for what all classes share; of a class without a
        cell 0 and minus infinity.

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
