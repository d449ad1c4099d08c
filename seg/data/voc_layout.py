"""Where the parts of a data set in Pascal VOC's layout lie, its lists and the names and colours of its classes."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from seg.data.dataset import MOST_CLASSES, UNKNOWN, Colours, Split
from seg.data.decode import codes_in, mask_colours, mask_values
from seg.data.layout import (
    IMAGE_SUFFIXES,
    TOO_LONG,
    MissingDataError,
    files_by_stem,
    nfc,
    read_text,
    scan,
    too_long,
)
from seg.data.read_report import ReadReport
from seg.errors import SegError

MASKS, AUG_MASKS = "SegmentationClass", "SegmentationClassAug"
#: Pascal VOC's own classes, in the order of its masks' codes.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
#: Folders of lists, the first that holds the training list counts.
LISTS = ("ImageSets/Segmentation", "ImageSets/Main")
_VOID = (224, 224, 192)  # VOC's colour of the border, code 255
_LABELMAP = re.compile(r"([^:]+):(?:(\d+),(\d+),(\d+))?:[^:]*:[^:]*")
_REMEDY = "put CVAT's labelmap.txt (name:r,g,b::) beside ImageSets, or write indexed PNG with the classes' codes"


@dataclass(frozen=True)
class VocParts:
    """The files of a data set in VOC's layout.

    Attributes:
        folder: holds ``JPEGImages`` and the other folders. lists: the file of each split.
        is_drawn: whether test images have to be drawn from the only list.
        splits, images, masks, xmls: by id of the listed images that are there, trainval first.
        classes: the file that names the classes; None: they are VOC's. names: the classes, from code 1 on.
        colours: what the colours of RGB masks stand for.
        found: what was unusual.
    """

    folder: Path
    lists: dict[Split, Path]
    is_drawn: bool
    splits: dict[str, Split]
    images: dict[str, Path]
    masks: dict[str, Path]
    xmls: dict[str, Path]
    classes: Path | None
    names: tuple[str, ...]
    colours: Colours
    found: ReadReport

    def content(self) -> Iterator[tuple[str, Path]]:
        """Name and path of every file that can change what is read."""
        for part, files in (("images", self.images), ("masks", self.masks), ("xml", self.xmls)):
            yield from ((f"{part}/{path.name}", path) for path in files.values())
        yield from self.lists.items()
        yield from [("classes", self.classes)] if self.classes else []


def voc_palette(count: int = 256) -> Colours:
    """Code by colour in VOC's palette: the bits of the code, dealt to red, green and blue; and the border's."""

    def channel(code: int, first: int) -> int:
        return sum((code >> (3 * bit + first) & 1) << (7 - bit) for bit in range(3))

    return {(channel(i, 0), channel(i, 1), channel(i, 2)): i for i in range(count)} | {_VOID: UNKNOWN}


def read_classes(path: Path) -> tuple[tuple[str, ...], Colours]:
    """Names of the classes in the order of their codes from 1 on, and the code of each colour, if the file says some.

    A name per line, perhaps ``background`` before; ``code name`` per line, as exports of masks have it; or CVAT's
    ``labelmap.txt``, ``name:r,g,b:parts:actions`` with ``#`` before comments.

    Raises:
        SegError: no class, one twice, ``background`` not first, or too many.
    """
    lines = [nfc(line.strip()) for line in read_text(path).splitlines() if line.strip()]
    colours: Colours = {}
    uncommented = [line for line in lines if not line.startswith("#")]
    entries = [match for line in uncommented if (match := _LABELMAP.fullmatch(line))]
    if path.name == "labelmap.txt" and len(entries) < len(uncommented):
        wrong = next(line for line in uncommented if not _LABELMAP.fullmatch(line))
        raise SegError(f"{path}: {wrong[:60]!r} is not name:r,g,b:parts:actions")
    if entries and len(entries) == len(uncommented):  # a background may come anywhere
        entries.sort(key=lambda entry: entry[1].lower() != "background")
        lines = [entry[1].strip() for entry in entries]
        first = int(lines[0].lower() != "background")
        palette = list(voc_palette())
        colours = {(0, 0, 0): 0, _VOID: UNKNOWN}
        for code, entry in enumerate(entries, first):
            colours[tuple(map(int, entry.groups()[1:])) if entry[2] else palette[code]] = code  # type: ignore[index]
    elif lines and all(line.split(None, 1)[0] == str(code) for code, line in enumerate(lines) if line[:4] != "255 "):
        lines = [line.split(None, 1)[-1] for line in lines if line[:4] != "255 "]
    is_background = [name.strip("_").lower() == "background" for name in lines]
    names = lines[is_background[:1] == [True] :]
    if not names:
        raise SegError(f"{path}: names no class; write a name per line, in the order of the masks' codes from 1 on")
    if any(is_background[1:]):
        raise SegError(f"{path}: background is code 0; write it in the first line, or leave it out")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SegError(f"{path}: names {', '.join(map(repr, twice[:5]))} twice; each line is a class")
    if len(names) > MOST_CLASSES:
        raise SegError(f"{path}: {len(names)} classes, and masks have codes for {MOST_CLASSES}; merge some")
    return tuple(names), colours


def voc_folder(root: Path, year: int) -> Path:
    """The folder that holds ``JPEGImages`` and ``ImageSets``; where a download has it, if there is none."""
    usual = unpacked_folder(root, year)
    places = [root, usual, unpacked_in(root) / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}"]
    there = [p for p in places if (p / "JPEGImages").is_dir()]
    return next((p for p in there if _lists_in(p)), there[0] if there else usual)


def unpacked_in(root: Path) -> Path:
    """Where the official archive is unpacked: above ``VOCdevkit``, should that be in the path."""
    return next((p.parent for p in (root, root.parent) if p.name == "VOCdevkit"), root)


def unpacked_folder(root: Path, year: int) -> Path:
    """The folder that an archive has."""
    return unpacked_in(root) / ("TrainVal" if year == 2011 else "") / "VOCdevkit" / f"VOC{year}"


def missing_parts(folder: Path) -> list[str]:
    """What a folder lacks without which nothing can be read."""
    return [*([] if (folder / "JPEGImages").is_dir() else ["JPEGImages"]), *([] if _lists_in(folder) else LISTS[:1])]


def _lists_in(folder: Path) -> dict[str, Path]:
    """Lists by name; of a name in both folders the first. The lists of single classes in Main count by name alone."""
    places = [folder / name for name in reversed(LISTS)]
    return {e.name[:-4]: Path(e.path) for p in places for e in scan(p) if e.name.lower().endswith(".txt")}


def find_voc(
    root: Path,
    *,
    year: int = 2012,
    train_list: str = "train",
    test_list: str | None = "val",
    masks: str = MASKS,
    classes: str | None = None,
) -> VocParts:
    """Look at what lies below ``root``; opens the lists, and masks up to the first that shows a class.

    Arguments are those of :class:`seg.data.voc.Voc`. An image that both lists name is kept in test and dropped from
    trainval. With the list ``trainaug`` the masks of trainval are those of ``SegmentationClassAug`` where that has
    them; test images keep their own, whose border is unknown, as the benchmark's rule has it.

    Raises:
        MissingDataError: there is no such layout, or not one of the listed images.
        SegError: a list, a folder or a file that was named is not there, an image's name is too long, or masks that
            show no class.
    """
    folder = voc_folder(root, year)
    found = ReadReport()
    lists, is_drawn = _lists(folder, train_list, test_list)
    images = files_by_stem(folder / "JPEGImages", IMAGE_SUFFIXES, found)
    listed = _listed(lists, images, found)
    found.warn("listed images that are missing", (i for i in listed if i not in images))
    splits = {i: split for i, split in listed.items() if i in images}
    if not splits:
        raise MissingDataError(
            f"none of the {len(listed)} listed images is in {folder / 'JPEGImages'}: "
            f"{next(iter(lists.values())).name} has {next(iter(listed), '')[:60]!r}, say; there are "
            + (", ".join(path.name for path in list(images.values())[:3]) or "none")
        )
    found.warn("images that no list names (not used)", (i for i in images if i not in listed))
    found.problems += [f"{i[:60]!r}... is {TOO_LONG}" for i in splits if too_long(i)]
    found.stop_if_any(folder, one_line=True)
    own = _masks(folder, masks, found)
    is_aug = masks == MASKS and lists["trainval"].stem.replace("_", "") == "trainaug"
    aug = files_by_stem(folder / AUG_MASKS, (".png",), found) if is_aug else {}
    both = {"trainval": own | aug, "test": aug | own}
    unmatched = [i for i in own | aug if i not in listed]
    if unmatched and len(unmatched) == len(own | aug):
        raise SegError(f"{folder / masks}: no mask has the name of a listed image; {unmatched[0]!r}, say, is none")
    found.warn("masks without an image (not used)", (i for i in unmatched if i not in images))
    found.warn("masks of images that no list names (not used)", (i for i in unmatched if i in images))
    xmls = files_by_stem(folder / "Annotations", (".xml",), found)
    found.warn("XML without an image (not used)", (i for i in xmls if i not in images))
    used = {i: both[split][i] for i, split in splits.items() if i in both[split]}
    file = _classes_file(folder, masks, classes)
    names, colours = read_classes(file) if file else (VOC_CLASSES, {})
    return VocParts(
        folder=folder,
        lists=lists,
        is_drawn=is_drawn,
        splits=splits,
        images={i: images[i] for i in splits},
        masks=used,
        xmls={i: xmls[i] for i in splits if i in xmls},
        classes=file,
        names=names,
        colours=_colours(list(used.values()), colours, len(names)),
        found=found,
    )


def _masks(folder: Path, masks: str, found: ReadReport) -> dict[str, Path]:
    there = ", ".join(e.name for e in scan(folder) if e.name.startswith(MASKS)) or "none"
    if masks != MASKS and not (folder / masks).is_dir():
        raise SegError(f"data.masks={masks}: no such folder in {folder}; of masks there are {there}")
    if masks == "SegmentationObject":
        raise SegError(f"data.masks={masks}: its codes number objects and name no class; of masks there are {there}")
    own = files_by_stem(folder / masks, (".png",), found)
    if not own and (other := [e.name for e in scan(folder / masks) if e.name.lower().endswith(IMAGE_SUFFIXES)]):
        raise SegError(
            f"{folder / masks}: holds no PNG but {other[0]}, say; masks must be PNG, which keeps their codes"
        )
    if not own and (folder / "SegmentationObject").is_dir():
        found.warn("masks of objects, which name no class (not used)", ["SegmentationObject"])
    return own


def _colours(masks: list[Path], colours: Colours, classes: int) -> Colours:
    """What colours stand for: as a labelmap says, else VOC's palette if RGB masks are in it; masks of 255 are refused.

    Looks at masks up to the first that shows a class.
    """
    codes: set[int] = set()
    for path in masks:
        shown: list[tuple[int, int, int]] = []
        with suppress(SegError):  # told when all masks are read
            shown = mask_colours(path)
            if shown and not colours and set(shown) <= set(voc_palette(classes + 1)):
                colours = voc_palette(classes + 1)
            codes.update(codes_in(mask_values(path, colours=colours)))
        if shown and not colours:
            raise SegError(f"{path}: a coloured mask, and nothing says what {shown[-1]} stands for; {_REMEDY}")
        if codes - {0, UNKNOWN}:
            return colours
    if UNKNOWN in codes:
        raise SegError(
            f"{masks[0].parent}: its {len(masks)} masks hold 0 and 255 alone, and 255 is unknown; write the classes' "
            "codes from 1 on, or take data=image_folder data.mask_codes=binary"
        )
    return colours


def _lists(folder: Path, train_list: str, test_list: str | None) -> tuple[dict[Split, Path], bool]:
    """The file of each split, and whether test images have to be drawn."""
    there = _lists_in(folder)
    by_name = {name.lower(): path for name, path in there.items()}
    wanted: dict[Split, str] = {"trainval": train_list}
    if test_list is not None:
        wanted["test"] = test_list
    # Those with a _ are of a class: cat_train.
    whole = [path for name, path in there.items() if "_" not in name] or [*there.values()]
    if len(whole) == 1 and test_list is not None and any(name.lower() not in by_name for name in wanted.values()):
        return {"trainval": whole[0]}, True
    for split, name in wanted.items():
        if name.lower() not in by_name:
            key = f"data.{'train' if split == 'trainval' else 'test'}_list={name}"
            aug = f" (it comes with SBD, not with VOC; its masks go into {AUG_MASKS})" if "aug" in name else ""
            names = ", ".join(sorted(path.stem for path in whole))
            raise SegError(f"{key}: no file {folder / LISTS[0] / name}.txt{aug}; there are {names}")
    return {split: there.get(name, by_name[name.lower()]) for split, name in wanted.items()}, False


def _listed(lists: dict[Split, Path], images: dict[str, Path], found: ReadReport) -> dict[str, Split]:
    """Every listed image once, trainval first; those of test never in trainval."""
    ids: dict[Split, list[str]] = {}
    for split, path in lists.items():
        names = [_image_id(line.strip(), images) for line in read_text(path).splitlines() if line.strip()]
        ids[split] = list(dict.fromkeys(names))
        found.warn("images listed twice in a split (kept once)", [i for i, n in Counter(names).items() if n > 1])
    tested = dict.fromkeys(ids.get("test", ()))
    found.warn("images listed in both splits (kept in test only)", (i for i in ids["trainval"] if i in tested))
    splits: dict[str, Split] = {i: "trainval" for i in ids["trainval"] if i not in tested}
    splits.update((i, "test") for i in tested)
    return splits


def _image_id(line: str, images: dict[str, Path]) -> str:
    """The image that a line names: an id, a file or its path, perhaps with ``-1``, ``0``, ``1`` or a mask behind it."""
    without_flag = re.sub(r"\s+(-1|0|1)$", "", line)
    for text in (line, without_flag, line.split()[0]):
        name = nfc(text.replace("\\", "/").rsplit("/", 1)[-1])
        stem, suffix = os.path.splitext(name)
        if name in images:
            return name
        if stem in images and suffix.lower() in (*IMAGE_SUFFIXES, ".xml"):
            return stem
    return name if suffix.lower() not in IMAGE_SUFFIXES else stem


def _classes_file(folder: Path, masks: str, classes: str | None) -> Path | None:
    if classes is not None:
        if not Path(classes).is_file():
            raise SegError(f"data.classes={classes}: no such file; give one with a name per line, as the masks' codes")
        return Path(classes)
    places = [folder.absolute()]
    while places[-1].name.startswith(("VOCdevkit", "TrainVal", "VOC2")):
        places.append(places[-1].parent)
    names = ["classes_all.txt"] if masks == "SegmentationClassAll" else ["labelmap.txt", "classes.txt"]
    return next((place / name for name in names for place in places if (place / name).is_file()), None)
