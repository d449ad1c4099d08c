"""Pixel-adaptive mask refinement: scores flow between neighbours of like colours."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seg.errors import SegError
from seg.store import Products, param
from seg.supervision.scores import ScoreMaps, ScoreStage, infer

_AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def neighbours(maps: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """The eight neighbours at each distance, ``float (B, C, H, W)`` each; beyond the rim, the rim itself."""
    reach, (height, width) = max(dilations), maps.shape[2:]
    padded = F.pad(maps, (reach,) * 4, mode="replicate")
    for dilation in dilations:
        for y, x in _AROUND:
            down, across = reach + y * dilation, reach + x * dilation
            yield padded[:, :, down : down + height, across : across + width]


def affinities(images: Tensor, dilations: Sequence[int]) -> Tensor:
    r"""How much of each neighbour a pixel takes (Araslanov and Roth, section 3.3).

    .. math:: a_{ij} = \mathrm{softmax}_j \Big( -\frac{1}{C} \sum_c \frac{|x_{ic} - x_{jc}|}{0.1 \sigma_{ic}} \Big)

    with the standard deviation over a pixel and its neighbours (the pixel once for each distance). The 0.1 and the mean
    over the colours are of the authors' code. Scale and offset of a colour do not matter.

    Args:
        images: ``float (B, C, H, W)``. dilations: distances of the neighbours, in pixels.

    Returns:
        ``float (B, 8 * len(dilations), H, W)``, in the order of :func:`neighbours`; sums to 1 over the neighbours.
    """
    centres, count = len(dilations), 9 * len(dilations)
    mean = sum(neighbours(images, dilations), start=images * centres) / count
    squares = sum(
        ((n - mean).square() for n in neighbours(images, dilations)), start=centres * (images - mean).square()
    )
    spread = 0.1 * (squares / (count - 1)).sqrt() + 1e-8
    unlike = [((n - images).abs() / spread).mean(1) for n in neighbours(images, dilations)]
    return torch.stack(unlike, 1).neg_().softmax(1)


def pamr(images: Tensor, maps: Tensor, dilations: Sequence[int], iterations: int) -> Tensor:
    """Refine maps: each iteration takes the mean of the neighbours by their affinities.

    Args:
        images: ``float (B, C, H, W)``. maps: ``float (B, K, H, W)``. dilations: see :func:`affinities`.
        iterations: how many.

    Returns:
        ``float (B, K, H, W)``, within the range of ``maps``.
    """
    share = affinities(images, dilations)
    for _ in range(iterations):
        out = torch.zeros_like(maps)
        for i, neighbour in enumerate(neighbours(maps, dilations)):
            out.addcmul_(share[:, i : i + 1], neighbour)
        maps = out
    return maps


class PAMR(ScoreStage):
    """Scores after pixel-adaptive mask refinement, at the working resolution; nothing is trained.

    N. Araslanov and S. Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020.

    Attributes:
        scores: any score maps. What is unknown starts at 0.5.
        dilations: distances of the neighbours, in pixels of the working resolution.
        iterations: of the refinement.
    """

    what: ClassVar[str] = "PAMR"

    scores: ScoreStage
    dilations: tuple[int, ...] = param(default=(1, 2, 4, 8, 12, 24))
    iterations: int = param(default=10, low=1)

    def validate(self) -> None:
        """There are neighbours, and none is the pixel itself."""
        if not self.dilations or min(self.dilations) < 1:
            raise SegError(f"PAMR.dilations={list(self.dilations)}: give distances from 1 on, such as [1, 2, 4]")

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Batch by batch, on the device of inference."""
        scores: ScoreMaps = store.get(self.scores)

        def refined(images: Tensor, part: np.ndarray) -> Tensor:
            maps = scores.per_class(part)
            out = pamr(images, maps.stacked(len(part)).to(images.device), self.dilations, self.iterations)
            return out[maps.image, maps.place].clamp(0, 1).half()

        parts = infer(refined, scores.data, scores.rows, store.runtime, self.what, most=4)
        return self.save(out, scores.data, scores.rows, parts, scores.ids)
