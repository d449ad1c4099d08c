"""Co-localisation: where a hint points, what do the images have in common?"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from skimage.filters import threshold_otsu
from torch import Tensor, nn
from torch.nn import functional as F

from seg.errors import SegError
from seg.nets.backbones import make_classifier, weights_of
from seg.store import Products, param
from seg.supervision.scores import ScoreMaps, ScoreStage, infer

log = logging.getLogger(__name__)

#: By the beginning of a backbone's name: the modules whose outputs tell an object from what is behind it. Expanded
#: features of an inverted residual say more than its narrow output; the last stage of a ResNet says less.
LEVELS = {
    "mobilenet_v2": ("features.13.conv.0", "features.14.conv.0", "features.15.conv.0"),
    "resnet": ("layer3",),
}


class Levels(nn.Module):
    """Several levels of a backbone on one grid: ``float (B, 3, S, S)`` to ``float (B, C, g, g)``, that of the finest.

    Args:
        backbone: a torchvision classifier with its weights. modules: names of those whose outputs are wanted.

    Raises:
        SegError: the backbone has no module of such a name, or it is no map.
    """

    def __init__(self, backbone: nn.Module, modules: Sequence[str]) -> None:
        from torchvision.models.feature_extraction import create_feature_extractor

        super().__init__()
        try:
            self.extractor = create_feature_extractor(backbone.eval(), list(modules))
            with torch.no_grad():
                outputs = self.extractor(torch.zeros(1, 3, 64, 64)).values()
                widths = [output.shape[1] for output in outputs if output.ndim == 4]
        except ValueError as error:
            raise SegError(f"colocalise.levels={list(modules)}: {str(error).splitlines()[0]}") from error
        if len(widths) != len(modules):
            raise SegError(f"colocalise.levels={list(modules)}: not all of them are maps")
        ends = np.cumsum(widths)
        self.slices = [slice(int(end - width), int(end)) for end, width in zip(ends, widths, strict=True)]

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        levels = list(self.extractor(images).values())
        grid = max((level.shape[2:] for level in levels), key=max)
        return torch.cat([F.interpolate(x.float(), grid, mode="bilinear", align_corners=False) for x in levels], 1)


class Moments:
    """Means, variances and correlations of features and a hint: a batch's products in float32, their sums in double."""

    def __init__(self) -> None:
        self._total: Tensor | None = None

    def add(self, features: Tensor, hint: Tensor) -> None:
        """Count cells: ``float (n, C)`` features, ``float (n,)`` hint."""
        joined = torch.cat([features, hint[:, None], torch.ones_like(hint)[:, None]], 1)
        gram = (joined.T @ joined).double().cpu()
        self._total = gram if self._total is None else self._total + gram

    def solve(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and standard deviation ``(C,)``, correlations ``(C, C)``, those with the hint ``(C,)``; all double."""
        assert self._total is not None
        gram = self._total / self._total[-1, -1]
        mean = gram[-1, :-1]
        covariance = gram[:-1, :-1] - mean[:, None] * mean[None]
        spread = covariance.diagonal().clamp_min(1e-12).sqrt()
        correlation = covariance / (spread[:, None] * spread[None])
        return mean[:-1], spread[:-1], correlation[:-1, :-1], correlation[:-1, -1]


def hinted_component(correlation: Tensor, with_hint: Tensor, components: int) -> Tensor:
    """The principal component, of the first few, that goes best with the hint, in its direction.

    Args:
        correlation: ``double (C, C)`` of standardised features. with_hint: ``double (C,)``, theirs with the hint.
        components: how many are looked at.

    Returns:
        ``double (C,)``: weights of the features, whose sum has variance 1 and correlates positively with the hint.
    """
    variances, vectors = torch.linalg.eigh(correlation)
    units = vectors[:, -components:] / variances[-components:].clamp_min(1e-9).sqrt()
    agreement = with_hint @ units
    best = int(agreement.abs().argmax())
    return units[:, best] * agreement[best].sign()


class Colocalised(ScoreStage):
    """Score maps of what the images share, told from what is behind it by a hint; no network is trained.

    After X.-S. Wei et al., Unsupervised Object Discovery and Co-Localization by Deep Descriptor Transforming, Pattern
    Recognition 2019: principal components of frozen features, over the cells of all images together. Of the first few
    of each level the one that goes best with the hint is taken (often not the first, which is the activation's size),
    in the direction of the hint; the mean of the levels and a share of the hint are the first map. What is ours: that
    map, split by Otsu's threshold, is what a ridge regression on the features then learns (least squares on 0 and 1:
    Fisher's discriminant), ``rounds`` times over, each from the cells that the one before put above one half.
    Everything is in closed form, and no mask is looked at.

    Attributes:
        scores: the hint: CAM, Gaussians on boxes, or any other.
        backbone: torchvision's name. weights: as for :func:`seg.nets.backbones.make_classifier`. They need not be those
            of the hint: features that were tuned to tell breeds apart have learnt to look at heads.
        levels: modules whose outputs are the features; null for those that are known to suit the backbone.
        size: side in pixels at which images are seen.
        components: so many of each level's first principal components are looked at.
        hint: weight of the hint in the first map, in standard deviations, beside the components' 1.
        rounds: of regression. dims: principal components of all levels together that it uses. ridge: its penalty, in
            units of a feature's variance.
        fit_images: so many images at most, spread evenly, are learnt from; all get maps.
        gain: slope of the logistic that brings a map, in standard deviations, to [0, 1]; the discriminant's own
            boundary becomes 0.5.
    """

    what: ClassVar[str] = "co-localisation"

    scores: ScoreStage
    backbone: str = param(default="resnet18")
    weights: str | None = param(default="DEFAULT", content=weights_of("backbone"))
    levels: tuple[str, ...] | None = param(default=None)
    size: int = param(default=320, low=64)
    components: int = param(default=6, low=1)
    hint: float = param(default=0.25, low=0)
    rounds: int = param(default=8, low=1)
    dims: int = param(default=512, low=1)
    ridge: float = param(default=0.03, above=0)
    fit_images: int = param(default=1000, low=1)
    gain: float = param(default=2.0, above=0)

    @property
    def title(self) -> str:
        """The hint is part of it."""
        return f"co-loc. {self.scores.title}"

    def check(self, store: Products) -> None:
        """Load the weights once, before anything long, and see that the backbone has the levels."""
        self._net()

    def _net(self) -> Levels:
        known = [levels for name, levels in LEVELS.items() if self.backbone.startswith(name)]
        levels = self.levels or next(iter(known), None)
        if levels is None:
            raise SegError(
                f"colocalise.backbone={self.backbone}: name the modules whose features to use: colocalise.levels"
            )
        if self.weights is None:
            raise SegError(
                "colocalise.weights=null: random features have nothing in common; give ImageNet's, or a file"
            )
        try:
            backbone = make_classifier(self.backbone, 2, self.weights)
        except SegError as error:
            said = str(error).replace(", or weights=null for none", "").replace("weights=", "colocalise.weights=")
            raise SegError(f"{said}; colocalise=none does without") from error
        return Levels(backbone, levels)

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Three passes: moments of the features, their projections, the maps. Memory does not grow with the images."""
        hint: ScoreMaps = store.get(self.scores)
        net = self._net().to(store.runtime.device)
        chosen = np.linspace(0, len(hint) - 1, min(self.fit_images, len(hint))).round().astype(int)
        moments, grid = Moments(), (0, 0)

        def cells(images: Tensor) -> tuple[Tensor, tuple[int, int]]:
            maps = net(F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True))
            return maps.permute(0, 2, 3, 1).flatten(0, 2), tuple(maps.shape[2:])

        def count(images: Tensor, part: np.ndarray) -> Tensor:
            nonlocal grid
            features, grid = cells(images)
            # What nobody knows hints at nothing.
            hints = torch.from_numpy(hint.at(chosen[part], grid)).nan_to_num(0.5).flatten()
            moments.add(features, hints.to(features.device))
            return hints

        def over(rows: np.ndarray, compute: Any, what: str) -> Any:
            return infer(compute, hint.data, rows, store.runtime, f"co-localisation, {what}", most=16)

        hints = _unit(torch.from_numpy(np.concatenate(list(over(hint.rows[chosen], count, "moments")))))
        mean, spread, correlation, with_hint = moments.solve()
        starts = [hinted_component(correlation[s, s], with_hint[s], self.components) for s in net.slices]
        start = torch.cat(starts) / len(starts)
        variances, vectors = torch.linalg.eigh(correlation)
        variances = variances[-self.dims :].clamp_min(1e-9)
        basis = vectors[:, -self.dims :] / variances.sqrt()

        def project(weights: Tensor) -> Any:
            """Features of cells, standardised, times weights; in one product."""
            scaled = (weights / spread[:, None]).float().to(store.runtime.device)
            shift = (mean / spread @ weights).float().to(store.runtime.device)
            return lambda images, _: cells(images)[0] @ scaled - shift

        points = torch.empty(len(hints), len(variances) + 1)
        end = 0
        for part in over(hint.rows[chosen], project(torch.cat([basis, start[:, None]], 1)), "projections"):
            points[end : (end := end + len(part))] = torch.from_numpy(part)
        found = _unit(_unit(points[:, -1]) + self.hint * hints)
        points = points[:, :-1]
        above = found >= threshold_otsu(found.numpy())
        for _ in range(self.rounds):
            share = float(above.float().mean())
            fitted = points.T @ (above.float() - share) / len(above) * (variances / (variances + self.ridge)).float()
            found = points @ fitted
            above = found >= 0.5 - share
        unit = float(found.std().clamp_min(1e-9))
        direction, middle = basis @ fitted.double() / unit, (0.5 - share) / unit
        share = float(above.float().mean())
        tell, bias = points[:0].T, points[:0, 0]
        if hint.data.task == "classes":
            tell, bias = apart(points[above], *_named(hint, chosen, grid, above))
        score = project(torch.cat([direction[:, None], basis @ tell.double()], 1))
        asked: list[Sequence[int]] = []

        def maps(images: Tensor, part: np.ndarray) -> Tensor:
            answers = score(images, part).reshape(len(images), *grid, -1)
            values = torch.sigmoid(self.gain * (answers[..., 0] - middle)).half()
            if hint.data.task == "foreground":
                return values
            asked.extend(hint.codes(part))
            several = [values[:0]]
            for codes, value, answer in zip(asked[-len(part) :], values, answers, strict=True):
                if len(codes) > 1:
                    own = (answer[..., 1:] + bias.to(answer.device))[..., codes].permute(2, 0, 1)
                    # The likeliest class has the foreground's score.
                    several.append(value * torch.exp(own - own.amax(0)).half())
                elif codes:
                    several.append(value[None])
            return torch.cat(several)

        notes = self.save(out, hint.data, hint.rows, over(hint.rows, maps, "maps"), asked)
        log.info("co-localisation: %.0f %% of the cells are foreground", 100 * share)
        return notes | {"foreground": round(share, 3)}


def _named(hint: ScoreMaps, chosen: np.ndarray, grid: tuple[int, int], above: Tensor) -> tuple[Tensor, Tensor]:
    """Of the cells ``above`` the class by the hint, ``int64 (n,)``, and the classes of their image, ``bool (n, K)``."""
    which = np.concatenate([hint.winner(chosen[i : i + 64], grid)[1] for i in range(0, len(chosen), 64)])
    may = torch.zeros(len(chosen), hint.data.count + 1, dtype=torch.bool)
    for image, codes in enumerate(hint.codes(chosen)):
        may[image, list(codes)] = True
    cells = above.nonzero()[:, 0]
    return torch.from_numpy(which.reshape(-1)).long()[cells], may[cells // (grid[0] * grid[1])]


def apart(points: Tensor, named: Tensor, may: Tensor, rounds: int = 3, ridge: float = 0.03) -> tuple[Tensor, Tensor]:
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
    """
    points, named, may = (x[may.any(1)] for x in (points, named, may))
    weights, bias = points.new_zeros(points.shape[1], may.shape[1]), points.new_full((may.shape[1],), -torch.inf)
    named = torch.where(may.gather(1, named[:, None])[:, 0], named, may.int().argmax(1))
    for _ in range(rounds if len(points) else 0):
        there = named.unique()
        means = torch.stack([points[named == code].mean(0) for code in there])
        apart = points - means[torch.searchsorted(there, named)]
        covariance = apart.T @ apart / len(apart)
        covariance.diagonal().add_(ridge)
        weights[:, there] = torch.linalg.solve(covariance, means.T)
        bias[there] = -(means.T * weights[:, there]).sum(0) / 2
        likely = points @ weights + bias
        named = torch.where(may, likely, -torch.inf).argmax(1)
    return weights, bias


def _unit(values: Tensor) -> Tensor:
    """Brought to mean 0 and standard deviation 1."""
    return (values - values.mean()) / values.std().clamp_min(1e-9)
