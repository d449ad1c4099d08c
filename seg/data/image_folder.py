"""``data=image_folder``: someone's own photos, a folder per class, with whatever truth there is."""

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from seg.data.box_lists import read_boxes
from seg.data.boxes import check_inside
from seg.data.dataset import Box, Codes, Dataset, Record, Split
from seg.data.decode import image_size
from seg.data.findings import Findings
from seg.data.folder_layout import Names, Parts, draw_test_images, find_parts, image_ids
from seg.data.layout import content_fingerprint, read_text
from seg.data.sources import InPlace
from seg.errors import SegError
from seg.store import Products, param

# Tools write boxes that are rounded, or that count the last pixel in.
_TOLERANCE = 1.0


class ImageFolder(InPlace):
    """A folder of images per class, as of torchvision's ``ImageFolder``; masks, boxes and a split are optional.

    An image's id is its file's stem, or ``class_stem`` where classes share a stem. The identity is what the files
    contain and how they are called below ``root``, not where they lie.

    Attributes:
        root: holds the folders. A single class is enough for ``supervision=bbox``.
        masks: folder of PNG masks by stem or ``class/stem``; null: ``root/masks`` if PNG files are there; false: none.
        mask_codes: ``binary``, 0 background, 1 or 255 foreground; ``ids``, 0 background, 255 no truth, all else
            foreground; ``trimap``, the official 1 foreground, 2 background, 3 border.
        boxes_from: a CSV (``file,xmin,ymin,xmax,ymax``), a COCO JSON or a folder of VOC XML; null:
            ``boxes.csv``, ``boxes.json`` or ``boxes/`` in ``root``, if one is there.
        test_list: a file with a test image per line, by id, file name or ``class/file``; the rest is trainval.
        test_share: without a list, the share of each class that becomes test.
        split_seed: of that draw.
        title: what the first line of a run calls it.
    """

    what: ClassVar[str] = "own images, read in place"
    boxes_of: ClassVar[str] = "boxes"
    boxes_hint: ClassVar[str] = "give data.boxes_from=FILE, a CSV, a COCO JSON or a folder of VOC XML"

    root: str | None = param(default=None, key=False)
    masks: bool | str | None = param(default=None, key=False)
    mask_codes: Codes = param(default="binary")
    boxes_from: str | None = param(default=None, key=False)
    test_list: str | None = param(default=None, key=False)
    test_share: float = param(default=0.2, low=0, below=1)
    split_seed: int = param(default=0, low=0)
    title: str = param(default="image_folder", key=False)

    def validate(self) -> None:
        """A path, or that there is none."""
        if self.masks is True:
            raise SegError("data.masks=true: give the folder of the masks, null to look in data.root, or false")

    def detail(self, store: Products) -> str:
        """What was found: nothing lies beside the photos without being named, and nothing is taken for granted."""
        dataset: Dataset = store.get(self)
        records, parts = dataset.records, self.parts
        count = len(dataset.classes)
        said = [f"{len(records)} images of {count} class{'es' if count > 1 else ''}"]
        masks, boxes = sum(r.has_truth for r in records), sum(bool(r.boxes) for r in records)
        said.append(f"masks for {masks} in {parts.masks_folder}" if masks else "no masks")
        said.append(f"boxes for {boxes} in {parts.boxes}" if boxes else "no boxes")
        how = f"in {parts.test_list}" if parts.test_list else f"drawn (test_share={self.test_share:g})"
        return ": " + ", ".join([*said, f"test images {how}"])

    @cached_property
    def parts(self) -> Parts:
        """The files."""
        if self.root is None:
            raise SegError("data=image_folder: give data.root=DIR, a folder with a folder of photos for each class")
        return find_parts(Path(self.root), self.masks, self.boxes_from, self.test_list)

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """Of all files."""
        return content_fingerprint(str(self.parts.root.resolve()), self.parts.content(), cache, write=write)

    def params(self) -> dict[str, Any]:
        """The content, and how it is understood; what plays no part is left out."""
        out = super().params()
        if self.parts.masks:
            out["mask_codes"] = self.mask_codes
        if self.test_list is None:
            out["test_share"] = self.test_share
            if self.test_share > 0:
                out["split_seed"] = self.split_seed
        return out

    def load(self, path: Path, store: Products) -> Dataset:
        """Read names, lists and boxes; of images with boxes the sizes."""
        parts, found = self.parts, Findings()
        for sentence, skipped in parts.skipped.items():
            found.quirk(sentence, skipped)
        ids = image_ids(parts.images)
        names = Names(ids)
        test = self._test(parts, ids, names)
        masks = _masks(parts, names, found)
        paths = {ids[name]: file for name, file in parts.images.items()}
        boxes = _boxes(parts, names, paths, found)
        classes = sorted({name.split("/")[0] for name in parts.images})
        trained = {name.split("/")[0] for name in parts.images if ids[name] not in test}
        found.problems += [
            f"data.test_list={self.test_list}: names all images of {name!r}; leave some of each class to train on"
            for name in classes
            if name not in trained
        ]
        found.stop_if_any(parts.root, one_line=True)
        if masks:
            found.quirk("images without a mask", (i for i in paths if i not in masks))
        if boxes:
            found.quirk("images without boxes", (i for i in paths if i not in boxes))
        records = []
        for name, file in parts.images.items():
            image_id = ids[name]
            split: Split = "test" if image_id in test else "trainval"
            label = classes.index(name.split("/")[0])
            truth = masks.get(image_id)
            codes: Codes = self.mask_codes if truth else "trimap"
            records.append(Record(image_id, file, (label,), split, truth, boxes.get(image_id, ()), codes))
        records.sort(key=lambda record: record.split == "test")
        return Dataset(tuple(classes), tuple(records), found.quirks, False, found.examples, parts.root)

    def _test(self, parts: Parts, ids: dict[str, str], names: Names) -> set[str]:
        if parts.test_list is None:
            return {ids[name] for name in draw_test_images(parts.images, self.test_share, self.split_seed)}
        test, problems = set(), Findings()
        for number, line in enumerate(read_text(parts.test_list).splitlines(), 1):
            said = line.strip()
            if not said or said.startswith("#"):
                continue
            with problems.gathering(f"{parts.test_list} line {number}"):
                image_id = names.find(said)
                if image_id is None:
                    raise SegError(f"{said!r} is no image of {parts.root}")
                test.add(image_id)
        problems.stop_if_any(parts.test_list, one_line=True)
        return test


def _masks(parts: Parts, names: Names, found: Findings) -> dict[str, Path]:
    masks: dict[str, Path] = {}
    strangers = []
    for name, file in parts.masks.items():
        with found.gathering(str(file)):
            image_id = names.find(name)
            if image_id is None:
                strangers.append(name)
            elif image_id in masks:
                found.problems.append(f"{masks[image_id]} and {file}: two masks of one image; delete one")
            else:
                masks[image_id] = file
    if strangers and not masks and not found.problems:
        found.problems.append(
            f"{parts.masks_folder}: none of its {len(strangers)} PNG files has the name of an image; masks are "
            "called like their images (data.masks=false leaves them out; a class needs another name)"
        )
    found.quirk("masks without an image (not used)", strangers)
    return masks


def _boxes(parts: Parts, names: Names, paths: dict[str, Path], found: Findings) -> dict[str, tuple[Box, ...]]:
    """Boxes by image id, brought within their images."""
    boxes: dict[str, tuple[Box, ...]] = {}
    strangers: list[str] = []
    if parts.boxes is None:
        return boxes
    sizes: dict[str, tuple[int, int] | None] = {}
    for said, box, where in read_boxes(parts.boxes):
        with found.gathering(where):
            image_id = names.find(said, anywhere=True)
            if image_id is None:
                strangers.append(said)
                continue
            if image_id not in sizes:
                sizes[image_id] = None
                with suppress(SegError):  # an image that is none is named and counted when it is decoded
                    sizes[image_id] = image_size(paths[image_id])
            inside = _clip(box, sizes[image_id])
            check_inside(inside, sizes[image_id], where)
            boxes[image_id] = (*boxes.get(image_id, ()), inside)
    if strangers and not boxes and not found.problems:
        found.problems.append(
            f"{parts.boxes}: none of its boxes is of an image below {parts.root}; {strangers[0]!r}, say, is none"
        )
    found.quirk("boxes of images that are not there (not used)", dict.fromkeys(strangers))
    return boxes


def _clip(box: Box, size: tuple[int, int] | None) -> Box:
    """The box without what sticks out of the image by a pixel or less."""
    height, width = size or (float("inf"), float("inf"))
    low = [0.0 if -_TOLERANCE <= v < 0 else v for v in box[:2]]
    high = [float(end) if end < v <= end + _TOLERANCE else v for v, end in zip(box[2:], (width, height), strict=True)]
    return low[0], low[1], high[0], high[1]
