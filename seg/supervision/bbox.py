"""Gaussian score maps from boxes as a stage."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from seg.data.boxes import write_bbox_list
from seg.data.dataset import UNKNOWN
from seg.data.pixels import LabelledPixels
from seg.data.prepared import Pool, PoolRows, PreparedData
from seg.errors import SegError
from seg.methods.boxes import body_box, gaussian_score, rank_in_boxes
from seg.store import Products, param
from seg.supervision.scores import ScoreMaps, ScoreStage, image_class_ids

log = logging.getLogger(__name__)


class BoxScores(ScoreStage):
    """A Gaussian on every box, and their maximum where boxes overlap (:func:`seg.methods.gaussian_score`).

    The boxes of Oxford-IIIT Pet are of the animal's HEAD and exist for trainval only. ``box_source=trimap`` takes boxes
    of the body from ground truth instead, which is marked as an oracle in tables.

    Attributes:
        pool: the images; those without a box get no score.
        box_source: ``xml`` for annotated boxes in any file format; ``trimap`` for boxes of trainval's ground truth.
        divisor: sigma is ``scale * (width + height) / divisor`` of the box.
        scale: see ``divisor``.
        clip: zero outside of the box, for boxes of whole objects: pixels outside of an image's boxes are background in
            all later stages.
        resolution: side of the score maps in cells.
        test_images: whether test images get scores from their annotated boxes too. Nothing is trained on them.
    """

    what: ClassVar[str] = "Gaussians on boxes"

    pool: Pool
    box_source: Literal["xml", "trimap"] = param(default="xml")
    divisor: float = param(default=3.5, above=0)
    scale: float = param(default=1.0, above=0)
    clip: bool = param(default=False)
    resolution: int = param(default=56, low=4)
    test_images: bool = param(default=False)

    @property
    def title(self) -> str:
        source = self.pool.data.source
        return f"Gaussian on {source.boxes_of if self.box_source == 'xml' else 'body boxes'}"

    @property
    def is_oracle(self) -> bool:
        return self.box_source == "trimap"

    def check(self, store: Products) -> None:
        dataset = self.pool.data.source.dataset_if_known(store)
        trainval = [r for r in dataset.records if r.split == "trainval"] if dataset else []
        if dataset and not any(r.boxes if self.box_source == "xml" else r.has_target for r in trainval):
            raise SegError(self._without_boxes)

    @property
    def _without_boxes(self) -> str:
        if self.box_source == "trimap":
            return "supervision.box_source=trimap: no trainval image of the pool has ground truth to take a box from"
        return (
            f"supervision=bbox: no trainval image of the pool has a box; {self.pool.data.source.boxes_hint}, "
            "or use supervision.box_source=trimap (an oracle)"
        )

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Write the scores, and the boxes as ``trimaps_bbox.txt``."""
        pool: PoolRows = store.get(self.pool)
        data = pool.data
        test_too = self.test_images and self.box_source == "xml"
        rows = pool.rows if test_too else pool.rows[~data.is_test[pool.rows]]
        boxes = {int(row): found for row in rows if (found := self._boxes(data, int(row)))}
        if data.is_test[list(boxes)].all():
            raise SegError(self._without_boxes)
        if missing := len(rows) - len(boxes):
            log.info("boxes: %d %simages have none and are left out", missing, "" if test_too else "trainval ")
        listed = [(data.ids[row], box) for row, own in boxes.items() for several in own.values() for box in several]
        write_bbox_list(out / "trimaps_bbox.txt", listed)
        shape, values = (self.resolution, self.resolution), []
        options: Any = {"divisor": self.divisor, "scale": self.scale, "clip": self.clip}
        for row, own in boxes.items():
            size = tuple(data.sizes[row].tolist())
            values += [gaussian_score(several, size, shape, **options) for several in own.values()]
        return self.save(out, data, np.asarray(list(boxes)), np.stack(values), [list(own) for own in boxes.values()])

    def load(self, path: Path, store: Products) -> ScoreMaps:
        """With ``clip`` pixels outside of an image's boxes are labelled background."""
        scores = super().load(path, store)
        if not self.clip:
            return scores
        found = {int(row): np.concatenate([*self.shares(scores.data, int(row)).values()]) for row in scores.rows}
        return replace(scores, pixels=LabelledPixels.outside(found, len(scores.data)))

    def shares(self, data: PreparedData, row: int) -> dict[int, np.ndarray]:
        """The boxes of an image by class code: ``float64 (b, 4)`` x0, y0, x1, y1 as shares of its sides."""
        return {code: np.divide(own, np.tile(data.sizes[row][::-1], 2)) for code, own in self._boxes(data, row).items()}

    def _boxes(self, data: PreparedData, row: int) -> dict[int, list[Any]]:
        """The boxes of an image by the code of their class."""
        class_ids = image_class_ids(data, row)
        if not class_ids:
            return {}
        if self.box_source == "xml":
            codes = class_ids * len(data.boxes[row])
            if len(class_ids) > 1:
                codes = [label + 1 for label in data.box_labels[row]]
            pairs = list(zip(codes, data.boxes[row], strict=True))
            return {code: [box for own, box in pairs if own == code] for code in sorted(set(codes))}
        if not data.has_target[row]:
            return {}
        target = data.original_target(row)
        objects = {class_ids[0]: (target > 0) & (target < UNKNOWN)}
        if len(class_ids) > 1:  # one box for all pixels of a class
            objects = {int(code): target == code for code in np.unique(target) if 0 < code <= data.count}
        found = {code: body_box(region.astype(np.uint8)) for code, region in objects.items()}
        return {code: [box] for code, box in found.items() if box}


class InBoxes(ScoreStage):
    """Scores that start anew in every box of an object (:func:`seg.methods.rank_in_boxes`).

    Attributes:
        scores: made from ``boxes``, for instance by co-localisation. boxes: of whole objects.
        fill: the share of a box that its object is expected to fill.
    """

    what: ClassVar[str] = "scores in boxes"

    scores: ScoreStage
    boxes: BoxScores
    fill: float = param(default=0.6, above=0, high=1)

    @classmethod
    def from_config(cls, scores: ScoreStage, boxes: ScoreStage, **values: Any) -> ScoreStage:
        """``scores`` themselves if ``boxes`` are not of whole objects, or nothing followed on them."""
        if not isinstance(boxes, BoxScores) or not boxes.clip or scores is boxes:
            return scores
        return cls(scores=scores, boxes=boxes, **values)

    @property
    def title(self) -> str:
        return f"{self.scores.title}, in boxes"

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        scores: ScoreMaps = store.get(self.scores)
        data, rows = scores.data, scores.rows
        boxes = [self.boxes.shares(data, int(row)) for row in rows]

        def ranked() -> Iterator[np.ndarray]:
            for positions in scores.batches():
                maps = scores.per_class(positions)
                several = zip(np.nan_to_num(maps.values, nan=0.5), positions[maps.image], maps.class_ids, strict=True)
                yield np.stack([rank_in_boxes(own, boxes[image][code], self.fill) for own, image, code in several])

        return self.save(out, data, rows, ranked(), scores.ids)
