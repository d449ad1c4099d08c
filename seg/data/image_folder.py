"""``data=image_folder``: someone's own photos, a folder per class or labels in a file, with or without masks."""

import copy
import os
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from seg.data.boxes import ListedBox
from seg.data.dataset import Box, Codes, Dataset, Split
from seg.data.draw import draw_by_labels
from seg.data.folder_layout import Names, Parts, find_parts, image_ids
from seg.data.layout import content_fingerprint, read_text
from seg.data.read_report import ReadReport
from seg.data.records import make_dataset, place_boxes
from seg.data.sources import InPlace, require_few
from seg.data.tables import read_boxes, read_labels
from seg.errors import SegError
from seg.store import Products, param

T = TypeVar("T")


class ImageFolder(InPlace):
    """A folder of images per class, as of torchvision's ``ImageFolder``; masks, boxes and a split are optional.

    An image's id is its file's stem, or ``class_stem`` where classes share a stem. The identity is what the files
    contain and how they are called below ``root``, not where they lie.

    With a file of labels an image may have several classes, or none and so be background alone; in which folder it
    lies means nothing then, and one that the file does not name is not used.

    Attributes:
        root: holds the folders. A single class is enough for ``supervision=bbox``.
        labels_from: a CSV, see :func:`seg.data.tables.read_labels`; null: ``root/labels.csv`` if it is there;
            false: the folders are the classes.
        masks: folder of PNG masks (or BMP, TIFF, GIF) by stem or ``class/stem``; null: ``root/masks`` or
            ``root/ground_truth``, which are never classes; false: none.
        mask_suffix: ``_mask`` for masks called ``1_mask.png``, in their folder or beside their images; null: ``_mask``
            or ``_segmentation`` is found; "": none.
        mask_codes: ``binary``, 0 background, 1 or 255 foreground; ``ids``, 0 background, 255 no ground truth, all else
            foreground; ``trimap``, the official 1 foreground, 2 background, 3 border; ``classes``, 0 background, 1 and
            on the classes in the order of their names, 255 no ground truth.
        boxes_from: a CSV (``file,xmin,ymin,xmax,ymax``, with labels from a file also ``class``) or a folder of VOC
            XML; null: ``boxes.csv`` or ``boxes/`` in ``root``, if one is there.
        test_list: a file with a test image per line, by id, file name or ``class/file``; the rest is trainval.
        test_share: without a list, the share of each class that becomes test.
        split_seed: of that draw.
        title: what the first line of a run calls it.
    """

    what: ClassVar[str] = "own images, read in place"
    boxes_of: ClassVar[str] = "boxes"
    boxes_hint: ClassVar[str] = "give data.boxes_from=FILE, a CSV or a folder of VOC XML"

    root: str | None = param(default=None, key=False)
    labels_from: bool | str | None = param(default=None, key=False)
    masks: bool | str | None = param(default=None, key=False)
    mask_suffix: str | None = param(default=None, key=False)
    mask_codes: Codes = param(default="binary")
    boxes_from: str | None = param(default=None, key=False)
    test_list: str | None = param(default=None, key=False)
    test_share: float = param(default=0.2, low=0, below=1)
    split_seed: int = param(default=0, low=0)
    title: str = param(default="image_folder", key=False)

    def detail(self, store: Products) -> str:
        """What was found: nothing lies beside the photos without being named, and nothing is taken for granted."""
        dataset: Dataset = store.get(self)
        records, parts, count = dataset.records, self.parts, len(dataset.classes)
        labels = f" (labels in {parts.labels})" if parts.labels else ""
        found = [f"{len(records)} images of {count} class{'es' if count > 1 else ''}{labels}"]
        masks, boxes = sum(r.has_target for r in records), sum(bool(r.boxes) for r in records)
        suffix = f" (called *{parts.mask_suffix})" if parts.mask_suffix else ""
        found.append(f"mask files for {masks} in {parts.masks_folder}{suffix}" if masks else "no masks")
        found.append(f"boxes for {boxes} in {parts.boxes}" if boxes else "no boxes")
        how = f"in {parts.test_list}" if parts.test_list else f"drawn (test_share={self.test_share:g})"
        return f": {', '.join(found)}, test images {how}"

    @cached_property
    def parts(self) -> Parts:
        """The files."""
        if self.root is None:
            raise SegError("data=image_folder: give data.root=DIR, a folder with a folder of photos for each class")
        given = self.masks, self.boxes_from, self.test_list, self.labels_from, self.mask_suffix
        return find_parts(Path(self.root), *given)

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """Of all files."""
        return content_fingerprint(str(self.parts.root.resolve()), self.parts.content(), cache, write=write)

    def params(self) -> dict[str, Any]:
        """The content, and how it is understood."""
        keys = {"mask_codes": self.mask_codes, "mask_suffix": self.parts.mask_suffix}
        return super().params() | keys | {"test_share": self.test_share, "split_seed": self.split_seed}

    def load(self, path: Path, store: Products) -> Dataset:
        """Read names, lists and boxes; of images with boxes the sizes."""
        parts, found = self.parts, copy.deepcopy(self.parts.found)
        ids = image_ids(parts.images)
        labels, classes = _labels(parts, ids, found)
        if parts.labels or (parts.masks and self.mask_codes == "classes"):
            require_few(len(classes), str(parts.labels or parts.root), "leave some out")
        images = {i: parts.images[name] for name, i in ids.items() if i in labels}
        sets = {i: tuple(sorted(map(classes.index, labels[i]))) for i in images}
        test = self._test(ids, sets)
        splits: dict[str, Split] = {i: "test" if i in test else "trainval" for i in images}
        used = Names({name: i for name, i in ids.items() if i in labels})
        masks, boxes = _masks(parts, used, found), _boxes(parts, used, images, labels, classes, found)
        return make_dataset(
            parts.root,
            classes,
            images,
            sets,
            splits,
            masks,
            boxes,
            found,
            codes=self.mask_codes,
            folder=parts.root,
        )

    def _test(self, ids: dict[str, str], sets: dict[str, tuple[int, ...]]) -> set[str]:
        """Ids of the test images."""
        listed = self.parts.test_list
        if listed is None:
            drawn: defaultdict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
            for name, i in ids.items():
                if i in sets:  # of folders from each class, else of all images
                    drawn["" if self.parts.labels else name.split("/")[0]][name] = sets[i]
            chosen = [draw_by_labels(own, self.test_share, self.split_seed) for own in drawn.values()]
            return {ids[name] for own in chosen for name in own}
        lines = [line.strip() for line in read_text(listed).splitlines()]
        names, test = Names(ids), {line for line in lines if line and not line.startswith("#")}
        if unknown := sorted(name for name in test if names.find(name) is None):
            raise SegError(f"{listed}: {unknown[0][:100]!r} is no image of {self.parts.root} ({len(unknown)} are none)")
        if not test:
            raise SegError(f"{listed}: names no image; for no test image leave it out, data.test_share=0")
        return {str(names.find(name)) for name in test}


def _match(
    names: Names, listed: Iterable[tuple[str, str, T]], what: str, place: object, found: ReadReport, remedy: str = ""
) -> dict[str, list[T]]:
    """What ``place`` lists as (name of an image, where, item), by image id; the others are counted, all a problem."""
    matched: defaultdict[str, list[T]] = defaultdict(list)
    unmatched = []
    for name, where, item in listed:
        with found.gathering(where):
            if (image_id := names.find(name, anywhere=what != "masks")) is None:
                unmatched.append(name)
            else:
                matched[image_id].append(item)
    if unmatched and not matched and not found.problems:
        what_not = f"none of its {len(unmatched)} {what} is of an image that is used; {unmatched[0]!r}, say, is none"
        found.problems.append(f"{place}: {what_not}{remedy}")
    found.warn(f"{what} of images that are not there (not used)", dict.fromkeys(unmatched))
    return matched


def _labels(parts: Parts, ids: dict[str, str], found: ReadReport) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The names of the classes of each image that is used, by its id; and those of all that are named, in order."""
    if parts.labels is None:
        folders: dict[str, tuple[str, ...]] = {i: (name.split("/")[0],) for name, i in ids.items()}
        return folders, sorted({name for own in folders.values() for name in own})
    listed = read_labels(parts.labels)
    remedy = " (data.labels_from=false takes the folders for the classes)"
    matched = _match(Names(ids), listed, "labels", parts.labels, found, remedy)
    # Of images that are not there, too: what a mask's codes mean is not to depend on these.
    classes = sorted({name for _, _, names in listed for name in names})
    if not found.problems and not classes:
        found.problems.append(f"{parts.labels}: names no class{remedy}")
    found.stop_if_any(parts.labels, one_line=True)
    found.warn("images that the file of labels does not name (not used)", (i for i in ids.values() if i not in matched))
    return {i: tuple(dict.fromkeys(name for names in own for name in names)) for i, own in matched.items()}, classes


def _masks(parts: Parts, names: Names, found: ReadReport) -> dict[str, Path]:
    remedy = (
        "; masks are called like their images, or as 1_mask.png with data.mask_suffix=_mask (data.masks=false: none)"
    )
    stems = ((*os.path.splitext(name), file) for name, file in parts.masks.items())
    listed = ((stem.removesuffix(parts.mask_suffix) + ending, str(file), file) for stem, ending, file in stems)
    matched = _match(names, listed, "masks", parts.masks_folder, found, remedy)
    twice = [own for own in matched.values() if len(own) > 1]
    found.problems += [f"{own[0]} and {own[1]}: two masks of one image; delete one" for own in twice]
    return {image_id: own[0] for image_id, own in matched.items()}


def _boxes(
    parts: Parts,
    names: Names,
    images: dict[str, Path],
    labels: dict[str, tuple[str, ...]],
    classes: list[str],
    found: ReadReport,
) -> dict[str, list[tuple[Box, int]]]:
    """Boxes by image id, brought within their images, and the class of each."""
    if parts.boxes is None:
        return {}
    matched = _match(names, ((x.image, x.where, x) for x in read_boxes(parts.boxes)), "boxes", parts.boxes, found)
    boxes: defaultdict[str, list[tuple[Box, int]]] = defaultdict(list)
    for image_id, own in place_boxes(matched, images, found).items():
        for one in own:
            with found.gathering(one.where):
                # A folder's images are all of one class, whatever their boxes are called.
                name = _class_of_box(one, labels[image_id]) if parts.labels else labels[image_id][0]
                boxes[image_id].append((one.box, classes.index(name)))
    return boxes


def _class_of_box(box: ListedBox, own: tuple[str, ...]) -> str:
    """What a box is of: what its file says, or its image's only label."""
    name = box.class_name or (own[0] if len(own) == 1 else "")
    if name not in own:
        labels = ", ".join(own) or "no object"
        raise SegError(
            f"{box.where}: a box of the class {name!r} in an image of {labels}; mend the boxes or the labels"
        )
    return name
