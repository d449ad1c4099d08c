"""``data=annotations``: photos with annotations in the format of a tool."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seg.data.coco import Coco
from seg.data.coco_file import Annotation, CocoFile, CocoImage, Id
from seg.data.layout import MissingDataError, content_fingerprint
from seg.data.read_report import ReadReport
from seg.errors import SegError
from seg.formats.read import ToolFormat, read_annotations
from seg.formats.record import Picture, Shape, box_of, full_mask, runs
from seg.store import param

_TEST = ("val", "valid", "validation", "test", "testing")


class Annotations(Coco):
    """Photos and annotations in the format of a tool; all else as for :class:`seg.data.coco.Coco`.

    Polygons, ellipses and masks are ground truth; boxes are boxes only; lines and points are labels of their image,
    which then has no ground truth. The splits ``val`` and ``test`` are for test. Classes are in alphabetical order.

    Attributes:
        format: of the annotations. instances, test_instances: a file or a folder; null: found below ``root``.
    """

    what: ClassVar[str] = "photos with annotations, read in place"

    format: ToolFormat | None = param(default=None)
    title: str = param(default="annotations", key=False)

    def files(self) -> list[CocoFile]:
        """Read the annotations of trainval, and those of test if there are any."""
        if self.root is None or self.format is None:
            raise SegError("data=annotations: give data.root=DIR and data.format=cvat, label_studio, labelme, ...")
        root = Path(self.root)
        for given in (self.instances or "", self.test_instances or ""):
            if not (root / given).exists():
                raise MissingDataError(f"{root / given}: no such file or folder; correct the key that names it")
        found = ReadReport()
        pictures = read_annotations(self.format, root / (self.instances or ""), found)
        trainval = [picture for picture in pictures if picture.subset.lower() not in _TEST]
        test = [picture for picture in pictures if picture.subset.lower() in _TEST]
        if self.test_instances:
            trainval, test = pictures, read_annotations(self.format, root / self.test_instances, found)
        elif not trainval:  # a single split is no split
            trainval, test = pictures, []
        names = sorted({shape.class_name for picture in trainval + test for shape in picture.shapes})
        files = [
            _as_coco(root / (self.instances or ""), own, names, report)
            for own, report in ((trainval, found), (test, ReadReport()))
        ]
        return files if test else files[:1]

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """A hash of the photos and their annotations."""
        content: list[tuple[str, Path]] = []
        annotations: list[tuple[Any, ...]] = []
        for part in self.parts:
            content += [(f"{part.split}/{name}", part.folder / name) for name in part.names.values()]
            annotations += [(part.split, name, part.file.images[i].size) for i, name in part.names.items()]
            annotations += [(part.split, part.names[one.image], *one[2:]) for one in part.file.annotations]
        photos = content_fingerprint(os.path.abspath(self.root or ""), content, cache, write=write)
        return hashlib.sha256(f"{photos} {annotations}".encode()).hexdigest()

    def params(self) -> dict[str, Any]:
        """The content, and the parameters of reading it."""
        return super().params() | {"format": self.format}


def _as_coco(path: Path, pictures: Sequence[Picture], names: Sequence[str], found: ReadReport) -> CocoFile:
    """Pictures as the result of COCO's reader; ids are names."""
    images: dict[Id, CocoImage] = {}
    annotations = []
    for picture in pictures:
        found.warn("photos annotated twice (the objects of both are used)", [picture.file] * (picture.file in images))
        if images.setdefault(picture.file, CocoImage(picture.file, picture.size)).size != picture.size:
            found.problems.append(f"{picture.source}: {picture.file} is annotated twice, with other sizes")
        for number, shape in enumerate(picture.shapes, 1):
            annotations.append(_annotation(f"{picture.source} {picture.file} shape {number}", picture, shape))
    return CocoFile(path, images, {name: name for name in names}, set(), annotations, found)


def _annotation(where: str, picture: Picture, shape: Shape) -> Annotation:
    box, extent, run_lengths = shape.box, None, tuple[int, ...]()
    if shape.polygons:
        extent = box_of(np.concatenate(shape.polygons))
    elif shape.mask is not None and picture.size is not None:
        box = None  # that of its pixels, if it has any
        mask = full_mask(shape, picture.size)
        run_lengths, at = runs(mask), np.argwhere(mask)
        if len(at):
            (top, left), (low, right) = at.min(0).tolist(), at.max(0).tolist()
            extent = float(left), float(top), right + 1.0, low + 1.0
    polygons = tuple(tuple(points.ravel().tolist()) for points in shape.polygons)
    size = picture.size if run_lengths else None
    return Annotation(
        where, picture.file, shape.class_name, False, extent or box or (0, 0, 0, 0), extent, polygons, run_lengths, size
    )
