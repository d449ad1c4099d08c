"""``data=image_folder``: your own photos, with a folder per class or labels in a file."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from seg.data.dataset import UNKNOWN, Codes, Colours, Dataset
from seg.data.draw import draw_by_labels
from seg.data.folder_layout import Names, image_ids, images_below, mask_name, split_masks
from seg.data.layout import MissingDataError, nfc, read_text, scan
from seg.data.read_report import ReadReport
from seg.data.records import Layout, make_dataset, place_boxes
from seg.data.sources import InPlace, require_few
from seg.data.tables import box_files, read_boxes, read_labels
from seg.data.voc import read_classes
from seg.errors import SegError
from seg.store import Products, param

T = TypeVar("T")

#: Folders by these names hold a split, not a class.
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "trainval", "test", "testing"})
#: Folders by these names hold masks, not a class.
_MASK_FOLDERS = frozenset({"masks", "mask", "ground_truth", "groundtruth", "gt", "segmentations"})
_LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif")


class ImageFolder(InPlace):
    """A folder of images per class, as for torchvision's ``ImageFolder``; masks, boxes and a split are optional.

    An image's id is its file's stem, or ``class_stem`` if classes share a stem. With a file of labels an image may have
    several classes or none; then folder names are ignored, and images that the file does not name are not used.

    Attributes:
        root: holds the folders. A single class is enough for ``supervision=bbox`` and ``clip``.
        labels_from: a CSV, see :func:`seg.data.tables.read_labels`; null: ``root/labels.csv`` if it exists;
            false: the folders are the classes.
        masks: folder of PNG masks (or BMP, TIFF, GIF) by stem or ``class/stem``; null: ``root/masks``,
            ``root/ground_truth`` and the like; false: none.
        mask_suffix: ``_mask`` for masks named ``1_mask.png``, in their folder or beside their images; null:
            ``_mask``, ``_segmentation`` and other usual suffixes; "": none.
        mask_codes: see :func:`seg.data.decode.decode_trimap`. With CVAT's ``labelmap.txt`` beside the masks' folder,
            its colours are used.
        boxes_from: a CSV, a COCO JSON or a folder of VOC XML, see :func:`seg.data.tables.read_boxes`; null:
            ``boxes.csv``, ``boxes.json`` or ``boxes/`` in ``root``, if one exists.
        test_list: a file with a test image per line, by id, file name or ``class/file``; the rest is trainval.
        test_share: without a list, the share of each class that becomes test. split_seed: of that draw.
        title: the data set's name in a run's log.
    """

    what: ClassVar[str] = "own images, read in place"
    boxes_of: ClassVar[str] = "boxes"
    boxes_hint: ClassVar[str] = "give data.boxes_from=FILE, a CSV or a folder of VOC XML"

    root: str | None = param(default=None, key=False)
    labels_from: bool | str | None = param(default=None, key=False)
    masks: bool | str | None = param(default=None, key=False)
    mask_suffix: str | None = param(default=None)
    mask_codes: Codes = param(default="binary")
    boxes_from: str | None = param(default=None, key=False)
    test_list: str | None = param(default=None, key=False)
    test_share: float = param(default=0.2, low=0, below=1)
    split_seed: int = param(default=0, low=0)
    title: str = param(default="image_folder", key=False)

    @cached_property
    def layout(self) -> Layout:
        """The files below the root; no image is opened.

        Raises:
            MissingDataError: there is no such folder, or no image in a class folder.
            SegError: another path is missing, masks are lossy, the folders are not classes, or a listed name or a mask
                matches no image or several.
        """
        if self.root is None:
            raise SegError("data=image_folder: give data.root=DIR, a folder with a folder of photos for each class")
        root, masks, mask_codes = Path(self.root), self.masks, self.mask_codes
        if not root.is_dir():
            raise MissingDataError(f"data.root={root}: no such folder at {root.absolute()}; give a folder of photos")
        if (root / "annotations" / "trainval.txt").is_file():
            raise SegError(f"data.root={root}: has the official layout of Oxford-IIIT Pet; use data=oxford_pet for it")
        report = ReadReport()
        usual = [entry.name for entry in scan(root) if entry.name.lower() in _MASK_FOLDERS and entry.is_dir()]
        folder = _find_path("masks", masks, root, "folder of masks", *usual)
        boxes = _boxes_path(root, self.boxes_from)
        listed = _find_path("labels_from", self.labels_from, root, "CSV file,labels", "labels.csv")
        test_file = _find_path("test_list", self.test_list, root, "file with the name of an image per line")
        no_class = [root / name for name in usual] + [path for path in (folder, boxes) if path]
        names, mask_files = split_masks(images_below(root, no_class, report), folder, mask_name(self.mask_suffix))
        _refuse_lossy([] if masks is False else mask_files)
        if listed is None:
            names = _in_class_folders(root, names, report)
        ids = image_ids(names)
        if listed is None:
            labels: dict[str, tuple[str, ...]] = {i: (name.split("/")[0],) for name, i in ids.items()}
            classes = sorted({name for own in labels.values() for name in own})
        else:
            labels, classes = _labels(listed, ids, report)
        if listed or (mask_files and mask_codes == "classes"):
            require_few(len(classes), str(listed or root), "leave some out")
        sets = {i: tuple(sorted(map(classes.index, labels[i]))) for i in ids.values() if i in labels}
        test = _read_test_list(test_file, ids) if test_file else _draw_test(ids, sets, listed is None, self)
        used = {name: i for name, i in ids.items() if i in sets}
        labelmap = folder.parent / "labelmap.txt" if folder and mask_codes in ("binary", "classes") else None
        colours = None
        if labelmap and labelmap.is_file():
            mask_codes, colours = "classes", _colours(labelmap, classes)
        texts = {"test": test_file, "labels": listed, "colours": labelmap if colours else None}
        return Layout(
            root,
            tuple(classes),
            {i: names[name] for name, i in used.items()},
            splits={i: "test" if i in test else "trainval" for i in sets},
            labels=sets,
            masks={} if masks is False else _masks(used, mask_files, mask_name(self.mask_suffix), report),
            codes=mask_codes,
            boxes={path.relative_to(boxes or "").as_posix(): path for path in box_files(boxes)},
            texts={key: path for key, path in texts.items() if path},
            colours=colours,
            report=report,
        )

    def params(self) -> dict[str, Any]:
        """The content and the parameters of reading it."""
        keys = ("mask_codes", "mask_suffix", "test_share", "split_seed")
        return super().params() | {key: getattr(self, key) for key in keys}

    def load(self, out: Path, store: Products) -> Dataset:
        """Read the boxes, and the sizes of images that have boxes."""
        layout, path = self.layout.copy(), _boxes_path(Path(self.root or ""), self.boxes_from)
        if path is None:
            return make_dataset(layout, {})
        names = Names({nfc(path.relative_to(layout.folder).as_posix()): i for i, path in layout.images.items()})
        listed = _match(names, ((x.image, x.where, x) for x in read_boxes(path)), "boxes", path, layout.report)
        if "labels" not in layout.texts:  # the folder gives the class, not the boxes' file
            listed = {i: [box._replace(class_name="") for box in own] for i, own in listed.items()}
        return make_dataset(layout, place_boxes(listed, layout.images, layout.report))


def _find_path(key: str, value: str | bool | None, root: Path, what: str, *usual: str) -> Path | None:
    """The given path, or else the one usual name that exists, if any."""
    if value is False:
        return None
    existing = [root / name for name in usual if (root / name).exists()]
    if value is None and len(existing) > 1:
        raise SegError(f"{' and '.join(map(str, existing))}: say which to use with data.{key}=")
    path = Path(str(value)) if value is not None else next(iter(existing), None)
    if path is not None and not (path.is_dir() if key == "masks" else path.exists()):
        raise SegError(f"data.{key}={value}: no {what} at {path.absolute()}")
    return path


def _boxes_path(root: Path, boxes_from: str | None) -> Path | None:
    kinds = "CSV, COCO JSON or folder of VOC XML"
    return _find_path("boxes_from", boxes_from, root, kinds, "boxes.csv", "boxes.json", "boxes")


def _colours(labelmap: Path, classes: list[str]) -> Colours:
    """Mask codes by colour of CVAT's ``labelmap.txt``, whose classes may be in another order."""
    names, colours = read_classes(labelmap)
    if unknown := [name for name in names if name not in classes]:
        raise SegError(
            f"{labelmap}: {unknown[0]!r} is none of the classes {', '.join(classes[:8])}; rename one of them"
        )
    new = [0, *(1 + classes.index(name) for name in names)]
    return {colour: code if code == UNKNOWN else new[code] for colour, code in colours.items()}


def _refuse_lossy(masks: list[tuple[str, Path]]) -> None:
    if lossy := [path for _, path in masks if path.suffix.lower() not in _LOSSLESS]:
        raise SegError(
            f"{lossy[0]}: {len(lossy)} of {len(masks)} masks are in a format that changes pixels (JPEG, WebP, ...); "
            "make PNG of the originals, or leave them out: data.masks=false (if they are photos: data.mask_suffix='')"
        )


def _in_class_folders(root: Path, images: dict[str, Path], report: ReadReport) -> dict[str, Path]:
    """The images that are in a class folder.

    Raises:
        MissingDataError: there is none.
        SegError: the folders are splits, or hold masks.
    """
    loose = [name for name in images if "/" not in name]
    report.warn("images beside the folders of the classes (not used)", loose)
    images = {name: path for name, path in images.items() if "/" in name}
    if not images:
        what = f"its {len(loose)} images are not in class folders" if loose else "no image in a class folder"
        remedy = f"make a folder per class, as in {root.name}/cat/1.jpg, or list the classes in labels.csv"
        raise MissingDataError(f"data.root={root}: {what}; {remedy}")
    folders = {name.split("/")[0] for name in images}
    if {name.lower() for name in folders} <= _SPLITS:
        raise SegError(
            f"data.root={root}: its folders {', '.join(sorted(folders))} are splits, not classes; put the classes' "
            "folders side by side and name the test images in a file, data.test_list="
        )
    if inside := [name for name in images if not _MASK_FOLDERS.isdisjoint(name.lower().split("/")[1:-1])]:
        raise SegError(f"{root / inside[0]}: looks like a mask among the images; put masks into {root / 'masks'}")
    return images


def _match(
    names: Names, listed: Iterable[tuple[str, str, T]], what: str, source: object, report: ReadReport, remedy: str = ""
) -> dict[str, list[T]]:
    """Group (image name, where, item) by image id. Names without an image are a warning, but an error if all are."""
    matched: defaultdict[str, list[T]] = defaultdict(list)
    unmatched = []
    for name, where, item in listed:
        with report.collecting(where):
            if (image_id := names.find(name)) is None:
                unmatched.append(name)
            else:
                matched[image_id].append(item)
    if unmatched and not matched and not report.problems:
        message = f"none of its {len(unmatched)} {what} matches an image that is used, for example {unmatched[0]!r}"
        report.problems.append(f"{source}: {message}{remedy}")
    report.raise_problems(Path(str(source)))
    report.warn(f"{what} of missing images (not used)", dict.fromkeys(unmatched))
    return matched


def _labels(path: Path, ids: dict[str, str], report: ReadReport) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The class names of each listed image, by image id; and all class names, sorted."""
    listed = read_labels(path)
    remedy = " (data.labels_from=false: the folders are the classes)"
    matched = _match(Names(ids), listed, "labels", path, report, remedy)
    # Missing images count too, so that the codes of masks do not depend on which images exist.
    classes = sorted({name for _, _, names in listed for name in names})
    if not classes:
        raise SegError(f"{path}: names no class{remedy}")
    report.warn("images not named in the file of labels (not used)", (i for i in ids.values() if i not in matched))
    return {i: tuple(dict.fromkeys(name for names in own for name in names)) for i, own in matched.items()}, classes


def _read_test_list(path: Path, ids: dict[str, str]) -> set[str]:
    """Ids of the images in a list of test images."""
    names, lines = Names(ids), {line.strip() for line in read_text(path).splitlines()}
    test = {line: names.find(line) for line in lines if line and not line.startswith("#")}
    if unknown := sorted(line for line, image_id in test.items() if image_id is None):
        raise SegError(f"{path}: {unknown[0][:100]!r} is not an image of the data (unknown names: {len(unknown)})")
    if not test:
        raise SegError(f"{path}: names no image; for no test images use data.test_share=0 without a list")
    return {str(image_id) for image_id in test.values()}


def _draw_test(
    ids: dict[str, str], labels: dict[str, tuple[int, ...]], by_folder: bool, source: ImageFolder
) -> set[str]:
    """Ids of a random share of each class folder's images, or of all images."""
    groups: defaultdict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, i in ids.items():
        if i in labels:
            groups[name.split("/")[0] if by_folder else ""][name] = labels[i]
    return {ids[name] for own in groups.values() for name in draw_by_labels(own, source.test_share, source.split_seed)}


def _masks(
    ids: dict[str, str], files: list[tuple[str, Path]], suffix: re.Pattern[str], report: ReadReport
) -> dict[str, Path]:
    """Masks by image id; a mask has its image's name, with or without a suffix."""
    names = Names(ids)
    remedy = "; a mask has its image's name, or 1_mask.png with data.mask_suffix=_mask (data.masks=false: none)"
    listed = []
    for name, path in files:
        stem, extension = os.path.splitext(name)
        bare = suffix.sub("", stem) + extension
        listed.append((bare if bare != name and names.find(name) is None else name, str(path), path))
    matched = _match(names, listed, "masks", files[0][1].parent, report, remedy) if files else {}
    if duplicates := [own for own in matched.values() if len(own) > 1]:
        raise SegError(f"{duplicates[0][0]} and {duplicates[0][1]}: two masks of one image; delete one")
    return {image_id: own[0] for image_id, own in matched.items()}
