"""Data in Pascal VOC's layout: where its parts lie, the names and colours of its classes, and its records."""

import copy
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from seg.data.dataset import UNKNOWN, Box, Colours, Dataset, Split
from seg.data.decode import codes_in, mask_values
from seg.data.draw import draw_by_labels
from seg.data.layout import IMAGE_SUFFIXES, files_by_stem, nfc, read_text
from seg.data.read_report import ReadReport
from seg.data.records import make_dataset, place_boxes, present_splits, read_xmls
from seg.data.sources import require_few
from seg.errors import SegError

LabelsFrom = Literal["auto", "xml", "masks"]
MASKS, AUG_MASKS = "SegmentationClass", "SegmentationClassAug"
#: Pascal VOC's own classes, in the order of its masks' codes.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
#: Folders of lists; of one name in both the first counts.
LISTS = ("ImageSets/Segmentation", "ImageSets/Main")
_VOID = (224, 224, 192)  # VOC's colour of the border, code 255
_LABELMAP = re.compile(r"([^:]+):(\d+),(\d+),(\d+):[^:]*:[^:]*")


@dataclass(frozen=True)
class VocParts:
    """The files of a data set in VOC's layout.

    Attributes:
        folder: holds ``JPEGImages`` and the other folders.
        is_drawn: whether test images have to be drawn from the only list.
        splits, images, masks, xmls: by id of the listed images that are there, trainval first.
        texts: the lists by their split, and the file of the classes, if one names them, as ``classes``.
        names: the classes, from code 1 on. colours: what the colours of RGB masks stand for.
        found: what was unusual.
    """

    folder: Path
    is_drawn: bool
    splits: dict[str, Split]
    images: dict[str, Path]
    masks: dict[str, Path]
    xmls: dict[str, Path]
    texts: dict[str, Path]
    names: tuple[str, ...]
    colours: Colours
    found: ReadReport

    def content(self) -> Iterable[tuple[str, Path]]:
        """Name and path of every file that can change what is read."""
        parts = {"images": self.images, "masks": self.masks, "xml": self.xmls, "texts": self.texts}
        return ((f"{part}/{name}", path) for part, files in parts.items() for name, path in files.items())


def voc_palette(count: int = 256) -> Colours:
    """Code by colour in VOC's palette: the bits of the code, dealt to red, green and blue; and the border's."""

    def channel(code: int, first: int) -> int:
        return sum((code >> (3 * bit + first) & 1) << (7 - bit) for bit in range(3))

    return {(channel(i, 0), channel(i, 1), channel(i, 2)): i for i in range(count)} | {_VOID: UNKNOWN}


def read_classes(path: Path) -> tuple[tuple[str, ...], Colours]:
    """Names of the classes in the order of their codes from 1 on, and the code of each colour.

    A name per line, perhaps ``background`` before, and VOC's palette; or CVAT's ``labelmap.txt``,
    ``name:r,g,b:parts:actions``. ``#`` begins comments.

    Raises:
        SegError: no class, one twice, ``background`` not first, or too many.
    """
    names = [nfc(line.strip()) for line in read_text(path).splitlines() if line.strip()[:1] not in ("", "#")]
    entries = [_LABELMAP.fullmatch(line) for line in names if path.name == "labelmap.txt"]
    if None in entries:
        raise SegError(f"{path}: {names[entries.index(None)][:60]!r} is not name:r,g,b:parts:actions")
    shown = {match[1]: match.groups()[1:] for match in entries if match}
    names = [*shown] or names
    if names and names[0].strip("_").lower() == "background":
        del names[0]
    if not names or len({*names, "background"}) != len(names) + 1:
        raise SegError(
            f"{path}: must hold the name of each class once, a line each, in the order of the masks' codes from 1 on; "
            "background, which is code 0, comes first or not at all"
        )
    require_few(len(names), str(path), "merge some")
    colours = {tuple(map(int, shown[name])): code for code, name in enumerate(names, 1) if name in shown}
    return tuple(names), {(0, 0, 0): 0, _VOID: UNKNOWN} | colours if shown else voc_palette(len(names) + 1)  # type: ignore[return-value]


def voc_folder(root: Path, year: int) -> Path:
    """The folder that holds ``JPEGImages``; where a download has it, if there is none."""
    unpacked = root / ("TrainVal" if year == 2011 else "") / "VOCdevkit" / f"VOC{year}"
    places = (unpacked, root / f"VOC{year}", root)
    return next((place for place in places if (place / "JPEGImages").is_dir()), unpacked)


def missing_parts(folder: Path) -> list[str]:
    """What a folder lacks without which nothing can be read."""
    images = [] if (folder / "JPEGImages").is_dir() else ["JPEGImages"]
    return images + ([] if _lists_in(folder) else [f"a list in {LISTS[0]}"])


def _lists_in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for place in reversed(LISTS) for path in sorted((folder / place).glob("*.txt"))}


def find_voc(
    root: Path,
    *,
    year: int = 2012,
    train_list: str = "train",
    test_list: str | None = "val",
    masks: str = MASKS,
    classes: str | None = None,
) -> VocParts:
    """Look at what lies below ``root``; opens the lists.

    Arguments are those of :class:`seg.data.voc.Voc`. An image that both lists name is kept in test and dropped from
    trainval. With the list ``trainaug`` the masks of trainval are those of ``SegmentationClassAug`` where that has
    them; test images keep their own, whose border is unknown, as the benchmark's rule has it.

    Raises:
        MissingDataError: not one of the listed images is there.
        SegError: a list, a folder or a file that was named is not there, or an image's name is too long.
    """
    folder, found = voc_folder(root, year), ReadReport()
    lists, is_drawn = _lists(folder, train_list, test_list)
    images = files_by_stem(folder / "JPEGImages", IMAGE_SUFFIXES, found)
    listed = {
        split: [_image_id(line.strip(), images) for line in read_text(path).splitlines() if line.strip()]
        for split, path in lists.items()
    }
    splits = present_splits(listed, images, folder / "JPEGImages", found)
    found.stop_if_any(folder, one_line=True)
    if masks != MASKS and not (folder / masks).is_dir():
        raise SegError(f"data.masks={masks}: no such folder in {folder}; give one of masks with the classes' codes")
    own = files_by_stem(folder / masks, (".png",), found)
    is_aug = masks == MASKS and lists["trainval"].stem.replace("_", "") == "trainaug"
    aug = files_by_stem(folder / AUG_MASKS, (".png",), found) if is_aug else {}
    both = {"trainval": own | aug, "test": aug | own}
    if (own or aug) and not any(i in both[split] for i, split in splits.items()):
        raise SegError(
            f"{folder / masks}: no mask has the name of a listed image; {next(iter(own | aug))!r}, say, is none"
        )
    xmls = files_by_stem(folder / "Annotations", (".xml",), found)
    file = _classes_file(folder, masks, classes)
    names, colours = read_classes(file) if file else (VOC_CLASSES, voc_palette(len(VOC_CLASSES) + 1))
    return VocParts(
        folder=folder,
        is_drawn=is_drawn,
        splits=splits,
        images={i: images[i] for i in splits},
        masks={i: both[split][i] for i, split in splits.items() if i in both[split]},
        xmls={i: xmls[i] for i in splits if i in xmls},
        texts={str(split): path for split, path in lists.items()} | ({"classes": file} if file else {}),
        names=names,
        colours=colours,
        found=found,
    )


def _lists(folder: Path, train_list: str, test_list: str | None) -> tuple[dict[Split, Path], bool]:
    """The file of each split, and whether test images have to be drawn."""
    there = _lists_in(folder)
    wanted: dict[Split, str] = {"trainval": train_list} | ({"test": test_list} if test_list else {})  # type: ignore[assignment]
    # Those with a _ are of a class: cat_train.
    of_all = [name for name in there if "_" not in name] or [*there]
    missing = [name for name in wanted.values() if name not in there]
    if missing and test_list and len(of_all) == 1:
        return {"trainval": there[of_all[0]]}, True
    if missing:
        key = "train_list" if missing[0] == train_list else "test_list"
        names = ", ".join(sorted(of_all))
        raise SegError(f"data.{key}={missing[0]}: no file {folder / LISTS[0] / missing[0]}.txt; there are {names}")
    return {split: there[name] for split, name in wanted.items()}, False


def _image_id(line: str, images: dict[str, Path]) -> str:
    """The image that a line names: an id, a file or its path, perhaps with ``-1``, ``0``, ``1`` or a mask behind it."""
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
    while places[-1].name.startswith(("VOCdevkit", "TrainVal", "VOC2")):
        places.append(places[-1].parent)
    names = ["classes_all.txt"] if masks == "SegmentationClassAll" else ["labelmap.txt", "classes.txt"]
    return next((place / name for name in names for place in places if (place / name).is_file()), None)


def read_voc(
    parts: VocParts,
    labels_from: LabelsFrom = "auto",
    *,
    test_share: float = 0.2,
    split_seed: int = 0,
    workers: int = 1,
    is_toy: bool = False,
) -> Dataset:
    """Read XML, of photos with boxes the size, and as many masks as labels need.

    ``workers`` threads read masks; the other arguments are those of :class:`seg.data.voc.Voc`. ``warnings`` counts what
    is unusual. An image of which nothing says what it shows is left out.

    Raises:
        SegError: XML that :func:`seg.data.boxes.read_xml` refuses, class names or codes that disagree with the
            list of classes, a class of test images without a training image. All problems of a kind are reported
            together.
    """
    found = copy.deepcopy(parts.found)
    objects = _objects(parts, found)
    from_xml = {i: {label for _, label in own} for i, own in objects.items()} if labels_from != "masks" else {}
    wanted = {i: path for i, path in parts.masks.items() if i not in from_xml} if labels_from != "xml" else {}
    found.warn("images without XML (labels from their mask)", wanted if from_xml else ())
    from_masks = _labels_of_masks(parts, wanted, workers, found)
    found.stop_if_any(parts.folder, one_line=True)
    labels = from_xml | from_masks
    images = {i: path for i, path in parts.images.items() if i in labels}
    silent = (i for i in parts.images if i not in labels)
    found.warn("images without XML or a mask that says what they show (not used)", silent)
    boxes = {i: [(box, label) for box, label in own if label in labels.get(i, ())] for i, own in objects.items()}
    dropped = (i for i, own in objects.items() if i in images and len(own) > len(boxes[i]))
    found.warn("images with boxes of a class that their mask lacks (those boxes are not used)", dropped)
    splits = parts.splits
    if parts.is_drawn:
        drawn = draw_by_labels({i: tuple(sorted(labels[i])) for i in images}, test_share, split_seed)
        splits = {i: "test" if i in drawn else "trainval" for i in images}
    return make_dataset(
        parts.texts["trainval"],
        parts.names,
        images,
        labels,
        splits,
        {i: path for i, path in parts.masks.items() if i not in wanted or i in from_masks},
        boxes,
        found,
        codes="classes",
        colours=parts.colours,
        is_toy=is_toy,
    )


def _objects(parts: VocParts, found: ReadReport) -> dict[str, list[tuple[Box, int]]]:
    """Box and class of each object in the XML of each image, without objects of a class that is not in the list."""
    label = {name: place for place, name in enumerate(parts.names)}
    objects: dict[str, list[tuple[Box, int]]] = {}
    unlisted: defaultdict[str, list[str]] = defaultdict(list)
    for image_id, own in place_boxes(read_xmls(parts.xmls, found), parts.images, found).items():
        objects[image_id] = [(one.box, label[one.class_name]) for one in own if one.class_name in label]
        for one in own:
            if one.class_name not in label:
                unlisted[one.class_name].append(f"{image_id}: {one.class_name}")
    shown = {parts.names[label] for own in objects.values() for _, label in own}
    unused = [name for name in parts.names if name not in shown]
    if unlisted and unused:  # in both directions, as of a misspelt name
        what = f"names {', '.join([*unlisted][:5])}, which the classes have not, and never {', '.join(unused[:5])}"
        whose = parts.texts.get("classes", "VOC's 20 (give data.classes=FILE with others)")
        found.problems.append(f"{parts.folder / 'Annotations'}: {what}, which they have; they are {whose}")
    strange = (name for names in unlisted.values() for name in names)
    found.warn("objects in XML of a class that is not in the list (not used)", strange)
    return objects


def _labels_of_masks(parts: VocParts, files: dict[str, Path], workers: int, found: ReadReport) -> dict[str, set[int]]:
    """The classes in each mask that can be read and says something."""

    def codes(path: Path) -> list[int] | SegError:
        try:
            return codes_in(mask_values(path, colours=parts.colours))
        except SegError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        shown = dict(zip(files, pool.map(codes, files.values()), strict=True))
    bad = {i: error for i, error in shown.items() if isinstance(error, SegError)}
    good = {i: {*own} for i, own in shown.items() if not isinstance(own, SegError) and own != [UNKNOWN]}
    found.warn(
        "masks that cannot be read or are unknown all over (image not used)", (i for i in shown if i not in good)
    )
    count = len(parts.names)
    strange = [i for i, own in good.items() if any(count < code < UNKNOWN for code in own)]
    # A few are damaged masks, which are counted when they are decoded; most are masks of other classes.
    if 2 * len(strange) > len(good):
        whose = parts.texts.get("classes", "VOC's 20 (give data.classes=FILE with others)")
        what = f"{len(strange)} of {len(good)} masks have codes that are no class ({files[strange[0]]}, say)"
        found.problems.append(f"{what}; there are {count} classes, {whose}")
    if 2 * len(bad) > len(shown):
        found.problems.append(f"{len(bad)} of {len(shown)} masks cannot be read: {next(iter(bad.values()))}")
    if good and set.union(*good.values()) == {0, UNKNOWN}:
        what = f"{len(good)} masks hold 0 and 255 alone, and 255 is unknown"
        found.problems.append(f"{what}; write codes from 1 on, or take data=image_folder data.mask_codes=binary")
    return {i: {code - 1 for code in own if 1 <= code <= count} for i, own in good.items()}
