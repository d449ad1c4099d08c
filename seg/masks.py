"""Scores to masks by a threshold: seeds before a refiner, pseudo masks after it, predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from seg.data.prepared import PreparedData
from seg.errors import SegError
from seg.methods.codes import UNKNOWN
from seg.methods.seeds import CleanUp, alpha_threshold, clean_mask, threshold_scores
from seg.store import Products, Stage, param
from seg.supervision.auto_threshold import AutoThreshold, Choice, Criterion, ScoreHistogram
from seg.supervision.scores import ScoreMaps, ScoreStage


@dataclass(frozen=True)
class MaskSet:
    """Masks of ``n`` images, computed from scores on demand.

    Attributes:
        scores: what is thresholded. low, high: background below ``low``, foreground from ``high`` on,
            255 between them and where the score is unknown.
        clean_up: operations on the foreground (of all classes together), in order. radius: of the closing, in pixels of
            the working resolution.
    """

    scores: ScoreMaps
    low: float
    high: float
    clean_up: Sequence[str] = ()
    radius: int = 3

    @property
    def data(self) -> PreparedData:
        """The prepared images."""
        return self.scores.data

    @property
    def rows(self) -> np.ndarray:
        """``int64 (n,)`` rows in ``data``, ascending."""
        return self.scores.rows

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, positions: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """Masks of images, ``uint8 (b, H, W)``: 0 background, ``1 + class``, 255 ignored. Labelled pixels are kept."""
        scores, class_ids = self.scores.argmax(positions, size)
        masks = threshold_scores(scores, self.low, self.high)
        for mask in masks if self.clean_up else ():
            height, width = (max(1, round(self.radius * side / self.data.side)) for side in mask.shape)
            for operation in self.clean_up:
                clean_mask(mask, operation, (height, width))
        masks = np.where(masks == 1, class_ids, masks)
        for place, grid in self.scores.labelled(positions, masks.shape[1:]):
            masks[place] = np.where(grid == UNKNOWN, masks[place], grid)
        return masks


class Threshold(Stage):
    """Foreground and background by a threshold, with an optional ignored band around it.

    Each of the three bounds may also name a criterion, which chooses it from the scores of the trainval images without
    any mask (:mod:`seg.supervision.auto_threshold`): the threshold, or the mean score on either side of it.

    Attributes:
        scores: of the supervision, or of the refiner's walk.
        threshold: foreground from it on, background below it.
        band: scores nearer to the threshold than this are ignored.
        background_below, foreground_from: the two ends of the ignored band, instead of threshold and band.
        alpha: instead of the threshold, the power of the background's score ``(1 - max_c s_c) ** alpha`` (Ahn and Kwak,
            CVPR 2018), which is a threshold: at its root of ``t = (1 - t) ** alpha`` foreground takes over.
        clean_up: any of ``fill_holes``, ``largest_component``, ``closing``, in order.
        radius: of the closing, in pixels of the working resolution.
    """

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "threshold"

    scores: ScoreStage
    threshold: float | Criterion | None = param(default=None, low=0, high=1)
    band: float = param(default=0.0, low=0, high=1)
    background_below: float | Criterion | None = param(default=None, low=0, high=1)
    foreground_from: float | Criterion | None = param(default=None, low=0, high=1)
    alpha: float | None = param(default=None, above=0)
    clean_up: tuple[CleanUp, ...] = param(default=())
    radius: int = param(default=3, low=1)

    def validate(self) -> None:
        """The bounds must be given in one way, and in order."""
        given = (self.background_below is not None) + (self.foreground_from is not None)
        name = type(self).__name__
        if given == 1 or (given == 2) + (self.threshold is not None) + (self.alpha is not None) != 1:
            raise SegError(
                f"{name}: give threshold (and band), or alpha (and threshold=null), or both background_below and "
                "foreground_from"
            )
        if self.bounds is not None:
            self._refuse_crossed(*self.bounds)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Background below the first, foreground from the second on; None with a criterion (see `bounds_in`)."""
        return None if self.criteria else self._bounds({})

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The criteria among the bounds, each once."""
        given = (self.threshold, self.background_below, self.foreground_from)
        return tuple(dict.fromkeys(value for value in given if isinstance(value, str)))

    @property
    def is_cut(self) -> bool:
        """Whether there is no band: every score is background or foreground."""
        return self.background_below is None and self.band == 0

    @property
    def threshold_text(self) -> str:
        """The bound of the foreground in tables: a number, or the name of a criterion."""
        if self.bounds is not None:
            return f"{self.bounds[1]:g}"
        end = self.foreground_from if self.threshold is None else self.threshold
        return end if isinstance(end, str) else f"{end:g}"

    @cached_property
    def chosen(self) -> Mapping[str, AutoThreshold]:
        """The stages that apply the criteria, by criterion."""
        return {c: AutoThreshold(histogram=ScoreHistogram(scores=self.scores), criterion=c) for c in self.criteria}

    def upstream(self) -> dict[str, Stage]:
        """The scores, and the stages of the criteria."""
        return {**super().upstream(), **self.chosen}

    def bounds_in(self, store: Products) -> tuple[float, float]:
        """The bounds, with the values that the criteria choose.

        Raises:
            SegError: the bounds are in the wrong order.
        """
        low, high = self._bounds({criterion: store.get(stage) for criterion, stage in self.chosen.items()})
        self._refuse_crossed(low, high)
        return low, high

    def _bounds(self, chosen: Mapping[str, Choice]) -> tuple[float, float]:
        def value(field: str) -> float:
            given = getattr(self, field)
            return getattr(chosen[given], field) if isinstance(given, str) else given

        if self.background_below is not None:
            return value("background_below"), value("foreground_from")
        threshold = value("threshold") if self.alpha is None else alpha_threshold(self.alpha)
        return max(threshold - self.band, 0.0), min(threshold + self.band, 1.0)

    def _refuse_crossed(self, low: float, high: float) -> None:
        if low > high:
            name = type(self).__name__
            raise SegError(f"{name}.background_below={low:g}: must not lie above foreground_from={high:g}")

    def load(self, path: Path, store: Products) -> MaskSet:
        """Masks, computed on demand."""
        return MaskSet(store.get(self.scores), *self.bounds_in(store), self.clean_up, self.radius)
