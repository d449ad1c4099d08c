"""``data=image_folder``: someone's own photos, a folder per class or labels in a file, with or without masks."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from seg.data.box_lists import read_boxes
from seg.data.boxes import fit_box, to_photo
from seg.data.dataset import UNKNOWN, Box, Codes, Dataset, Record
from seg.data.decode import codes_in, mask_values
from seg.data.draw import draw_by_labels
from seg.data.folder_layout import ANOTHER_FORMAT, Names, Parts, find_parts, image_ids
from seg.data.label_lists import read_labels
from seg.data.layout import content_fingerprint, read_text
from seg.data.read_report import ReadReport
from seg.data.sources import InPlace, require_few
from seg.errors import SegError
from seg.store import Products, param

T = TypeVar("T")
_MANY = 10


class ImageFolder(InPlace):
    """A folder of images per class, as of torchvision's ``ImageFolder``; masks, boxes and a split are optional.

    An image's id is its file's stem, or ``class_stem`` where classes share a stem. The identity is what the files
    contain and how they are called below ``root``, not where they lie.

    With a file of labels an image may have several classes, or none and so be background alone; in which folder it
    lies means nothing then, and one that the file does not name is not used.

    Attributes:
        root: holds the folders. A single class is enough for ``supervision=bbox``.
        labels_from: a CSV, see :func:`seg.data.label_lists.read_labels`; null: ``root/labels.csv`` if it is there;
            false: the folders are the classes.
        masks: folder of PNG masks (or BMP, TIFF, GIF) by stem or ``class/stem``; null: ``root/masks`` (``Mask``,
            ``ground_target``, ...), which is never a class; false: none.
        mask_suffix: ``_mask`` for masks called ``1_mask.png``; null: found, where no mask is called like an image, and
            for masks beside their images; "": none.
        mask_codes: ``binary``, 0 background, 1 or 255 foreground; ``ids``, 0 background, 255 no ground truth, all else
            foreground; ``trimap``, the official 1 foreground, 2 background, 3 border; ``classes``, 0 background, 1 and
            on the classes in the order of their names, 255 no ground truth.
        boxes_from: a CSV (``file,xmin,ymin,xmax,ymax``, with labels from a file also ``class``), a COCO JSON or a
            folder of VOC XML; null: ``boxes.csv``, ``boxes.json`` or ``boxes/`` in ``root``, if one is there.
        test_list: a file with a test image per line, by id, file name or ``class/file``; the rest is trainval.
        test_share: without a list, the share of each class that becomes test.
        split_seed: of that draw.
        title: what the first line of a run calls it.
    """

    what: ClassVar[str] = "own images, read in place"
    boxes_of: ClassVar[str] = "boxes"
    boxes_hint: ClassVar[str] = "give data.boxes_from=FILE, a CSV, a COCO JSON or a folder of VOC XML"

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

    def validate(self) -> None:
        """A path, or that there is none."""
        for key, what in (("masks", "the folder of the masks"), ("labels_from", "a CSV of labels")):
            if getattr(self, key) is True:
                raise SegError(f"data.{key}=true: give {what}, null to look in data.root, or false")

    def detail(self, store: Products) -> str:
        """What was found: nothing lies beside the photos without being named, and nothing is taken for granted."""
        dataset: Dataset = store.get(self)
        records, parts = dataset.records, self.parts
        count = len(dataset.classes)
        labels = f" (labels in {parts.labels})" if parts.labels else ""
        said = [f"{len(records)} images of {count} class{'es' if count > 1 else ''}{labels}"]
        masks, boxes = sum(r.has_target for r in records), sum(bool(r.boxes) for r in records)
        named = f" (called *{parts.mask_suffix})" if parts.mask_suffix else ""
        said.append(f"mask files for {masks} in {parts.masks_folder}{named}" if masks else "no masks")
        said.append(f"boxes for {boxes} in {parts.boxes}" if boxes else "no boxes")
        how = f"in {parts.test_list}" if parts.test_list else f"drawn (test_share={self.test_share:g})"
        return f": {', '.join(said)}, test images {how}"

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
        """The content, and how it is understood; what plays no part is left out."""
        out = super().params()
        if self.parts.masks:
            out["mask_codes"] = self.mask_codes
        if self.parts.mask_suffix:
            out["mask_suffix"] = self.parts.mask_suffix
        if self.test_list is None:
            out["test_share"] = self.test_share
            if self.test_share > 0:
                out["split_seed"] = self.split_seed
        return out

    def load(self, path: Path, store: Products) -> Dataset:
        """Read names, lists and boxes; of images with boxes the sizes."""
        parts, found = self.parts, ReadReport()
        for sentence, skipped in parts.skipped.items():
            found.warn(sentence, skipped)
        for name in parts.skipped.get(ANOTHER_FORMAT, ())[:1]:
            _refuse_mask(parts.root / name)
        ids = image_ids(parts.images)
        names = Names(ids)
        labels, classes = _labels(parts, ids, names, found)
        if parts.labels or (parts.masks and self.mask_codes == "classes"):
            require_few(len(classes), str(parts.labels or parts.root), "leave some out")
        images = {ids[name]: file for name, file in parts.images.items() if ids[name] in labels}
        sets = {i: tuple(sorted(map(classes.index, labels[i]))) for i in images}
        test = self._test(ids, names, sets)
        used = Names({name: i for name, i in ids.items() if i in labels})
        masks = _masks(parts, used, found)
        boxes = _boxes(parts, used, images, labels, classes, found)
        there = {label for own in sets.values() for label in own}
        trained = {label for i, own in sets.items() if i not in test for label in own}
        for label in sorted(there - trained):
            what = f"names all images of {classes[label]!r}; leave some of each class to train on"
            found.problems.append(f"data.test_list={self.test_list}: {what}")
        found.stop_if_any(parts.root, one_line=True)
        found.warn("classes without an image", (name for label, name in enumerate(classes) if label not in there))
        for what, own in (("a mask", masks), ("boxes", boxes)):
            found.warn(f"images without {what}", (i for i in images if own and i not in own))
        records = [
            Record(
                id=i,
                image=file,
                labels=sets[i],
                split="test" if i in test else "trainval",
                trimap=masks.get(i),
                boxes=tuple(box for box, _ in boxes.get(i, ())),
                codes=self.mask_codes if i in masks else "trimap",
                box_labels=tuple(classes.index(said) for _, said in boxes.get(i, ())) if len(sets[i]) > 1 else (),
            )
            for i, file in images.items()
        ]
        records.sort(key=lambda record: record.split == "test")
        return Dataset(tuple(classes), tuple(records), found.warnings, False, found.examples, parts.root)

    def _test(self, ids: dict[str, str], names: Names, sets: dict[str, tuple[int, ...]]) -> set[str]:
        """Ids of the test images."""
        listed = self.parts.test_list
        if listed is None:
            drawn: defaultdict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
            for name, i in ids.items():
                if i in sets:  # of folders from each class, else of all images
                    drawn["" if self.parts.labels else name.split("/")[0]][name] = sets[i]
            chosen = [draw_by_labels(own, self.test_share, self.split_seed) for own in drawn.values()]
            return {ids[name] for own in chosen for name in own}
        test, problems = set(), ReadReport()
        for number, line in enumerate(read_text(listed).splitlines(), 1):
            if (said := line.strip()) and not said.startswith("#"):
                with problems.gathering(f"{listed} line {number}"):
                    if (image_id := names.find(said)) is None:
                        raise SegError(f"{said[:100]!r} is no image of {self.parts.root}")
                    test.add(image_id)
        problems.stop_if_any(listed, one_line=True)
        if not test:
            raise SegError(f"{listed}: names no image; for no test image leave it out, data.test_share=0")
        return test


def _refuse_mask(path: Path) -> None:
    """Refuse a file of a photo's name, in another format, that is its mask."""
    codes = []
    with suppress(SegError):  # one that is coloured or broken is none
        codes = codes_in(mask_values(path))
    if 0 in codes and set(codes) <= {0, 1, UNKNOWN}:
        raise SegError(
            f"{path}: looks like the mask of the image of that name beside it; put the masks into a folder masks "
            "(masks/cat/1.png for cat/1.jpg)"
        )


def _match(
    names: Names, listed: Iterable[tuple[str, str, T]], what: str, place: object, found: ReadReport, remedy: str = ""
) -> dict[str, list[tuple[str, T]]]:
    """What ``place`` lists as (name of an image, where, item), by image id; the others are counted, all a problem."""
    matched: defaultdict[str, list[tuple[str, T]]] = defaultdict(list)
    unmatched = []
    for said, where, item in listed:
        with found.gathering(where):
            if (image_id := names.find(said, anywhere=what != "masks")) is None:
                unmatched.append(said)
            else:
                matched[image_id].append((where, item))
    if unmatched and not matched and not found.problems:
        what_not = f"none of its {len(unmatched)} {what} is of an image that is used; {unmatched[0]!r}, say, is none"
        found.problems.append(f"{place}: {what_not}{remedy}")
    found.warn(f"{what} of images that are not there (not used)", dict.fromkeys(unmatched))
    return matched


def _labels(
    parts: Parts, ids: dict[str, str], names: Names, found: ReadReport
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The names of the classes of each image that is used, by its id; and those of all that are named, in order."""
    if parts.labels is None:
        folders: dict[str, tuple[str, ...]] = {i: (name.split("/")[0],) for name, i in ids.items()}
        return folders, sorted({name for own in folders.values() for name in own})
    listed = read_labels(parts.labels, names.knows)
    remedy = " (data.labels_from=false takes the folders for the classes)"
    lines = ((one.image, one.where, one.names) for one in listed)
    matched = _match(names, lines, "labels", parts.labels, found, remedy)
    labels = {i: tuple(dict.fromkeys(name for _, names in own for name in names)) for i, own in matched.items()}
    # Of images that are not there, too: what a mask's codes mean is not to depend on these.
    classes = sorted({name for one in listed for name in one.names})
    if not found.problems and not any(labels.values()):
        found.problems.append(f"{parts.labels}: names no class{remedy}")
    found.stop_if_any(parts.labels, one_line=True)
    folded = Counter(name.casefold() for name in classes)
    found.warn("classes that differ in capitals alone (kept apart)", (n for n in classes if folded[n.casefold()] > 1))
    found.warn("images that the file of labels does not name (not used)", (i for i in ids.values() if i not in labels))
    found.warn("images without a label (background alone)", (i for i, own in labels.items() if not own))
    return labels, classes


def _masks(parts: Parts, names: Names, found: ReadReport) -> dict[str, Path]:
    remedy = (
        "; masks are called like their images, or as 1_mask.png with data.mask_suffix=_mask (data.masks=false: none)"
    )
    called = {file: os.path.splitext(name) for name, file in parts.masks.items()}
    listed = ((s.removesuffix(parts.mask_suffix) + ending, str(file), file) for file, (s, ending) in called.items())
    matched = _match(names, listed, "masks", parts.masks_folder, found, remedy)
    for (where, _), *others in matched.values():
        found.problems += [f"{where} and {other}: two masks of one image; delete one" for other, _ in others]
    return {image_id: own[0][1] for image_id, own in matched.items()}


def _boxes(
    parts: Parts,
    names: Names,
    images: dict[str, Path],
    labels: dict[str, tuple[str, ...]],
    classes: list[str],
    found: ReadReport,
) -> dict[str, list[tuple[Box, str]]]:
    """Boxes by image id, brought within their images, and the class of each."""
    if parts.boxes is None:
        return {}
    listed = ((one.image, one.where, one) for one in read_boxes(parts.boxes))
    boxes: defaultdict[str, list[tuple[Box, str]]] = defaultdict(list)
    problems, highest, least = len(found.problems), 0.0, math.inf
    matched = _match(names, listed, "boxes", parts.boxes, found)
    for image_id, own in matched.items():
        highest = max(highest, *(side for _, one in own for side in one.box))
        with found.gathering(own[0][0]):
            size, move, sentence = to_photo(own[0][1].size, images[image_id])
            found.warn(sentence, [image_id] * bool(sentence))
            least = min(least, *(size or ()))
            for where, one in own:
                with found.gathering(where):
                    box = fit_box(move(one.box), size, where)
                    # A folder's images are all of one class, whatever their boxes are called.
                    kind = _class_of_box(one.class_name, labels[image_id], classes, where) if parts.labels else ""
                    boxes[image_id].append((box, kind))
    # Of many images, all objects in the left top corner are as unlikely as boxes that stick out.
    if highest <= 100 and (len(found.problems) > problems or (least > 200 and len(matched) >= _MANY)):
        what = "all boxes lie within 0 to 100: are they percent, as Label Studio's? write pixels"
        found.problems.insert(problems, f"{parts.boxes}: {what}")
    return boxes


def _class_of_box(said: str, own: tuple[str, ...], classes: list[str], where: str) -> str:
    """What a box is of: what its file says, or its image's only label."""
    if not said and len(own) == 1:
        return own[0]
    if not said:
        what = f"{len(own)} labels; say whose it is in a column class (XML: name; COCO: category_id)" if own else "none"
        raise SegError(f"{where}: a box without a class in an image of {what}")
    if said not in own:
        known = "label of its image" if said in classes else "class of the data"
        raise SegError(f"{where}: a box of {said!r}, which is no {known}; mend the boxes or the labels")
    return said
