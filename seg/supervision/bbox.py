"""Boxes to Gaussian score maps."""

import logging
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from seg.data.boxes import body_box, gaussian_score, write_bbox_list
from seg.data.prepared import Pool, PoolRows, PreparedData
from seg.errors import SegError
from seg.stage import param
from seg.store import Store
from seg.supervision.scores import ScoreMaps, ScoreStage

log = logging.getLogger(__name__)


class BoxScores(ScoreStage):
    """A Gaussian on every box, the maximum where boxes overlap.

    The boxes of Oxford-IIIT Pet are of the animal's HEAD and exist for trainval only; what they say of the
    body is little. ``box_source=trimap`` takes the body's box from the truth instead: an oracle, and marked
    as one in every table that it enters.

    Attributes:
        pool: the images; those without a box get no score.
        box_source: ``xml`` or ``trimap`` (trainval's only, as the annotated boxes are).
        divisor: sigma is ``scale * (width + height) / divisor`` of the box.
        scale: see ``divisor``.
        clip: zero outside of the box.
        resolution: side of the score maps in cells.
    """

    what: ClassVar[str] = "Gaussians on boxes"

    pool: Pool
    box_source: Literal["xml", "trimap"] = param(default="xml")
    divisor: float = param(default=3.5, above=0)
    scale: float = param(default=1.0, above=0)
    clip: bool = param(default=False)
    resolution: int = param(default=56, low=4)

    @property
    def is_oracle(self) -> bool:
        """Boxes of the truth are more than a user would have."""
        return self.box_source == "trimap"

    def build(self, out: Path, store: Store) -> dict[str, Any]:
        """Write the scores, and the boxes as ``trimaps_bbox.txt``."""
        pool: PoolRows = store.get(self.pool)
        data = pool.data
        boxes = {int(r): b for r in pool.rows if not data.is_test[r] and (b := self._boxes(data, int(r)))}
        if not boxes:
            raise SegError(
                "supervision=bbox: no trainval image of the pool has a box; give XML files in "
                "annotations/xmls, or use supervision.box_source=trimap (an oracle)"
            )
        if missing := int((~data.is_test[pool.rows]).sum()) - len(boxes):
            log.info("boxes: %d trainval images have none and are left out", missing)
        write_bbox_list(
            out / "trimaps_bbox.txt", [(data.ids[r], box) for r, several in boxes.items() for box in several]
        )
        shape = (self.resolution, self.resolution)
        values = [
            gaussian_score(
                np.asarray(b, np.float64),
                (int(data.sizes[r][0]), int(data.sizes[r][1])),
                shape,
                divisor=self.divisor,
                scale=self.scale,
                clip=self.clip,
            )
            for r, b in boxes.items()
        ]
        return self.save(out, pool.data, np.asarray(list(boxes)), np.stack(values))

    def _boxes(self, data: PreparedData, row: int) -> list[Any]:
        if self.box_source == "xml":
            return data.boxes[row]
        if not data.has_truth[row]:
            return []
        box = body_box(data.original_truth(row))
        return [box] if box else []

    def load(self, path: Path, store: Store) -> ScoreMaps:
        """Scores of the images that have a box."""
        return self.read(path, store.get(self.pool).data)
