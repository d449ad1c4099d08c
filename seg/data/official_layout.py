"""The official Oxford-IIIT Pet folder layout, with the peculiarities that such folders have in the wild."""

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal, NamedTuple, cast

from seg.data.boxes import read_box_file
from seg.data.dataset import Box, Dataset, Record, Split
from seg.data.findings import Findings
from seg.data.layout import (
    IMAGE_SUFFIXES,
    LISTS,
    TOO_LONG,
    MissingDataError,
    files_by_stem,
    nfc,
    read_text,
    require_layout,
    too_long,
)

#: What an image's label is: its breed, or the animal.
Labels = Literal["breed", "species"]
_SPECIES = {1: "cat", 2: "dog"}


class _Line(NamedTuple):
    """A line of a list: image id, official class id (from 1), species id (None: not said), and where it stands."""

    id: str
    class_id: int
    species: int | None
    file: Path
    number: int

    @property
    def where(self) -> str:
        return f"{self.file} line {self.number}"


def read_official_layout(root: Path, *, is_toy: bool = False, labels: Labels = "breed") -> Dataset:
    """Read lists, boxes and file names of ``root/oxford-iiit-pet`` (or of ``root`` itself); open no image.

    The classes are those of ``trainval.txt`` and ``test.txt``, ordered by their official ids, which may
    have gaps; the label is the place in that order. Names are the image names without their number
    (``american_bulldog_12`` is an ``american_bulldog``). ``list.txt`` is a check only and may be missing.
    An image that both lists name is kept in test and dropped from trainval. With ``labels="species"`` the classes are
    cat and dog, which the lists' third column tells apart.

    Returns:
        The data set; ``quirks`` counts what is unusual, ``examples`` names up to three of each.

    Raises:
        MissingDataError: ``images/`` or one of the two lists is not there, or no listed image is.
        SegError: a malformed line, a class id out of range, a class without trainval images, and what
            :func:`seg.data.boxes.read_box_file` refuses. All problems of a kind are reported together.
    """
    folder = require_layout(root)
    found = Findings()
    annotations = folder / "annotations"
    lines = {name: _read_list(annotations / f"{name}.txt", found) for name in LISTS}
    reference = _read_list(annotations / "list.txt", found) if (annotations / "list.txt").is_file() else []
    listed = _without_leakage(lines, found)
    names = _class_names([line for name in LISTS for line in lines[name]], reference, found)
    if labels == "species":
        names = _species([line for line, _ in listed.values()], found)
    found.stop_if_any(folder)  # what follows would only repeat the problems of the lists
    _compare(listed, reference, found)

    images = files_by_stem(folder / "images", IMAGE_SUFFIXES, found)
    trimaps = files_by_stem(annotations / "trimaps", (".png",), found)
    box_files = files_by_stem(annotations / "xmls", (".xml",), found)
    found.quirk("listed images that are missing", (i for i in listed if i not in images))
    found.quirk("images that no list names (not used)", (i for i in images if i not in listed))
    found.quirk("trimaps of images that no list names", (i for i in trimaps if i not in listed))
    found.quirk("box files of images that no list names (not read)", (i for i in box_files if i not in listed))
    present = {i: entry for i, entry in listed.items() if i in images}
    if not present:
        raise MissingDataError(f"none of the {len(listed)} listed images is in {folder / 'images'}")
    found.quirk("images without a trimap", (i for i in present if i not in trimaps))
    trained = {names[line.class_id] for line, split in present.values() if split == "trainval"}
    found.problems += [
        f"empty class: {name!r} (id {i}) has no trainval image; add some, or take its lines out of the lists"
        for i, name in names.items()
        if name not in trained
    ]
    boxes = _boxes({i: box_files[i] for i in present if i in box_files}, found)
    unboxed = (i for i, (_, split) in present.items() if split == "trainval" and not boxes.get(i))
    found.quirk("trainval images without boxes", unboxed)
    found.stop_if_any(folder)

    classes = tuple(dict.fromkeys(names.values()) if labels == "breed" else sorted(set(names.values())))
    records = tuple(
        Record(i, images[i], (classes.index(names[line.class_id]),), split, trimaps.get(i), boxes.get(i, ()))
        for i, (line, split) in present.items()
    )
    return Dataset(classes, records, found.quirks, is_toy, found.examples)


def _read_list(path: Path, found: Findings) -> list[_Line]:
    """Lines ``stem class-id species breed-id`` (the last two are optional); comments and blanks skipped."""
    lines, blank, comments = [], [], []
    for number, text in enumerate(read_text(path, errors="replace").splitlines(), 1):
        parts = nfc(text).split()
        numbers = "".join(parts[1:])
        if not parts:
            blank.append(f"{path.name} line {number}")
        elif parts[0].startswith("#"):
            comments.append(f"{path.name} line {number}")
        elif len(parts) not in (2, 4) or not (numbers.isascii() and numbers.isdigit()) or len(parts[1]) > 9:
            shown = text if len(text) <= 60 else text[:57] + "..."
            found.problems.append(f"{path} line {number}: {shown!r} is not 'name class-id species breed-id'")
        elif parts[0].rfind("_") < 1:
            found.problems.append(f"{path} line {number}: {parts[0][:60]!r} is not 'class_number'")
        elif too_long(parts[0]):
            found.problems.append(f"{path} line {number}: {parts[0][:60]!r}... is {TOO_LONG}")
        else:
            species = int(parts[2]) if len(parts) == 4 and len(parts[2]) < 10 else None
            lines.append(_Line(parts[0], int(parts[1]), species, path, number))
    found.quirk("blank lines in the lists", blank)
    found.quirk("comment lines in the lists", comments)
    return lines


def _without_leakage(lines: dict[str, list[_Line]], found: Findings) -> dict[str, tuple[_Line, Split]]:
    """Every listed image once, trainval first; those of test never in trainval."""
    test = {line.id for line in lines["test"]}
    listed: dict[str, tuple[_Line, Split]] = {}
    twice, both = [], []
    for split in LISTS:
        seen: set[str] = set()
        for line in lines[split]:
            if line.id in seen:
                twice.append(line.id)
            elif split == "trainval" and line.id in test:
                both.append(line.id)
            else:
                listed[line.id] = (line, cast(Split, split))
            seen.add(line.id)
    found.quirk("images listed twice in a split (kept once)", twice)
    found.quirk("images listed in both splits (kept in test only)", both)
    return listed


def _class_names(lines: list[_Line], reference: list[_Line], found: Findings) -> dict[int, str]:
    """Class name by official id, ascending. Lines that contradict the majority of theirs are problems."""
    known = {line.class_id for line in reference}
    ids: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for line in lines:
        ids[_class_of(line.id)][line.class_id] += 1
    usual = {name: counts.most_common(1)[0][0] for name, counts in ids.items()}
    allowed = f"the ids of list.txt are {min(known)} to {max(known)}" if known else "ids start at 1"
    for line in lines:
        expected = usual[_class_of(line.id)]
        if line.class_id < 1 or (known and line.class_id not in known):
            found.problems.append(f"{line.where}: class id {line.class_id} is out of range: {allowed}")
        elif line.class_id != expected:
            found.problems.append(f"{line.where}: {line.id!r} has id {line.class_id}, its class {expected}")
    names: dict[int, str] = {}
    for name, class_id in sorted(usual.items(), key=lambda item: item[1]):
        if class_id in names:
            found.problems.append(f"class id {class_id} goes by two names, {names[class_id]!r} and {name!r}")
        names.setdefault(class_id, name)
    return names


def _species(lines: list[_Line], found: Findings) -> dict[int, str]:
    """Cat or dog by official class id. Lines that do not say so, or not as others of their class do, are problems."""
    species: dict[int, str] = {}
    for line in lines:
        said = _SPECIES.get(line.species or 0)
        if said is None:
            found.problems.append(f"{line.where}: {line.id!r} has no 1 (cat) or 2 (dog) in its third column, a species")
        elif (first := species.setdefault(line.class_id, said)) != said:
            found.problems.append(f"{line.where}: {line.id!r} is a {said}, others of its class are {first}s")
    return species


def _class_of(image_id: str) -> str:
    return image_id.rpartition("_")[0]


def _compare(listed: dict[str, tuple[_Line, Split]], reference: list[_Line], found: Findings) -> None:
    """Hold the splits against list.txt, which names the images of both."""
    ids = {line.id: line.class_id for line in reference}
    if not ids:
        return
    found.quirk("images of list.txt that neither split names", (i for i in ids if i not in listed))
    found.quirk("images of the splits that list.txt lacks", (i for i in listed if i not in ids))
    other = (i for i, (line, _) in listed.items() if ids.get(i, line.class_id) != line.class_id)
    found.quirk("images with another class id in list.txt (not followed)", other)


def _boxes(files: dict[str, Path], found: Findings) -> dict[str, tuple[Box, ...]]:
    """Boxes by image id. The name of the XML file counts, not the ``<filename>`` inside of it."""
    boxes: dict[str, tuple[Box, ...]] = {}
    several, none, misnamed, unsized = [], [], [], []
    for image_id, path in files.items():
        with found.gathering(str(path)):
            content = read_box_file(path)
            boxes[image_id] = content.boxes
            if len(content.boxes) > 1:
                several.append(image_id)
            if not content.boxes:
                none.append(image_id)
            if content.filename is not None and os.path.splitext(content.filename)[0] != image_id:
                misnamed.append(image_id)
            if content.size is None:
                unsized.append(image_id)
    found.quirk("box files with several objects", several)
    found.quirk("box files without an object", none)
    found.quirk("box files whose <filename> is another image's (the file's own name counts)", misnamed)
    found.quirk("box files without an image size (upper limits not checked)", unsized)
    return boxes
