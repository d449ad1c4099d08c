"""``data=image_folder``: someone's own photos, a folder per class or labels in a file, with whatever truth there is."""

from collections import Counter
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from seg.data.box_lists import read_boxes
from seg.data.boxes import check_inside, clip_inside
from seg.data.dataset import Box, Codes, Dataset, Record
from seg.data.decode import image_size
from seg.data.draw import draw_by_labels, draw_test_images
from seg.data.findings import Findings
from seg.data.folder_layout import Names, Parts, find_parts, image_ids
from seg.data.label_lists import read_labels
from seg.data.layout import content_fingerprint, read_text
from seg.data.sources import InPlace, require_few
from seg.errors import SegError
from seg.store import Products, param


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
            ``ground_truth``, ...), which is never a class; false: none.
        mask_suffix: what masks have between their image's stem and the ending, ``_mask`` for ``1_mask.png``. null: ""
            if a mask is called like an image, else the suffix of most; and usual ones of files that lie beside the
            image of their name. "": none.
        mask_codes: ``binary``, 0 background, 1 or 255 foreground; ``ids``, 0 background, 255 no truth, all else
            foreground; ``trimap``, the official 1 foreground, 2 background, 3 border; ``classes``, 0 background, 1 and
            on the classes in the order of their names, 255 no truth.
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
        if self.masks is True:
            raise SegError("data.masks=true: give the folder of the masks, null to look in data.root, or false")
        if self.labels_from is True:
            raise SegError("data.labels_from=true: give a CSV of labels, null to look in data.root, or false")

    def detail(self, store: Products) -> str:
        """What was found: nothing lies beside the photos without being named, and nothing is taken for granted."""
        dataset: Dataset = store.get(self)
        records, parts = dataset.records, self.parts
        count = len(dataset.classes)
        labels = f" (labels in {parts.labels})" if parts.labels else ""
        said = [f"{len(records)} images of {count} class{'es' if count > 1 else ''}{labels}"]
        masks, boxes = sum(r.has_truth for r in records), sum(bool(r.boxes) for r in records)
        named = f" (called *{parts.mask_suffix})" if parts.mask_suffix else ""
        said.append(f"mask files for {masks} in {parts.masks_folder}{named}" if masks else "no masks")
        said.append(f"boxes for {boxes} in {parts.boxes}" if boxes else "no boxes")
        how = f"in {parts.test_list}" if parts.test_list else f"drawn (test_share={self.test_share:g})"
        return ": " + ", ".join([*said, f"test images {how}"])

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
        labels, classes = _labels(parts, ids, names, found)
        images = {name: file for name, file in parts.images.items() if ids[name] in labels}
        if parts.labels or (parts.masks and self.mask_codes == "classes"):
            require_few(len(classes), str(parts.labels or parts.root), "leave some out")
        sets = {name: tuple(sorted(map(classes.index, labels[ids[name]]))) for name in images}
        test = self._test(parts, ids, names, sets)
        masks = _masks(parts, names, found)
        paths = {ids[name]: file for name, file in images.items()}
        boxes = _boxes(parts, names, paths, found, labels, classes)
        there = {label for own in sets.values() for label in own}
        trained = {label for name, own in sets.items() if ids[name] not in test for label in own}
        found.problems += [
            f"data.test_list={self.test_list}: names all images of {name!r}; leave some of each class to train on"
            for label, name in enumerate(classes)
            if label in there - trained
        ]
        found.stop_if_any(parts.root, one_line=True)
        found.quirk("classes without an image", (name for label, name in enumerate(classes) if label not in there))
        if masks:
            found.quirk("images without a mask", (i for i in paths if i not in masks))
        if boxes:
            found.quirk("images without boxes", (i for i in paths if i not in boxes))
        records = []
        for name, file in images.items():
            image_id, own = ids[name], boxes.get(ids[name], [])
            truth = masks.get(image_id)
            records.append(
                Record(
                    id=image_id,
                    image=file,
                    labels=sets[name],
                    split="test" if image_id in test else "trainval",
                    trimap=truth,
                    boxes=tuple(box for box, _ in own),
                    codes=self.mask_codes if truth else "trimap",
                    box_labels=tuple(classes.index(said) for _, said in own) if len(sets[name]) > 1 else (),
                )
            )
        records.sort(key=lambda record: record.split == "test")
        return Dataset(tuple(classes), tuple(records), found.quirks, False, found.examples, parts.root)

    def _test(self, parts: Parts, ids: dict[str, str], names: Names, labels: dict[str, tuple[int, ...]]) -> set[str]:
        if parts.test_list is None and parts.labels:
            return {ids[name] for name in draw_by_labels(labels, self.test_share, self.split_seed)}
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
                    raise SegError(f"{said[:100]!r} is no image of {parts.root}")
                test.add(image_id)
        problems.stop_if_any(parts.test_list, one_line=True)
        if not test:
            raise SegError(f"{parts.test_list}: names no image; for no test image leave it out, data.test_share=0")
        return test


def _labels(
    parts: Parts, ids: dict[str, str], names: Names, found: Findings
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The names of the classes of each image that is used, by its id; and those of all that are named, in order."""
    labels: dict[str, tuple[str, ...]] = {}
    if parts.labels is None:
        labels = {ids[name]: (name.split("/")[0],) for name in parts.images}
        return labels, sorted({name.split("/")[0] for name in parts.images})
    classes: set[str] = set()
    strangers = []
    for said, own, where in read_labels(parts.labels, names.knows):
        with found.gathering(where):
            classes.update(own)  # of images that are not there, too: what a mask's codes mean is not to depend on these
            image_id = names.find(said, anywhere=True)
            if image_id is None:
                strangers.append(said)
            else:
                labels[image_id] = tuple(dict.fromkeys((*labels.get(image_id, ()), *own)))
    if not any(labels.values()) and not found.problems:
        what = "no class" if labels or not strangers else f"no image below {parts.root}; {strangers[0]!r}, say, is none"
        raise SegError(f"{parts.labels}: names {what} (data.labels_from=false takes the folders for the classes)")
    folded = Counter(name.casefold() for name in classes)
    found.quirk("classes that differ in capitals alone (kept apart)", (n for n in classes if folded[n.casefold()] > 1))
    found.quirk("labels of images that are not there (not used)", strangers)
    found.quirk("images that the file of labels does not name (not used)", (i for i in ids.values() if i not in labels))
    found.quirk("images without a label (background alone)", (i for i, own in labels.items() if not own))
    return labels, sorted(classes)


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
            f"{parts.masks_folder}: none of its {len(strangers)} masks has the name of an image; masks are "
            "called like their images, or with data.mask_suffix=_mask as 1_mask.png (data.masks=false leaves them out)"
        )
    found.quirk("masks without an image (not used)", strangers)
    return masks


def _boxes(
    parts: Parts,
    names: Names,
    paths: dict[str, Path],
    found: Findings,
    labels: dict[str, tuple[str, ...]],
    classes: list[str],
) -> dict[str, list[tuple[Box, str]]]:
    """Boxes by image id, brought within their images, and the class of each."""
    boxes: dict[str, list[tuple[Box, str]]] = {}
    strangers: list[str] = []
    if parts.boxes is None:
        return boxes
    sizes: dict[str, tuple[int, int] | None] = {}
    for said, box, where, class_name in read_boxes(parts.boxes):
        with found.gathering(where):
            image_id = names.find(said, anywhere=True)
            if image_id is None or image_id not in paths:
                strangers.append(said)
                continue
            if image_id not in sizes:
                sizes[image_id] = None
                with suppress(SegError):  # an image that is none is named and counted when it is decoded
                    sizes[image_id] = image_size(paths[image_id])
            inside = clip_inside(box, sizes[image_id])
            check_inside(inside, sizes[image_id], where)
            # A folder's images are all of one class, whatever their boxes are called.
            kind = _class_of_box(class_name, labels[image_id], classes, where) if parts.labels else ""
            boxes.setdefault(image_id, []).append((inside, kind))
    if strangers and not boxes and not found.problems:
        found.problems.append(
            f"{parts.boxes}: none of its boxes is of an image below {parts.root}; {strangers[0]!r}, say, is none"
        )
    found.quirk("boxes of images that are not there (not used)", dict.fromkeys(strangers))
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
