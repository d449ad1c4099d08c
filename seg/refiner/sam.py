"""Promptable segmenters (SAM and its successors) as a refiner."""

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from seg.errors import SegError
from seg.methods.prompts import best_masks, score_prompts
from seg.nets.sam import content_of_weights, load_sam, prompted_masks
from seg.store import Products, param
from seg.supervision.scores import ScoreMaps, ScoreStage, infer


class SAM(ScoreStage):
    """Masks of a promptable segmenter for the boxes and peaks of a score map, at the working resolution.

    A. Kirillov et al., Segment Anything, ICCV 2023; N. Ravi et al., SAM 2, ICLR 2025. The score is the mask's
    probability, so the foreground is above 0.5; 0 if the map has no component.

    Attributes:
        scores: any score maps.
        weights: as for :func:`seg.nets.sam.load_sam`.
        threshold, points, least: of the prompts, see :func:`seg.methods.prompts.score_prompts`.
    """

    what: ClassVar[str] = "SAM"
    trained_on_masks: ClassVar[bool] = True

    scores: ScoreStage
    weights: str = param(content=content_of_weights)
    threshold: float = param(default=0.5, low=0, high=1)
    points: int = param(default=3, low=1)
    least: float = param(default=0.01, low=0, below=1)

    def check(self, store: Products) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise SegError("refiner=sam: needs transformers, which is not installed: pip install 'weakseg[sam]'")
        self._model()

    def _model(self) -> Any:
        try:
            return load_sam(self.weights)
        except SegError as error:
            raise SegError(f"refiner.scores.{error}") from error

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        scores: ScoreMaps = store.get(self.scores)
        model = self._model().to(store.runtime.device)

        def refined(images: Tensor, part: np.ndarray) -> Tensor:
            maps = scores.per_class(part).values
            size = tuple(scores.data.sizes[scores.rows[part[0]]].tolist())
            prompts = [score_prompts(one, self.threshold, self.points, self.least) for one in maps]
            every = [torch.from_numpy(np.concatenate(one)) for one in zip(*(p[:2] for p in prompts), strict=True)]
            answers = iter(prompted_masks(model, images, size, *every) if every and len(every[0]) else [])
            found = np.zeros_like(maps)
            for place, (own, _, components) in enumerate(prompts):
                candidates = np.asarray([next(answers).numpy() for _ in own], np.float32)
                found[place] = best_masks(candidates, maps[place], components)
            return torch.from_numpy(found).half()

        parts = infer(refined, scores.data, scores.rows, store.runtime, self.what, most=1)
        return self.save(out, scores.data, scores.rows, parts, scores.ids)
