"""Where the parts of a data set in Pascal VOC's layout lie, its lists and the names of its classes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seg.data.dataset import MOST_CLASSES, Split
from seg.data.findings import Findings
from seg.data.layout import IMAGE_SUFFIXES, TOO_LONG, MissingDataError, read_text, scan, too_long
from seg.data.official_layout import stems
from seg.errors import SegError

MASKS, AUG_MASKS = "SegmentationClass", "SegmentationClassAug"
#: Pascal VOC's own classes, in the order of its masks' codes.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
LISTS = "ImageSets/Segmentation"


@dataclass(frozen=True)
class VocParts:
    """The files of a data set in VOC's layout; of all but the lists the names alone are known.

    Attributes:
        folder: holds ``JPEGImages`` and the other folders.
        lists: the file of each split.
        splits: by id of the listed images that are there, trainval first, the split.
        images, masks, xmls: the files of those, by id.
        classes: the file that names the classes; None: they are VOC's.
        found: what was unusual.
    """

    folder: Path
    lists: dict[Split, Path]
    splits: dict[str, Split]
    images: dict[str, Path]
    masks: dict[str, Path]
    xmls: dict[str, Path]
    classes: Path | None
    found: Findings

    def content(self) -> Iterator[tuple[str, Path]]:
        """Name and path of every file that can change what is read."""
        yield from ((f"images/{path.name}", path) for path in self.images.values())
        yield from ((f"masks/{path.name}", path) for path in self.masks.values())
        yield from ((f"xml/{path.name}", path) for path in self.xmls.values())
        yield from self.lists.items()
        if self.classes is not None:
            yield "classes", self.classes

    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the masks' codes from 1 on.

        Raises:
            SegError: the file has no name, one twice, "background" not at its beginning, or too many.
        """
        return VOC_CLASSES if self.classes is None else read_class_names(self.classes)


def read_class_names(path: Path) -> tuple[str, ...]:
    """A name per line; a first line ``background`` stands for code 0 and is no class. Blank lines do not count."""
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    is_background = [name.strip("_").lower() == "background" for name in names]
    names, is_background = names[is_background[:1] == [True] :], is_background[1:]
    if not names:
        raise SegError(f"{path}: names no class; write a name per line, in the order of the masks' codes from 1 on")
    if any(is_background):
        raise SegError(f"{path}: background is code 0; write it in the first line, or leave it out")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SegError(f"{path}: names {', '.join(map(repr, twice[:5]))} twice; each line is a class")
    if len(names) > MOST_CLASSES:
        raise SegError(f"{path}: {len(names)} classes, and masks have codes for {MOST_CLASSES}; merge some")
    return tuple(names)


def voc_folder(root: Path, year: int) -> Path:
    """The folder that holds ``JPEGImages`` and ``ImageSets``; where a download has it, if there is none."""
    usual = unpacked_folder(root, year)
    places = [root, usual, unpacked_in(root) / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}"]
    there = [p for p in places if (p / "JPEGImages").is_dir()]
    return next((p for p in there if (p / LISTS).is_dir()), there[0] if there else usual)


def unpacked_in(root: Path) -> Path:
    """Where the official archive is unpacked: above ``VOCdevkit``, should that be in the path."""
    above = [p.parent for p in (root, root.parent) if p.name == "VOCdevkit"]
    return above[0] if above else root


def unpacked_folder(root: Path, year: int) -> Path:
    """The folder that an archive has."""
    return unpacked_in(root) / ("TrainVal" if year == 2011 else "") / "VOCdevkit" / f"VOC{year}"


def missing_parts(folder: Path) -> list[str]:
    """What a folder lacks without which nothing can be read."""
    lacks_lists = not any((folder / LISTS).glob("*.txt"))
    return [*(["JPEGImages"] if not (folder / "JPEGImages").is_dir() else []), *([LISTS] if lacks_lists else [])]


def find_voc(
    root: Path,
    *,
    year: int = 2012,
    train_list: str = "train",
    test_list: str | None = "val",
    masks: str = MASKS,
    classes: str | None = None,
) -> VocParts:
    """Look at what lies below ``root``; opens the lists alone.

    An image that both lists name is kept in test and dropped from trainval. With the list ``trainaug`` the masks of
    trainval are those of ``SegmentationClassAug`` where that has them. Test images keep their own, whose border is
    unknown, as the benchmark's rule has it.

    Args:
        root: holds ``VOCdevkit/VOC<year>``, or is one of the two.
        year: of the folder's name.
        train_list, test_list: names of files in ``ImageSets/Segmentation``, without ``.txt``; None: no test images.
        masks: name of the folder of masks.
        classes: file with a name per line. None: ``classes.txt`` beside the layout or in it (``classes_all.txt`` for
            masks in ``SegmentationClassAll``), if it is there.

    Raises:
        MissingDataError: there is no such layout, or not one of the listed images.
        SegError: a list, a folder or a file that was named is not there, or an image's name is too long.
    """
    folder = voc_folder(root, year)
    if missing := missing_parts(folder):
        raise MissingDataError(f"no data in VOC's layout at {root}: {folder} lacks {' and '.join(missing)}")
    found = Findings()
    lists = _lists(folder, train_list, test_list)
    listed = _listed(lists, found)
    images = stems(folder / "JPEGImages", IMAGE_SUFFIXES, found)
    found.quirk("listed images that are missing", (i for i in listed if i not in images))
    splits = {i: split for i, split in listed.items() if i in images}
    if not splits:
        raise MissingDataError(f"none of the {len(listed)} listed images is in {folder / 'JPEGImages'}")
    for image_id in splits:
        if too_long(image_id):
            found.problems.append(f"{image_id[:60]!r}... is {TOO_LONG}")
    found.stop_if_any(folder, one_line=True)
    if masks != MASKS and not (folder / masks).is_dir():
        there = ", ".join(e.name for e in scan(folder) if e.name.startswith(MASKS)) or "none"
        raise SegError(f"data.masks={masks}: no such folder in {folder}; of masks there are {there}")
    own = stems(folder / masks, (".png",), found)
    is_aug = masks == MASKS and lists["trainval"].stem.replace("_", "") == "trainaug"
    aug = stems(folder / AUG_MASKS, (".png",), found) if is_aug else {}
    both = {"trainval": own | aug, "test": aug | own}
    strangers = [i for i in own | aug if i not in listed]
    found.quirk("masks without an image (not used)", (i for i in strangers if i not in images))
    found.quirk("masks of images that no list names (not used)", (i for i in strangers if i in images))
    xmls = stems(folder / "Annotations", (".xml",), found)
    return VocParts(
        folder=folder,
        lists=lists,
        splits=splits,
        images={i: images[i] for i in splits},
        masks={i: both[split][i] for i, split in splits.items() if i in both[split]},
        xmls={i: xmls[i] for i in splits if i in xmls},
        classes=_classes_file(folder, masks, classes),
        found=found,
    )


def _lists(folder: Path, train_list: str, test_list: str | None) -> dict[Split, Path]:
    lists: dict[Split, Path] = {"trainval": folder / LISTS / f"{train_list}.txt"}
    if test_list is not None:
        lists["test"] = folder / LISTS / f"{test_list}.txt"
    for split, path in lists.items():
        if not path.is_file():
            key = f"data.{'train' if split == 'trainval' else 'test'}_list={path.stem}"
            there = ", ".join(e.name.removesuffix(".txt") for e in scan(path.parent) if e.name.endswith(".txt"))
            aug = f" (it comes with SBD, not with VOC; its masks go into {AUG_MASKS})" if "aug" in path.stem else ""
            raise SegError(f"{key}: no file {path}{aug}; there are {there}")
    return lists


def _listed(lists: dict[Split, Path], found: Findings) -> dict[str, Split]:
    """Every listed image once, trainval first; those of test never in trainval."""
    ids: dict[Split, list[str]] = {}
    for split, path in lists.items():
        names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        # Some lists of trainaug have paths of image and mask in place of a name.
        names = [PurePosixPath(name.split()[0]).stem if "/" in name else name for name in names]
        ids[split] = list(dict.fromkeys(names))
        found.quirk("images listed twice in a split (kept once)", [i for i, n in Counter(names).items() if n > 1])
    tested = dict.fromkeys(ids.get("test", ()))
    found.quirk("images listed in both splits (kept in test only)", (i for i in ids["trainval"] if i in tested))
    splits: dict[str, Split] = {i: "trainval" for i in ids["trainval"] if i not in tested}
    splits.update((i, "test") for i in tested)
    return splits


def _classes_file(folder: Path, masks: str, classes: str | None) -> Path | None:
    if classes is not None:
        if not Path(classes).is_file():
            raise SegError(f"data.classes={classes}: no such file; give one with a name per line, as the masks' codes")
        return Path(classes)
    places = [folder.absolute()]
    while places[-1].name in ("VOCdevkit", "TrainVal") or places[-1].name.startswith("VOC2"):
        places.append(places[-1].parent)
    name = "classes_all.txt" if masks == "SegmentationClassAll" else "classes.txt"
    return next((place / name for place in places if (place / name).is_file()), None)
