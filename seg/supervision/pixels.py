"""Labelled pixels as supervision: as score maps, and as corrections of other score maps."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seg.data.pixels import LabelledPixels, PixelLabels
from seg.data.prepared import Pool, PoolRows
from seg.errors import SegError
from seg.methods.appearance import describe
from seg.methods.pixels import condition_scores, nearest_scores
from seg.nets.resize import upsample
from seg.store import Products, param
from seg.supervision.colocalise import Colocalised
from seg.supervision.scores import ScoreMaps, ScoreStage, infer


class NearestPixels(ScoreStage):
    """Score maps by the distance to labelled pixels (:func:`seg.methods.pixels.nearest_scores`).

    Attributes:
        pool: the images; those without a labelled object get no score. pixels: the labelled pixels.
        sigma: of the Gaussian, as a share of the image's side. resolution: side of the score maps in cells.
    """

    what: ClassVar[str] = "nearest labelled pixel"

    pool: Pool
    pixels: PixelLabels
    sigma: float = param(default=0.2, above=0)
    resolution: int = param(default=56, low=4)

    @property
    def title(self) -> str:
        return f"distance to {self.pixels.kinds}"

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        pool: PoolRows = store.get(self.pool)
        pixels: LabelledPixels = store.get(self.pixels)
        size = (self.resolution, self.resolution)
        class_ids = {int(row): own for row in pool.rows if (own := pixels.classes(int(row)))}
        if not class_ids or pool.data.is_test[[*class_ids]].all():
            raise SegError("supervision=points: no trainval image that gets a mask has a labelled pixel of a class")
        maps = []
        for row, own in class_ids.items():
            squash = float(np.sqrt(np.divide(*pool.data.sizes[row])))
            spacing = (squash / self.resolution, 1 / squash / self.resolution)
            maps.append(nearest_scores(pixels.grid(row, size), own, spacing, self.sigma))
        return self.save(out, pool.data, np.asarray([*class_ids]), np.concatenate(maps), [*class_ids.values()])


class WithPixels(ScoreStage):
    """Scores corrected by labelled pixels, which keep their label in all later masks.

    A correction spreads to pixels with similar frozen features, or similar colours and textures
    (:func:`seg.methods.condition_scores`).

    Attributes:
        scores: of any supervision, co-localised or not. pixels: the labelled pixels.
        like: a :class:`Colocalised`, whose features are used; any other stage for colours and textures.
        reach, noise: of the correction.
    """

    what: ClassVar[str] = "corrected by pixels"

    scores: ScoreStage
    pixels: PixelLabels
    like: ScoreStage
    reach: float = param(default=0.7, above=0)
    noise: float = param(default=0.2, above=0)

    @classmethod
    def from_config(cls, scores: ScoreStage, pixels: PixelLabels, **values: Any) -> ScoreStage:
        """The stage of a config node; ``scores`` itself without labelled pixels."""
        made = cls(scores=scores, pixels=pixels, **values)  # checks the values in any case
        return made if pixels.is_given else scores

    @property
    def title(self) -> str:
        return f"{self.scores.title} + {self.pixels.kinds}"

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """At the working resolution; images without a labelled pixel keep their scores."""
        scores: ScoreMaps = store.get(self.scores)
        pixels: LabelledPixels = store.get(self.pixels)
        like = self.like if isinstance(self.like, Colocalised) else None
        network = like.net().to(store.runtime.device) if like else None

        def features(images: Tensor, rows: np.ndarray) -> np.ndarray:
            if network is None or like is None:
                described = torch.from_numpy(np.stack([describe(scores.data.images[row]) for row in rows]))
                return F.avg_pool2d(described.permute(0, 3, 1, 2), 8).numpy()
            seen = F.interpolate(images, (like.size, like.size), mode="bilinear", antialias=True)
            return network(seen).cpu().numpy()

        def corrected(images: Tensor, part: np.ndarray) -> Tensor:
            values, image, class_ids = scores.per_class(part)
            rows = scores.rows[part]
            chosen = [place for place in np.unique(image) if pixels.has(rows[place])]
            if not chosen:
                return torch.from_numpy(values).half()
            found = features(images[chosen], rows[chosen])
            size = (found.shape[2], found.shape[3])
            coarse = np.nan_to_num(scores.per_class(part, size).values, nan=0.5)
            for place, own in zip(chosen, found, strict=True):
                of, grid = image == place, pixels.grid(rows[place], size)
                after = condition_scores(coarse[of], own, grid, class_ids[of], self.reach, self.noise)
                change = upsample(after - coarse[of], values.shape[1:])
                values[of] = (np.nan_to_num(values[of], nan=0.5) + change).clip(0, 1)
            return torch.from_numpy(values).half()

        parts = infer(corrected, scores.data, scores.rows, store.runtime, self.what, most=16)
        return self.save(out, scores.data, scores.rows, parts, scores.ids)

    def load(self, path: Path, store: Products) -> ScoreMaps:
        scores, pixels = super().load(path, store), store.get(self.pixels)
        boxes = scores.pixels.boxes if scores.pixels else {}
        return replace(scores, pixels=replace(pixels, boxes=boxes))
