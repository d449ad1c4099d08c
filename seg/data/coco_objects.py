"""What COCO's annotations come to for a photo: its labels, boxes and regions."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from seg.data.boxes import TOLERANCE, check_inside, check_order, clip_inside
from seg.data.coco_file import Annotation, Listed
from seg.data.coco_outlines import read_outline
from seg.data.dataset import UNKNOWN, Box, Record, Region, Split
from seg.data.decode import image_size
from seg.data.findings import Findings
from seg.errors import SegError


@dataclass
class Photo:
    """What is known of a photo: what was listed, and then what its annotations come to.

    Attributes:
        split: what it is for.
        listed: what the JSON says of it.
        annotations: its objects of the classes, with the class of each.
        id: what it is called.
        labels, boxes, regions: as of :class:`seg.data.dataset.Record`; the boxes with their classes.
        is_other_size: than the JSON says, so that boxes and outlines cannot be placed.
    """

    split: Split
    listed: Listed
    annotations: list[tuple[Annotation, int]] = field(default_factory=list)
    id: str = ""
    labels: tuple[int, ...] = ()
    boxes: list[tuple[Box, int]] = field(default_factory=list)
    regions: tuple[Region, ...] | None = ()
    is_other_size: bool = False

    def read(self, path: Path, found: Findings) -> None:
        """Bring the annotations into this form; what is wrong with them goes to ``found``."""
        self.labels = tuple(sorted({label for one, label in self.annotations if not one.is_crowd}))
        if not self.annotations:
            return
        size = None
        with suppress(SegError):  # an image that is none is named and counted when it is decoded
            size = image_size(path)
        if size is not None and self.listed.size not in (size, None):
            self.is_other_size, self.regions = True, None
            return
        quirks: Counter[str] = Counter()
        drawn: list[tuple[bool, float, Region]] | None = []
        for one, label in self.annotations:
            with found.gathering(one.where):
                if not one.is_crowd and not self._box(one, label, size):
                    quirks["empty boxes (not used)"] += 1
                outline = read_outline(one.content.get("segmentation"), size, one.where)
                if outline is None:
                    quirks["images with an object without an outline (no truth)"] = 1
                    drawn = None
                    continue
                quirks["crowd regions (unknown)"] += one.is_crowd
                quirks["polygons of one point or two (not drawn)"] += outline.lines
                quirks["objects of less than a pixel"] += outline.area < 1
                if size is not None and outline.sticks_out(size, TOLERANCE):
                    quirks["outlines that stick out of their image (cut)"] += 1
                region = Region(UNKNOWN if one.is_crowd else 1 + label, outline.polygons, outline.runs)
                if drawn is not None:
                    drawn.append((not one.is_crowd, -outline.area, region))
        for sentence, count in quirks.items():
            found.quirk(sentence, [self.id] * count)
        self.regions = None if drawn is None else tuple(r for *_, r in sorted(drawn, key=lambda item: item[:2]))

    def _box(self, one: Annotation, label: int, size: tuple[int, int] | None) -> bool:
        """Take the box of an object, and say whether it has an area."""
        box = clip_inside(one.box(), size)
        if box[0] == box[2] or box[1] == box[3]:
            return False
        check_order(box, one.where)
        check_inside(box, size, one.where)
        self.boxes.append((box, label))
        return True

    def record(self, path: Path, *, has_truth: bool) -> Record:
        """As the rest of the program knows it."""
        labels = tuple(label for _, label in self.boxes) if len(self.labels) > 1 else ()
        return Record(
            id=self.id,
            image=path,
            labels=self.labels,
            split=self.split,
            boxes=tuple(box for box, _ in self.boxes),
            codes="classes",
            box_labels=labels,
            regions=self.regions if has_truth else None,
        )
