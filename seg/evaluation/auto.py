"""A choice between score maps by their estimated quality: ``colocalise=auto`` and ``refiner=auto``."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seg.data.dataset import Split
from seg.data.prepared import Pool
from seg.errors import SegError
from seg.evaluation.quality import Estimated, Witness
from seg.files import write_json
from seg.masks import Threshold
from seg.store import Products, Stage
from seg.supervision.classifier import Classifier
from seg.supervision.colocalise import Colocalised
from seg.supervision.scores import ScoreMaps, ScoreStage

log = logging.getLogger(__name__)


def witness_for(stages: Iterable[Stage], pool: Pool, split: Split) -> Witness:
    """The features for the estimated quality: co-localisation's, else a pretrained classifier's, else colours.

    Args:
        stages: of the run, or upstream of the judged masks. pool, split: of the images.
    """
    stages = list(stages)
    for stage in stages:
        if isinstance(stage, Colocalised):
            return Witness(pool=pool, split=split, backbone=stage.backbone, weights=stage.weights, levels=stage.levels)
    for stage in stages:
        if isinstance(stage, Classifier) and stage.weights:
            return Witness(pool=pool, split=split, backbone=stage.backbone, weights=stage.weights)
    return Witness(pool=pool, split=split)


class Best(ScoreStage):
    """The score maps of that candidate whose masks have the better estimated quality; the first if it is unknown.

    The maps are rescaled to a threshold of 0.5.

    Attributes:
        first, second: scores with their thresholds.
    """

    what: ClassVar[str] = "best by estimated quality"

    first: Threshold
    second: Threshold

    @property
    def title(self) -> str:
        """Names both candidates: the choice may differ between runs."""
        return f"best of {self.first.scores.title} and {self.second.scores.title}"

    @cached_property
    def pool(self) -> Pool:
        """The images of the candidates."""
        found = next((s for s in self.first.walk() if isinstance(s, Pool)), None)
        if found is None:
            raise SegError("auto: the candidates have no pool of images")
        return found

    @cached_property
    def estimates(self) -> tuple[Estimated, Estimated]:
        """Of both, by the same features."""
        stages = {s.id: s for masks in (self.second, self.first) for s in masks.walk()}
        witness = witness_for(stages.values(), self.pool, "trainval")
        return Estimated(masks=self.first, witness=witness), Estimated(masks=self.second, witness=witness)

    def upstream(self) -> dict[str, Stage]:
        """The candidates and their estimates."""
        first, second = self.estimates
        return {**super().upstream(), "pool": self.pool, "estimate of first": first, "estimate of second": second}

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Estimate both, and save the better one."""
        qualities = [store.get(estimate)[0].quality for estimate in self.estimates]
        best = int(np.nan_to_num(qualities[1], nan=-1) > np.nan_to_num(qualities[0], nan=-1))
        chosen = (self.first, self.second)[best]
        scores: ScoreMaps = store.get(chosen.scores)
        threshold = min(max(chosen.bounds_in(store)[1], 1e-3), 1 - 1e-3)
        titles = [masks.scores.title for masks in (self.first, self.second)]
        said = {t: None if np.isnan(q) else round(q, 4) for t, q in zip(titles, qualities, strict=True)}
        log.info("auto: %s, of %s", titles[best], ", ".join(f"{name} ({value})" for name, value in said.items()))
        write_json(out / "choice.json", {"chosen": titles[best], "estimated_quality": said})

        def values() -> Iterator[np.ndarray]:
            for start in range(0, len(scores.class_ids), 256):
                part = np.asarray(scores.values[start : start + 256], np.float32)
                yield np.interp(part, [0, threshold, 1], [0, 0.5, 1]).astype(np.float16)

        return self.save(out, scores.data, scores.rows, values(), scores.ids) | {"chosen": titles[best]}

    def load(self, path: Path, store: Products) -> ScoreMaps:
        """The chosen scores, with the labelled pixels of the candidates."""
        return replace(super().load(path, store), pixels=store.get(self.second.scores).pixels)
