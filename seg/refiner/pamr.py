"""PAMR as a stage."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from seg.errors import SegError
from seg.methods.pamr import pamr
from seg.store import Products, param
from seg.supervision.scores import ScoreMaps, ScoreStage, infer


class PAMR(ScoreStage):
    """Scores after pixel-adaptive mask refinement, at the working resolution; nothing is trained.

    N. Araslanov and S. Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020.

    Attributes:
        scores: any score maps. Unknown scores start at 0.5.
        dilations: distances of the neighbours, in pixels of the working resolution.
        iterations: of the refinement.
    """

    what: ClassVar[str] = "PAMR"

    scores: ScoreStage
    dilations: tuple[int, ...] = param(default=(1, 2, 4, 8, 12, 24))
    iterations: int = param(default=10, low=1)

    def validate(self) -> None:
        if not self.dilations or min(self.dilations) < 1:
            raise SegError(f"PAMR.dilations={list(self.dilations)}: give distances from 1 on, such as [1, 2, 4]")

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        scores: ScoreMaps = store.get(self.scores)

        def refined(images: Tensor, part: np.ndarray) -> Tensor:
            maps = scores.per_class(part)
            out = pamr(images, maps.stacked(len(part)).to(images.device), self.dilations, self.iterations)
            return out[maps.image, maps.place].clamp(0, 1).half()

        parts = infer(refined, scores.data, scores.rows, store.runtime, self.what, most=4)
        return self.save(out, scores.data, scores.rows, parts, scores.ids)
