"""Boxes to Gaussian score maps."""

import logging
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from seg.data.boxes import write_bbox_list
from seg.data.dataset import UNKNOWN
from seg.data.prepared import Pool, PoolRows, PreparedData
from seg.errors import SegError
from seg.methods.boxes import body_box, gaussian_score
from seg.store import Products, param
from seg.supervision.scores import ScoreStage, image_class_ids

log = logging.getLogger(__name__)


class BoxScores(ScoreStage):
    """A Gaussian on every box, the maximum where boxes overlap.

    The boxes of Oxford-IIIT Pet are of the animal's HEAD and exist for trainval only. ``box_source=trimap`` takes the
    body's box from the ground truth instead: an oracle, and marked as one in every table that it enters.

    Attributes:
        pool: the images; those without a box get no score.
        box_source: ``xml``, the annotated boxes, whatever file they came in; or ``trimap`` (trainval's only).
        divisor: sigma is ``scale * (width + height) / divisor`` of the box.
        scale: see ``divisor``.
        clip: zero outside of the box.
        resolution: side of the score maps in cells.
        test_images: whether test images get scores from their annotated boxes too. Nothing learns from them.
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
        """Boxes of the ground truth are more than a user would have."""
        return self.box_source == "trimap"

    def check(self, store: Products) -> None:
        dataset = self.pool.data.source.dataset_if_known(store)
        trainval = [r for r in dataset.records if r.split == "trainval"] if dataset else []
        if dataset and not any(r.boxes if self.box_source == "xml" else r.has_target for r in trainval):
            raise SegError(self._without_boxes())

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
        boxes = {int(r): b for r in rows if (b := self._boxes(data, int(r)))}
        classes = {r: self._classes(data, r, len(b)) for r, b in boxes.items()}
        if data.is_test[list(boxes)].all():
            raise SegError(self._without_boxes())
        if missing := len(rows) - len(boxes):
            log.info("boxes: %d %simages have none and are left out", missing, "" if test_too else "trainval ")
        listed = [(data.ids[r], box) for r, several in boxes.items() for box in several]
        write_bbox_list(out / "trimaps_bbox.txt", listed)
        class_ids = {r: sorted(set(own)) for r, own in classes.items()}
        options: Any = {"divisor": self.divisor, "scale": self.scale, "clip": self.clip}
        values = []
        for r, code in ((r, code) for r, own in class_ids.items() for code in own):
            of_class = [box for box, own in zip(boxes[r], classes[r], strict=True) if own == code]
            size, shape = tuple(data.sizes[r].tolist()), (self.resolution, self.resolution)
            values.append(gaussian_score(of_class, size, shape, **options))
        return self.save(out, data, np.asarray(list(boxes)), np.stack(values), list(class_ids.values()))

    def _classes(self, data: PreparedData, row: int, count: int) -> list[int]:
        """The masks' code of every box."""
        own = image_class_ids(data, row)
        if len(own) == 1:
            return own * count
        if self.box_source == "trimap":
            return [int(c) for c in np.unique(data.original_target(row)) if 0 < c <= data.count]
        return [label + 1 for label in data.box_labels[row]]

    def _boxes(self, data: PreparedData, row: int) -> list[Any]:
        if self.box_source == "xml" and data.label_sets[row]:
            return data.boxes[row]
        if not data.label_sets[row] or not data.has_target[row]:
            return []
        target = data.original_target(row)
        if len(data.label_sets[row]) == 1:
            objects = [(target > 0) & (target < UNKNOWN)]
        else:  # a box for all that is of a class
            objects = [target == code for code in np.unique(target) if 0 < code <= data.count]
        return [box for o in objects if (box := body_box(o.astype(np.uint8)))]
