"""Appearance as a stage: colours and textures that images of a class share where a prior is high."""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seg.methods.appearance import FourierFeatures, appearance_scores, describe, fit_appearance
from seg.store import Products, param
from seg.store.parameters import MOST_SEED
from seg.supervision.scores import ScoreMaps, ScoreStage, per_map

#: Descriptions of pixels, ``float32 (n, 13)``, and the prior's scores, ``float32 (n,)``.
Points = tuple[np.ndarray, np.ndarray]


class Appearance(ScoreStage):
    """Score maps from the colours and textures that a class's images share where a prior is high, without a network.

    A model per class is fitted to trainval's pixels (:mod:`seg.methods.appearance`).

    Attributes:
        scores: the prior: CAM, Gaussians on boxes, or any other scores.
        start: the first targets are 1 where the prior is at least this.
        rounds: of regression.
        features: number of random features. points: largest number of pixels per class to fit. ridge: the penalty.
        least: a class of fewer trainval images uses a model of all images.
        gain: slope of the logit in the regression's output. prior: slope in the prior, whose part is 0 at 1/2 and
            clipped to [-3, 3].
        smooth: standard deviation, in pixels, of the Gaussian that smooths the regression's output.
        seed: of the pixels and the features.
    """

    what: ClassVar[str] = "appearance"

    scores: ScoreStage
    start: float = param(default=0.6, low=0, high=1)
    rounds: int = param(default=3, low=1)
    features: int = param(default=512, low=1)
    points: int = param(default=20_000, low=100)
    ridge: float = param(default=1e-3, above=0)
    least: int = param(default=10, low=1)
    gain: float = param(default=6.0, low=0)
    prior: float = param(default=6.0, low=0)
    smooth: float = param(default=1.5, low=0)
    seed: int = param(default=0, low=0, high=MOST_SEED)

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Two passes: pixels to fit, then the maps. Memory grows with the number of classes, not of images."""
        scores: ScoreMaps = store.get(self.scores)
        rng = np.random.default_rng(self.seed)
        groups, learnt = self._groups(scores)
        points = self._points(scores, groups, learnt, rng)
        fourier = FourierFeatures(np.concatenate([described for described, _ in points.values()]), self.features, rng)
        slopes = (self.gain, self.prior)
        weights = {
            group: fit_appearance(fourier(described), prior, self.start, self.rounds, self.ridge, *slopes)
            for group, (described, prior) in points.items()
        }

        def compute(image: np.ndarray, prior: np.ndarray, group: int) -> np.ndarray:
            return appearance_scores(image, prior, fourier, weights[group], *slopes, self.smooth)

        maps = per_map(compute, scores, groups, store.runtime, self.what)
        return self.save(out, scores.data, scores.rows, maps, scores.ids)

    def _groups(self, scores: ScoreMaps) -> tuple[list[list[int]], np.ndarray]:
        """The model of each image's maps (a class, or -1 for that of all images), and the images to fit it to."""
        data, kinds = scores.data, scores.ids
        if data.original is not None:  # by the image's class, though masks are of the foreground
            labels = data.original.labels[scores.rows]
            kinds = [[int(label)] * len(own) for label, own in zip(labels, kinds, strict=True)]
        learnt = scores.has_map & ~data.is_test[scores.rows]
        if not learnt.any():  # only test images have maps
            learnt = scores.has_map
        counts = Counter(kind for own, wanted in zip(kinds, learnt, strict=True) if wanted for kind in own)
        return [[kind if counts[kind] >= self.least else -1 for kind in own] for own in kinds], learnt

    def _points(
        self, scores: ScoreMaps, groups: list[list[int]], learnt: np.ndarray, rng: np.random.Generator
    ) -> dict[int, Points]:
        """Pixels to fit by group, the same number from every image."""
        wanted = {group for own in groups for group in own}
        counts = Counter(group for own, is_learnt in zip(groups, learnt, strict=True) if is_learnt for group in own)
        counts[-1] = sum(counts.values())
        found: dict[int, list[Points]] = {group: [] for group in wanted}
        for positions in np.array_split(np.flatnonzero(learnt), learnt.sum() // 64 + 1):
            maps = scores.per_class(positions)
            kinds = [group for position in positions for group in groups[position]]
            for prior, image, kind in zip(maps.values, maps.image, kinds, strict=True):
                described = describe(scores.data.images[scores.rows[positions[image]]]).reshape(prior.size, -1)
                for group in sorted({kind, -1} & wanted):
                    chosen = rng.choice(
                        prior.size, min(prior.size, max(1, self.points // counts[group])), replace=False
                    )
                    found[group].append((described[chosen], prior.reshape(-1)[chosen]))
        return {
            group: (np.concatenate([d for d, _ in parts]), np.concatenate([p for _, p in parts]))
            for group, parts in found.items()
        }
