"""Co-localisation as a stage."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.errors import SegError
from seg.methods.colocalise import Foreground, Moments, class_discriminants
from seg.methods.thresholds import count_scores, otsu
from seg.methods.upsampling import joint_bilateral_upsampling
from seg.nets.augment import STD
from seg.nets.backbones import Backbone, make_classifier
from seg.nets.pretrained import known_backbone, weights_of
from seg.store import Products, Runtime, param
from seg.supervision.feature_cache import FeatureCache
from seg.supervision.scores import ScoreMaps, ScoreStage, infer

log = logging.getLogger(__name__)

#: The expansion of an inverted residual block, by its class, in torchvision and timm.
EXPANSIONS = {"InvertedResidual": ("conv.0", "bn1", "block.0"), "MBConv": ("block.0",), "EdgeResidual": ("bn1",)}


def default_levels(backbone: Backbone) -> Sequence[str]:
    """Modules to take features from: the level of stride 16; of a plain ViT, the last.

    Of inverted residual blocks (MobileNet, EfficientNet), whose own outputs are linear projections, the expansions of
    the last block of stride 16 and of the two after it.
    """
    level = backbone.levels[max(stride for stride in backbone.levels if stride <= (32 if backbone.is_plain else 16))]
    names, found = list(backbone.outputs), []
    for name in names[names.index(level.module) :][:3] if level.module in names else ():
        block = backbone.model.get_submodule(name)
        inside, known = [child for child, _ in block.named_modules()], EXPANSIONS.get(type(block).__name__, ())
        found += [f"{name}.{child}" for child in known if child in inside][:1]
    return tuple(found) if len(found) == 3 else (level.module,)


class Levels(nn.Module):
    """Features of one or several backbones on one grid: ``float (B, 3, S, S)`` to ``float (B, C, g, g)``.

    The grid is that of the first backbone's finest level.

    Args:
        backbones: with their weights. modules: names of the modules of each whose outputs are wanted.

    Attributes:
        slices: of the channels, one for each module.
    """

    def __init__(self, backbones: Sequence[Backbone], modules: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones).eval()
        self.names = [list(own) for own in modules]
        try:
            with torch.no_grad():
                widths = [level.shape[1] for level in self._maps(torch.zeros(1, 3, 64, 64))]
        except SegError as error:
            raise SegError(f"colocalise.levels={self.names[0]}: {error}") from None
        ends = np.cumsum(widths)
        self.slices = [slice(int(end - width), int(end)) for end, width in zip(ends, widths, strict=True)]

    def forward(self, images: Tensor) -> Tensor:
        levels = self._maps(images)
        grid = max((level.shape[2:] for level in levels[: len(self.names[0])]), key=max)
        return torch.cat([F.interpolate(x.float(), grid, mode="bilinear", align_corners=False) for x in levels], 1)

    def _maps(self, images: Tensor) -> list[Tensor]:
        pairs: Any = zip(self.backbones, self.names, strict=True)
        return [level for backbone, own in pairs for level in backbone.maps(images, own)]


class Colocalised(ScoreStage):
    """Score maps of what the images have in common where a prior is high (:mod:`seg.methods.colocalise`).

    Nothing is trained.

    Attributes:
        scores: the prior: CAM, Gaussians on boxes, or any other scores.
        backbone: as for the classifier. weights: as for :func:`seg.nets.backbones.make_classifier`.
        levels: modules whose outputs are the features; null for :func:`default_levels`.
        more_backbones, more_weights: their features are concatenated with the first one's. One without weights, or of a
            name that stands before it, is left out.
        size: side of the network's input in pixels.
        components: number of each level's first principal components to choose from.
        prior: weight of the prior in the first map, in standard deviations, where the component has 1.
        rounds: of regression. dims: principal components of all levels together that it uses. ridge: its penalty, in
            units of a feature's variance.
        fit_images: the regression uses at most this many images, evenly spaced; all images get maps.
        margin: added to the discriminant's boundary, in standard deviations, because the features of a cell beside an
            object see the object too.
        gain: slope of the logistic that brings a map, in standard deviations, to [0, 1]; the boundary
            becomes 0.5.
        upsample: the maps are so many times finer than the features, along the edges of the image (joint bilateral
            upsampling), but not finer than the image; 1 for maps on the features' grid.
    """

    what: ClassVar[str] = "co-localisation"

    scores: ScoreStage
    backbone: str = param(default="resnet18", content=known_backbone)
    weights: str | None = param(default="DEFAULT", content=weights_of("backbone", "colocalise."))
    levels: tuple[str, ...] | None = param(default=None)
    more_backbones: tuple[str, ...] = param(default=(), content=known_backbone)
    more_weights: tuple[str | None, ...] = param(default=(), content=weights_of("more_backbones", "colocalise.more_"))
    size: int = param(default=320, low=64)
    components: int = param(default=6, low=1)
    prior: float = param(default=0.25, low=0)
    rounds: int = param(default=8, low=1)
    dims: int = param(default=512, low=1)
    ridge: float = param(default=0.03, above=0)
    fit_images: int = param(default=1000, low=1)
    margin: float = param(default=0.0)
    gain: float = param(default=2.0, above=0)
    upsample: int = param(default=1, low=1)

    @property
    def title(self) -> str:
        return f"co-loc. {self.scores.title}"

    def validate(self) -> None:
        if len(self.more_backbones) != len(self.more_weights):
            counts = f"{len(self.more_weights)} for {len(self.more_backbones)} more_backbones"
            raise SegError(f"colocalise.more_weights: {counts}; give one for each, or null")

    def check(self, store: Products) -> None:
        self.net()

    def net(self) -> Levels:
        """The frozen network."""
        if self.weights is None:
            raise SegError("colocalise.weights=null: needs pretrained features; give ImageNet's weights, or a file")
        wanted = {self.backbone: self.weights}
        for name, weights in zip(self.more_backbones, self.more_weights, strict=True):
            if weights is not None:
                wanted.setdefault(name, weights)
        backbones: list[Backbone] = []
        modules: list[Sequence[str]] = []
        for name, weights in wanted.items():
            is_first = not backbones
            section, without = ("", "=none") if is_first else ("more_", ".more_weights=[null]")
            try:
                backbones.append(make_classifier(name, 2, weights, section=f"colocalise.{section}"))
            except SegError as error:
                raise SegError(f"{error}; colocalise{without} does without") from error
            modules.append(default_levels(backbones[-1]))
        return Levels(backbones, [self.levels or modules[0], *modules[1:]])

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Three passes over cached features: moments, projections, maps. Memory does not grow with the images."""
        prior: ScoreMaps = store.get(self.scores)
        cache = FeatureCache(out, store.runtime.device.type == "cpu", networks=2)
        cells = _Cells(self.net(), self.size, prior, store.runtime, cache)
        chosen = np.linspace(0, len(prior) - 1, min(self.fit_images, len(prior))).round().astype(int)
        learnt = self._learn(prior, chosen, cells)
        sets = prior.data.as_read.label_sets
        cache.is_used = False  # the last pass reads it, and has nothing to add for another

        def maps(images: Tensor, part: np.ndarray) -> Tensor:
            answers = learnt.project(cells(images)).reshape(len(images), *cells.grid, -1)
            if self.upsample > 1:
                sides = zip(cells.grid, images.shape[2:], strict=True)
                height, width = (min(coarse * self.upsample, max(coarse, side)) for coarse, side in sides)
                colours = images * images.new_tensor(STD)[:, None, None]
                answers = joint_bilateral_upsampling(answers.movedim(3, 1), colours, (height, width)).movedim(1, 3)
            values = torch.sigmoid(self.gain * (answers[..., 0] - learnt.boundary - self.margin)).half()
            several = [values[:0]]
            for position, value, answer in zip(part, values, answers, strict=True):
                own, labels = prior.ids[position], sets[prior.rows[position]]
                if own and learnt.lost.issuperset(labels):
                    height, width = value.shape
                    kept = prior.per_class(np.array([position]), (height, width)).values + learnt.offset
                    several.append(torch.from_numpy(kept).clamp(0, 1).to(value))
                elif len(own) > 1:
                    likely = (answer[..., 1:] + learnt.bias.to(answer.device))[..., own].permute(2, 0, 1)
                    # The likeliest class has the foreground's score.
                    several.append(value * torch.exp(likely - likely.amax(0)).half())
                elif own:
                    several.append(value[None])
            return torch.cat(several)

        notes = self.save(out, prior.data, prior.rows, cells.over(np.arange(len(prior)), maps, "maps"), prior.ids)
        log.info("co-localisation: %.0f %% of the cells are foreground", 100 * learnt.share)
        return notes | {"foreground": round(learnt.share, 3)}

    def _learn(self, prior: ScoreMaps, chosen: np.ndarray, cells: "_Cells") -> "_Learnt":
        """Fit the discriminants on the ``chosen`` images, in two passes over their features."""
        moments = Moments()

        def count(images: Tensor, part: np.ndarray) -> Tensor:
            features = cells(images)
            own = torch.from_numpy(prior.argmax(chosen[part], cells.grid)[0]).nan_to_num(0.5).flatten()
            moments.add(features, own.to(features.device))
            return own

        flat = torch.from_numpy(np.concatenate(list(cells.over(chosen, count, "moments"))))
        foreground = Foreground.of(moments, cells.net.slices, self.components, self.dims)
        project = partial(foreground.project, device=cells.runtime.device)
        onto = project(foreground.coordinates)
        points, end = torch.empty(len(flat), foreground.basis.shape[1] + 1), 0
        for part in cells.over(chosen, lambda images, _: onto(cells(images)), "projections"):
            points[end : (end := end + len(part))] = torch.from_numpy(part)
        may = torch.from_numpy(np.repeat(prior.has_map[chosen], cells.grid[0] * cells.grid[1]))
        weights, boundary, values = foreground.fit(points, flat, self.prior, may, self.rounds, self.ridge)
        above, points = values >= boundary, points[:, :-1]
        found = (values >= boundary + self.margin).reshape(len(chosen), -1).any(1)
        lost, offset = _lost_classes(prior, chosen, found, flat.reshape(len(chosen), -1))
        towards, bias = points[:0].T, points[:0, 0]
        if max(map(len, prior.ids), default=0) > 1:
            towards, bias = class_discriminants(points[above], *_initial_classes(prior, chosen, cells.grid, above))
        onto = project(torch.cat([weights[:, None], foreground.basis @ towards.double()], 1))
        return _Learnt(onto, float(above.float().mean()), boundary, bias, lost, offset)


class _Learnt(NamedTuple):
    """What the fitting images gave.

    Attributes:
        project: of cells to foreground and classes. share: of the cells that are foreground. boundary: of the
            foreground. bias: ``(K,)`` of the classes. lost, offset: of :func:`_lost_classes`.
    """

    project: Callable[[Tensor], Tensor]
    share: float
    boundary: float
    bias: Tensor
    lost: set[int]
    offset: float


def _lost_classes(prior: ScoreMaps, chosen: np.ndarray, found: Tensor, flat: Tensor) -> tuple[set[int], float]:
    """Labels whose images have hardly any foreground: they do not look like what the other images have in common.

    Args:
        prior: the maps. chosen: ``int (n,)``, positions of images in it.
        found: ``bool (n,)``, whether the image at ``chosen`` has foreground. flat: ``float (n, cells)``, its prior.

    Returns:
        The labels without foreground in nine of ten of at least ten images; and what brings Otsu's threshold of their
        images' prior to 0.5.
    """
    data = prior.data.as_read
    rows = zip(prior.rows[chosen], prior.has_map[chosen], strict=True)
    sets = [data.label_sets[row] if has_map else () for row, has_map in rows]
    empty = {
        label: ~found[[label in own for own in sets]].numpy() for label in sorted({one for own in sets for one in own})
    }
    lost = {label for label, one in empty.items() if len(one) >= 10 and one.mean() >= 0.9}
    for label in sorted(lost):
        log.warning(
            "co-localisation: finds nothing in %d of %d images of %s; they keep the prior's scores",
            empty[label].sum(), len(empty[label]), data.classes[label],
        )  # fmt: skip
    own = flat[[bool(one) and lost.issuperset(one) for one in sets]].numpy()
    return lost, 0.5 - otsu(count_scores(own)) if own.size else 0.0


class _Cells:
    """Features of the cells of the prior's images, ``float (n, C)``; the first batch sets ``grid``."""

    def __init__(self, net: Levels, size: int, prior: ScoreMaps, runtime: Runtime, cache: FeatureCache) -> None:
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


def _initial_classes(
    prior: ScoreMaps, chosen: np.ndarray, grid: tuple[int, int], above: Tensor
) -> tuple[Tensor, Tensor]:
    """The class of each cell ``above`` by the prior, ``int64 (n,)``, and the classes of its image, ``bool (n, K)``."""
    named = np.concatenate([prior.argmax(chosen[i : i + 64], grid)[1] for i in range(0, len(chosen), 64)])
    may, ids = torch.zeros(len(chosen), prior.data.count + 1, dtype=torch.bool), prior.ids
    for image, position in enumerate(chosen):
        may[image, ids[position]] = True
    cells = above.nonzero()[:, 0]
    return torch.from_numpy(named.reshape(-1)).long()[cells], may[cells // (grid[0] * grid[1])]
