"""Co-localisation: where a prior points, what do the images have in common?"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.errors import SegError
from seg.methods.colocalise import Foreground, Moments, class_discriminants, unit
from seg.nets.backbones import Backbone, make_classifier
from seg.nets.pretrained import known_backbone, weights_of
from seg.store import Products, Runtime, param
from seg.supervision.feature_cache import FeatureCache
from seg.supervision.scores import ScoreMaps, ScoreStage, infer

log = logging.getLogger(__name__)

#: By the beginning of a backbone's name: the modules whose outputs tell an object from what is behind it.
LEVELS = {
    "mobilenet_v2": ("features.13.conv.0", "features.14.conv.0", "features.15.conv.0"),
}


class Levels(nn.Module):
    """Several levels of a backbone on the finest one's grid: ``float (B, 3, S, S)`` to ``float (B, C, g, g)``.

    Args:
        backbone: with its weights. name: as the config calls it.
        modules: names of those whose outputs are wanted; None for those that are known to suit the backbone, else its
            level of stride 16, of a plain vision transformer the last one.
    """

    def __init__(self, backbone: Backbone, modules: Sequence[str] | None, name: str = "") -> None:
        super().__init__()
        self.backbone = backbone.eval()
        strides = [stride for stride in backbone.levels if stride <= (32 if backbone.is_plain else 16)]
        known = [levels for beginning, levels in LEVELS.items() if name.startswith(beginning)]
        self.names = tuple(modules or next(iter(known), (backbone.levels[max(strides)].module,)))
        try:
            with torch.no_grad():
                widths = [output.shape[1] for output in backbone.maps(torch.zeros(1, 3, 64, 64), self.names)]
        except SegError as error:
            raise SegError(f"colocalise.levels={list(self.names)}: {error}") from None
        ends = np.cumsum(widths)
        self.slices = [slice(int(end - width), int(end)) for end, width in zip(ends, widths, strict=True)]

    def forward(self, images: Tensor) -> Tensor:
        levels = self.backbone.maps(images, self.names)
        grid = max((level.shape[2:] for level in levels), key=max)
        return torch.cat([F.interpolate(x.float(), grid, mode="bilinear", align_corners=False) for x in levels], 1)


class Joined(nn.Module):
    """Levels of several backbones, on the first one's grid."""

    def __init__(self, nets: Sequence[Levels]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        starts = np.cumsum([0, *(net.slices[-1].stop for net in nets)]).tolist()
        self.slices = [
            slice(s.start + start, s.stop + start) for start, net in zip(starts, nets, strict=False) for s in net.slices
        ]

    def forward(self, images: Tensor) -> Tensor:
        first, *others = (net(images) for net in self.nets)
        resized = (F.interpolate(x, first.shape[2:], mode="bilinear", align_corners=False) for x in others)
        return torch.cat([first, *resized], 1)


class Colocalised(ScoreStage):
    """Score maps of what the images share where a prior points (:mod:`seg.methods.colocalise`); nothing is trained.

    The first map is the mean over levels of a component each, and a share of the prior.

    Attributes:
        scores: the prior: CAM, Gaussians on boxes, or any other.
        backbone: as for the classifier. weights: as for :func:`seg.nets.backbones.make_classifier`.
        levels: modules whose outputs are the features; null for those that suit the backbone, see :class:`Levels`.
        second_backbone: whose features stand beside the first one's, with ``second_weights``. Without weights, or where
            it is the first one too, there is no second.
        size: side in pixels at which images are seen.
        components: so many of each level's first principal components are looked at.
        prior: weight of the prior in the first map, in standard deviations, beside the components' 1.
        rounds: of regression. dims: principal components of all levels together that it uses. ridge: its penalty, in
            units of a feature's variance.
        fit_images: so many images at most, spread evenly, are learnt from; all get maps.
        margin: the boundary lies so many standard deviations above the discriminant's own: a cell beside an object sees
            it too.
        gain: slope of the logistic that brings a map, in standard deviations, to [0, 1]; the boundary
            becomes 0.5.
    """

    what: ClassVar[str] = "co-localisation"

    scores: ScoreStage
    backbone: str = param(default="resnet18", content=known_backbone)
    weights: str | None = param(default="DEFAULT", content=weights_of("backbone", "colocalise."))
    levels: tuple[str, ...] | None = param(default=None)
    second_backbone: str = param(default="resnet18", content=known_backbone)
    second_weights: str | None = param(default=None, content=weights_of("second_backbone", "colocalise.second_"))
    size: int = param(default=320, low=64)
    components: int = param(default=6, low=1)
    prior: float = param(default=0.25, low=0)
    rounds: int = param(default=8, low=1)
    dims: int = param(default=512, low=1)
    ridge: float = param(default=0.03, above=0)
    fit_images: int = param(default=1000, low=1)
    margin: float = param(default=0.0)
    gain: float = param(default=2.0, above=0)

    @property
    def title(self) -> str:
        return f"co-loc. {self.scores.title}"

    def check(self, store: Products) -> None:
        """Load the weights once, before anything long, and see that the backbone has the levels."""
        self.net()

    def net(self) -> Joined:
        """The frozen features."""
        if self.weights is None:
            raise SegError(
                "colocalise.weights=null: random features have nothing in common; give ImageNet's, or a file"
            )
        try:
            backbone = make_classifier(self.backbone, 2, self.weights, section="colocalise.")
        except SegError as error:
            raise SegError(f"{error}; colocalise=none does without") from error
        nets = [Levels(backbone, self.levels, self.backbone)]
        if self.second_weights is not None and self.second_backbone != self.backbone:
            try:
                second = make_classifier(self.second_backbone, 2, self.second_weights, section="colocalise.second_")
            except SegError as error:
                raise SegError(f"{error}; colocalise.second_weights=null does without") from error
            nets.append(Levels(second, None, self.second_backbone))
        return Joined(nets)

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Three passes over cached features: moments, projections, maps. Memory does not grow with the images."""
        prior: ScoreMaps = store.get(self.scores)
        cache = FeatureCache(out, store.runtime.device.type == "cpu", networks=2)
        cells = _Cells(self.net(), self.size, prior, store.runtime, cache)
        chosen = np.linspace(0, len(prior) - 1, min(self.fit_images, len(prior))).round().astype(int)
        project, above, boundary, bias = self._learn(prior, chosen, cells)

        def maps(images: Tensor, part: np.ndarray) -> Tensor:
            answers = project(cells(images)).reshape(len(images), *cells.grid, -1)
            values = torch.sigmoid(self.gain * (answers[..., 0] - boundary - self.margin)).half()
            several = [values[:0]]
            for own, value, answer in zip((prior.ids[i] for i in part), values, answers, strict=True):
                if len(own) > 1:
                    likely = (answer[..., 1:] + bias.to(answer.device))[..., own].permute(2, 0, 1)
                    # The likeliest class has the foreground's score.
                    several.append(value * torch.exp(likely - likely.amax(0)).half())
                elif own:
                    several.append(value[None])
            return torch.cat(several)

        notes = self.save(out, prior.data, prior.rows, cells.over(np.arange(len(prior)), maps, "maps"), prior.ids)
        share = float(above.float().mean())
        log.info("co-localisation: %.0f %% of the cells are foreground", 100 * share)
        return notes | {"foreground": round(share, 3)}

    def _learn(
        self, prior: ScoreMaps, chosen: np.ndarray, cells: "_Cells"
    ) -> tuple[Callable[[Tensor], Tensor], Tensor, float, Tensor]:
        """The projection of cells to the foreground and the classes, the foreground's cells, its boundary, biases."""
        moments = Moments()

        def count(images: Tensor, part: np.ndarray) -> Tensor:
            features = cells(images)
            own = torch.from_numpy(prior.argmax(chosen[part], cells.grid)[0]).nan_to_num(0.5).flatten()
            moments.add(features, own.to(features.device))
            return own

        pointed = unit(torch.from_numpy(np.concatenate(list(cells.over(chosen, count, "moments")))))
        foreground = Foreground.of(moments, cells.net.slices, self.components, self.dims)
        project = partial(foreground.project, device=cells.runtime.device)
        onto = project(torch.cat([foreground.basis, foreground.first[:, None]], 1))
        points, end = torch.empty(len(pointed), foreground.basis.shape[1] + 1), 0
        for part in cells.over(chosen, lambda images, _: onto(cells(images)), "projections"):
            points[end : (end := end + len(part))] = torch.from_numpy(part)
        first, points = unit(unit(points[:, -1]) + self.prior * pointed), points[:, :-1]
        may = torch.from_numpy(np.repeat(prior.has_map[chosen], cells.grid[0] * cells.grid[1]))
        weights, boundary, above = foreground.fit(points, first, may, self.rounds, self.ridge)
        towards, bias = points[:0].T, points[:0, 0]
        if max(map(len, prior.ids), default=0) > 1:
            towards, bias = class_discriminants(points[above], *_named(prior, chosen, cells.grid, above))
        return project(torch.cat([weights[:, None], foreground.basis @ towards.double()], 1)), above, boundary, bias


class _Cells:
    """Features of the cells of the prior's images, ``float (n, C)``; ``grid`` is known after a batch."""

    def __init__(self, net: Joined, size: int, prior: ScoreMaps, runtime: Runtime, cache: FeatureCache) -> None:
        self.net, self.size, self.prior, self.runtime = net.to(runtime.device), size, prior, runtime
        self.cache, self.grid = cache, (0, 0)

    def __call__(self, images: Tensor) -> Tensor:
        maps = self.cache(self._maps, images)
        self.grid = (maps.shape[2], maps.shape[3])
        return maps.permute(0, 2, 3, 1).flatten(0, 2)

    def over(
        self, positions: np.ndarray, compute: Callable[[Tensor, np.ndarray], Tensor], what: str
    ) -> Iterator[np.ndarray]:
        def cached(images: Tensor, part: np.ndarray) -> Tensor:
            self.cache.begin(positions[part])
            return compute(images, part)

        rows = self.prior.rows[positions]
        return infer(cached, self.prior.data, rows, self.runtime, f"co-localisation, {what}", most=16)

    def _maps(self, images: Tensor) -> Tensor:
        return self.net(F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True))


def _named(prior: ScoreMaps, chosen: np.ndarray, grid: tuple[int, int], above: Tensor) -> tuple[Tensor, Tensor]:
    """Of the cells ``above`` their class by the prior, ``int64 (n,)``, and those of their image, ``bool (n, K)``."""
    named = np.concatenate([prior.argmax(chosen[i : i + 64], grid)[1] for i in range(0, len(chosen), 64)])
    may, ids = torch.zeros(len(chosen), prior.data.count + 1, dtype=torch.bool), prior.ids
    for image, position in enumerate(chosen):
        may[image, ids[position]] = True
    cells = above.nonzero()[:, 0]
    return torch.from_numpy(named.reshape(-1)).long()[cells], may[cells // (grid[0] * grid[1])]
