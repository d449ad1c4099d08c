"""``data=voc``: photos with class masks in Pascal VOC's layout, read in place."""

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from seg.data.dataset import UNKNOWN, Colours, Dataset, Split
from seg.data.decode import codes_in, mask_values
from seg.data.download import Downloadable
from seg.data.draw import draw_by_labels
from seg.data.layout import IMAGE_SUFFIXES, files_by_stem, nfc, read_text
from seg.data.read_report import ReadReport
from seg.data.records import Layout, listed_splits, make_dataset, place_boxes, read_xmls
from seg.data.sources import require_few
from seg.errors import SegError
from seg.methods.codes import voc_palette
from seg.store import Products, param

LabelsFrom = Literal["auto", "xml", "masks"]
MASKS, AUG_MASKS = "SegmentationClass", "SegmentationClassAug"
#: Pascal VOC's own classes, in the order of its masks' codes.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
#: Folders of lists; the first has precedence.
_LISTS = ("ImageSets/Segmentation", "ImageSets/Main")
_LABELMAP = re.compile(r"([^:]+):(\d+),(\d+),(\d+):[^:]*:[^:]*")


class Voc(Downloadable):
    """Pascal VOC, or anything in its layout, as for torchvision's ``VOCSegmentation``.

    An image's labels are the classes of all objects in its XML, difficult ones included. Masks are read by index: 0
    background, 1 and on the classes, 255 unknown; RGB masks by the colours of ``labelmap.txt`` or VOC's palette.

    Attributes:
        root: the folder that holds ``VOCdevkit/VOC2012/`` (or is ``VOCdevkit`` or ``VOC2012``).
        train_list: name of a list in ``ImageSets/Segmentation`` or ``Main``. For SBD's ``trainaug`` the masks are in
            ``SegmentationClassAug``, or else in ``masks``.
        test_list: the list of test images; null: none.
        test_share, split_seed: with a single list (CVAT's ``default.txt``), the share drawn for test.
        masks: name of the folder of masks.
        labels_from: ``xml`` in ``Annotations``, or ``masks``; ``auto``: for each image the XML, else the mask.
        classes: a file of names in the order of the masks' codes, see :func:`read_classes`.
        title: the data set's name in a run's log.
    """

    what: ClassVar[str] = "VOC's layout, read in place"
    boxes_of: ClassVar[str] = "boxes"
    boxes_hint: ClassVar[str] = "give XML files in Annotations"
    licence: ClassVar[str] = (
        "PASCAL VOC's photos are Flickr's and subject to its terms of use; of other images in its layout, that of the "
        "images"
    )

    data_name: ClassVar[str] = "Pascal VOC 2012"
    archives: ClassVar[str] = "VOCtrainval archive (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/)"

    train_list: str = param(default="train", key=False)
    test_list: str | None = param(default="val", key=False)
    test_share: float = param(default=0.2, low=0, below=1)
    split_seed: int = param(default=0, low=0)
    masks: str = param(default=MASKS, key=False)
    labels_from: LabelsFrom = param(default="auto")
    classes: str | None = param(default=None, key=False)
    title: str = param(default="voc", key=False)

    @property
    def folder(self) -> Path:
        """The folder that holds ``JPEGImages``; where a download puts it, if there is none."""
        root = Path(self.root)
        unpacked = root / "VOCdevkit/VOC2012"
        places = (unpacked, root / "VOC2012", root)
        return next((place for place in places if (place / "JPEGImages").is_dir()), unpacked)

    def missing_parts(self) -> list[str]:
        """The required parts that the folder lacks."""
        images = [] if (self.folder / "JPEGImages").is_dir() else ["JPEGImages"]
        return images + ([] if _lists_in(self.folder) else [f"a list in {_LISTS[0]}"])

    def fetch(self, folder: Path) -> None:
        """Download and unpack with torchvision."""
        from torchvision.datasets import VOCSegmentation

        VOCSegmentation(self.root, year="2012", image_set="train", download=True)

    @cached_property
    def layout(self) -> Layout:
        """The files, found by the lists; no image is opened. An image that both lists name is in the test split only.

        Test images keep VOC's own masks with ``trainaug``, too: their border is unknown, as in the benchmark.

        Raises:
            MissingDataError: a part is missing, or no listed image exists.
            SegError: a given list, folder or file is missing, or no mask belongs to a listed image.
        """
        self.require()
        folder, masks, report = self.folder, self.masks, ReadReport()
        if masks != MASKS and not (folder / masks).is_dir():
            raise SegError(f"data.masks={masks}: no such folder in {folder}; give one of masks with the classes' codes")
        lists, is_drawn = _lists(folder, self.train_list, self.test_list)
        images = files_by_stem(folder / "JPEGImages", IMAGE_SUFFIXES, report)
        listed = {
            split: [_image_id(line.strip(), images) for line in read_text(path).splitlines() if line.strip()]
            for split, path in lists.items()
        }
        splits = listed_splits(listed, images, folder / "JPEGImages", report)
        own = files_by_stem(folder / masks, (".png",), report)
        is_aug = masks == MASKS and lists["trainval"].stem.replace("_", "") == "trainaug"
        aug = files_by_stem(folder / AUG_MASKS, (".png",), report) if is_aug else {}
        both = {"trainval": own | aug, "test": aug | own}
        used = {i: both[split][i] for i, split in splits.items() if i in both[split]}
        if own and not used:
            raise SegError(f"{folder / masks}: no mask has the name of a listed image, for example {next(iter(own))!r}")
        xmls = files_by_stem(folder / "Annotations", (".xml",), report)
        file = _classes_file(folder, masks, self.classes)
        names, colours = read_classes(file) if file else (VOC_CLASSES, _colours(len(VOC_CLASSES)))
        return Layout(
            folder / "JPEGImages",
            names,
            {i: images[i] for i in splits},
            splits={} if is_drawn else splits,
            labels={},
            masks=used,
            codes="classes",
            colours=colours,
            boxes={i: xmls[i] for i in splits if i in xmls},
            texts={str(split): path for split, path in lists.items()} | ({"classes": file} if file else {}),
            report=report,
        )

    def params(self) -> dict[str, Any]:
        """The content, ``labels_from``, and the draw if there is one."""
        drawn = {} if self.layout.splits else {"test_share": self.test_share, "split_seed": self.split_seed}
        return super().params() | {"labels_from": self.labels_from} | drawn

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the XML, and the masks if labels come from them."""
        return read_voc(self, store.runtime.worker_count)


def _lists_in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for place in reversed(_LISTS) for path in sorted((folder / place).glob("*.txt"))}


def _lists(folder: Path, train_list: str, test_list: str | None) -> tuple[dict[Split, Path], bool]:
    """The list of each split, and whether test images have to be drawn."""
    there = _lists_in(folder)
    wanted: dict[Split, str] = {"trainval": train_list} | ({"test": test_list} if test_list else {})  # type: ignore[assignment]
    missing = [split for split, name in wanted.items() if name not in there]
    # Names with a _ are lists of one class: cat_train.
    of_all = [name for name in there if "_" not in name] or [*there]
    if missing and test_list and len(of_all) == 1:
        return {"trainval": there[of_all[0]]}, True
    if missing:
        key, name = "train_list" if missing[0] == "trainval" else "test_list", wanted[missing[0]]
        names = ", ".join(sorted(of_all))
        raise SegError(f"data.{key}={name}: no file {folder / _LISTS[0] / name}.txt; there are {names}")
    return {split: there[name] for split, name in wanted.items()}, False


def _image_id(line: str, images: dict[str, Path]) -> str:
    """The image of a line: an id, file or path, perhaps followed by ``-1``, ``0``, ``1`` or a mask."""
    name = ""
    for text in (line, line.split()[0]):
        name = nfc(PurePosixPath(text.replace("\\", "/")).name)
        stem = os.path.splitext(name)[0]
        if name in images or stem in images:
            return name if name in images else stem
    return name


def _classes_file(folder: Path, masks: str, classes: str | None) -> Path | None:
    """The given file; else one beside the layout's folders, or beside ``VOCdevkit``."""
    if classes is not None:
        if not Path(classes).is_file():
            raise SegError(f"data.classes={classes}: no such file; give one with a name per line, as the masks' codes")
        return Path(classes)
    places = [folder.absolute()]
    while places[-1].name.startswith(("VOCdevkit", "VOC2")):
        places.append(places[-1].parent)
    names = ["classes_all.txt"] if masks == "SegmentationClassAll" else ["labelmap.txt", "classes.txt"]
    return next((place / name for name in names for place in places if (place / name).is_file()), None)


def read_classes(path: Path) -> tuple[tuple[str, ...], Colours]:
    """Names of the classes in the order of their codes from 1 on, and the code of each colour.

    The file has a name per line, perhaps with ``background`` first; the colours are VOC's palette. Or it is CVAT's
    ``labelmap.txt``: ``name:r,g,b:parts:actions``. Lines with ``#`` are comments.

    Raises:
        SegError: no class, one twice, ``background`` not first, or too many.
    """
    names = [nfc(line.strip()) for line in read_text(path).splitlines() if line.strip()[:1] not in ("", "#")]
    shown: dict[str, tuple[int, ...]] = {}
    for line in names if path.name == "labelmap.txt" else ():
        if (match := _LABELMAP.fullmatch(line)) is None:
            raise SegError(f"{path}: {line[:60]!r} is not name:r,g,b:parts:actions")
        shown[match[1]] = tuple(map(int, match.groups()[1:]))
    names = [*shown] or names
    if names and names[0].strip("_").lower() == "background":
        del names[0]
    if not names or len({*names, "background"}) != len(names) + 1:
        raise SegError(
            f"{path}: must hold the name of each class once, a line each, in the order of the masks' codes from 1 on; "
            "background, which is code 0, comes first or not at all"
        )
    require_few(len(names), str(path), "merge some")
    return tuple(names), _colours(len(names), [shown[name] for name in names] if shown else None)


def _colours(count: int, own: Iterable[tuple[int, ...]] | None = None) -> Colours:
    """Code by colour: black is 0, VOC's border 255; the classes have ``own`` colours or VOC's."""
    palette: list[tuple[int, ...]] = [tuple(colour) for colour in voc_palette().tolist()]
    colours = {palette[0]: 0, (224, 224, 192): UNKNOWN}
    return colours | {colour: code for code, colour in enumerate(own or palette[1 : 1 + count], 1)}  # type: ignore[return-value]


def read_voc(source: Voc, workers: int = 1) -> Dataset:
    """Read the XML, and the masks if labels come from them. Images without XML and mask are not used.

    Raises:
        SegError: XML that cannot be read, class names or codes that disagree with the list of classes, a class that
            only test images have.
    """
    layout, labels_from = source.layout.copy(), source.labels_from
    report, label_of = layout.report, {name: label for label, name in enumerate(layout.classes)}
    listed = read_xmls(layout)
    named = {i: {one.class_name for one in own} for i, own in listed.items()}
    boxes = place_boxes(listed, layout.images, report)
    every = set[str]().union(*named.values())
    unlisted, unused = sorted(every - {*label_of}), [name for name in label_of if name not in every]
    if unlisted and unused:  # a misspelt name, or other classes
        what = f"the XML has {', '.join(unlisted[:5])}, which are no classes, and no object of {', '.join(unused[:5])}"
        report.problems.append(f"{layout.folder}: {what}; the classes are {_whose(layout)}")
    labels = {i: {label_of[name] for name in own if name in label_of} for i, own in named.items()}
    labels = {} if labels_from == "masks" else labels
    wanted = {i: path for i, path in layout.masks.items() if i not in labels} if labels_from != "xml" else {}
    report.warn("images without XML (labels from their mask)", wanted if labels else ())
    labels |= _labels_of_masks(layout, wanted, workers)
    report.raise_problems(layout.folder)
    nothing = (i for i in layout.images if i not in labels)
    report.warn("images without XML or a usable mask (not used)", nothing)
    sets = {i: tuple(sorted(labels[i])) for i in layout.images if i in labels}
    splits = layout.splits
    if not splits:
        drawn = draw_by_labels(sets, source.test_share, source.split_seed)
        splits = {i: "test" if i in drawn else "trainval" for i in sets}
    masks = {i: path for i, path in layout.masks.items() if i not in wanted or i in labels}
    return make_dataset(replace(layout, labels=sets, splits=splits, masks=masks), boxes)


def _whose(layout: Layout) -> str:
    return str(layout.texts.get("classes", "VOC's 20 (give data.classes=FILE with others)"))


def _labels_of_masks(layout: Layout, files: dict[str, Path], workers: int) -> dict[str, set[int]]:
    """The classes in each mask that can be read and is not unknown everywhere."""
    count, report = len(layout.classes), layout.report
    labels: dict[str, set[int]] = {}
    wrong = []
    with ThreadPoolExecutor(workers) as pool:
        for i, codes in zip(files, pool.map(partial(_codes, colours=layout.colours), files.values()), strict=True):
            if isinstance(codes, SegError):
                wrong.append(str(codes))
            elif codes != [UNKNOWN]:
                labels[i] = {code - 1 for code in codes if 1 <= code <= count}
                wrong += [f"{files[i]}: {code}" for code in codes if count < code < UNKNOWN][:1]
    report.warn(
        "masks that cannot be read or are unknown everywhere (image not used)", (i for i in files if i not in labels)
    )
    if 2 * len(wrong) > len(files) or (labels and not any(labels.values())):
        what = f"{len(wrong)} of {len(files)} masks cannot be read or have codes of no class"
        what = f"{what}: {wrong[0]}" if wrong else f"none of {len(files)} masks shows a class"
        report.problems.append(
            f"{what}; there are {count} classes, {_whose(layout)}. Write codes from 1 on; masks of 0 and 255 are for "
            "data=image_folder data.mask_codes=binary"
        )
    return labels


def _codes(path: Path, colours: Colours | None) -> list[int] | SegError:
    try:
        return codes_in(mask_values(path, colours=colours))
    except SegError as error:
        return error
