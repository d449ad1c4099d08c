"""The random walk as a stage."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from seg.methods.affinity import AffinityNet, FrozenAffinityNet
from seg.methods.cam import normalise_maps
from seg.methods.codes import UNKNOWN
from seg.methods.walk import random_walk
from seg.refiner.affinity import FrozenAffinity
from seg.store import Products, param
from seg.supervision.scores import ScoreMaps, ScoreStage, infer
from seg.train import NetworkStage


class Walk(ScoreStage):
    """Scores after a random walk with affinities (Ahn and Kwak, eq. 7 and 8); labelled pixels keep their scores.

    Attributes:
        scores: of the supervision. affinity: a trained AffinityNet, or frozen features.
        beta: power of the affinities. log_steps: the walk takes ``2 ** log_steps`` steps.
        rescale: rescale each map to [0, 1] after the walk, which reduces its range.
    """

    what: ClassVar[str] = "random walk"

    scores: ScoreStage
    affinity: NetworkStage | FrozenAffinity
    beta: float = param(default=8.0, above=0)
    log_steps: int = param(default=8, low=0, high=16)
    rescale: bool = param(default=True)

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        scores: ScoreMaps = store.get(self.scores)
        net: AffinityNet | FrozenAffinityNet = store.get(self.affinity)
        grid = (-(-scores.data.side // 4),) * 2

        def walked(images: Tensor, part: np.ndarray) -> Tensor:
            maps = scores.per_class(part, grid)
            # All maps of an image walk with the same affinities.
            start = maps.stacked(len(part)).to(images.device)
            fixed = torch.zeros(len(part), *grid, dtype=torch.bool)
            for place, labelled in scores.labelled(part, grid):
                fixed[place] = torch.from_numpy(labelled != UNKNOWN)
            how: Any = {"fixed": fixed.to(images.device) if fixed.any() else None}
            out = random_walk(net(images), start, offsets=net.offsets, beta=self.beta, steps=2**self.log_steps, **how)
            out = out[maps.image, maps.place].clamp(0, 1)
            return (normalise_maps(out, "minmax") if self.rescale else out).half()

        parts = infer(walked, scores.data, scores.rows, store.runtime, "random walk", most=32)
        return self.save(out, scores.data, scores.rows, parts, scores.ids)
