"""``data=oxford_pet``: Oxford-IIIT Pet, or anything in its layout, read in place; and its download."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, NamedTuple

from seg.data.boxes import fit_box, read_box_file, to_photo
from seg.data.dataset import Box, Dataset, Record, Split
from seg.data.download import CUT_OFF, MARKER, fetch
from seg.data.layout import (
    IMAGE_SUFFIXES,
    TOO_LONG,
    MissingDataError,
    content_fingerprint,
    files_by_stem,
    nfc,
    read_text,
    scan,
    too_long,
)
from seg.data.read_report import ReadReport
from seg.data.sources import InPlace
from seg.store import Products, param

FOLDER = "oxford-iiit-pet"
SPLITS: tuple[Split, ...] = ("trainval", "test")
#: What an image's label is: its breed, or the animal.
Labels = Literal["breed", "species"]
_SPECIES = {"1": "cat", "2": "dog"}


class OxfordPet(InPlace):
    """Oxford-IIIT Pet, or anything in its official layout, below ``root``.

    Attributes:
        root: the folder that holds ``oxford-iiit-pet/`` (or is it).
        download: fetch it with torchvision, checksums verified, if it is not there.
        labels: what an image's label is: its ``breed``, or its ``species``, which makes two classes of all.
        title: what the first line of a run calls it.
    """

    what: ClassVar[str] = "official layout, read in place"
    licence: ClassVar[str] = (
        "Oxford-IIIT Pet is CC BY-SA 4.0 by its authors and its photos belong to their owners; "
        "of other images in its layout, that of the images"
    )

    root: str = param(key=False)
    download: bool = param(default=False, key=False)
    labels: Labels = param(default="breed")
    title: str = param(default="oxford_pet", key=False)

    def params(self) -> dict[str, Any]:
        """The content, and what is read of it."""
        return super().params() | {"labels": self.labels}

    def _missing(self) -> list[str]:
        folder = pets_folder(Path(self.root))
        return [*missing_parts(Path(self.root)), *([CUT_OFF] if (folder / MARKER).exists() else [])]

    def _by_hand(self) -> str:
        archives = "images.tar.gz and annotations.tar.gz (https://www.robots.ox.ac.uk/~vgg/data/pets/)"
        return f"unpack the official {archives} into {Path(self.root) / FOLDER}"

    def acquire(self) -> None:
        """Download the data if that was asked for and they are not whole; archives that lie there are used."""
        if not self.download or not self._missing():
            return
        folder = pets_folder(Path(self.root))
        place = folder.parent if folder.name == FOLDER else Path(self.root)

        def get() -> None:
            from torchvision.datasets import OxfordIIITPet

            OxfordIIITPet(str(place), split="trainval", download=True)

        folder = place / FOLDER
        # torchvision takes the data for complete where both folders exist, whatever is in them.
        fetch("Oxford-IIIT Pet", folder, folder / "annotations", self._by_hand(), get, lambda: missing_parts(place))

    def _folder(self) -> Path:
        if missing := self._missing():
            raise MissingDataError(
                f"no Oxford-IIIT Pet data at {self.root} (missing: {', '.join(missing)}); pass data.download=true, or "
                f"{self._by_hand()}, or point data.root elsewhere"
            )
        return pets_folder(Path(self.root))

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """Of images, trimaps, box files and lists."""
        folder = self._folder()
        return content_fingerprint(str(folder.resolve()), _content(folder), cache, write=write)

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the lists, boxes and file names."""
        return read_pets(self._folder(), labels=self.labels)


def pets_folder(root: Path) -> Path:
    """Folder that holds ``images/`` and ``annotations/``: ``root/oxford-iiit-pet``, or ``root`` itself."""
    inner = root / FOLDER
    itself = (root / "images").is_dir() or (root / "annotations").is_dir()
    return root if itself and not inner.is_dir() else inner


def missing_parts(root: Path) -> list[str]:
    """The parts without which nothing can be read and that are not there, relative to the layout."""
    folder = pets_folder(root)
    parts = ("images", *(f"annotations/{name}.txt" for name in SPLITS))
    return [name for name in parts if not (folder / name).exists()] if folder.is_dir() else [FOLDER]


def _content(folder: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of every file that can change what is read."""
    for part, suffixes in (
        ("images", IMAGE_SUFFIXES),
        ("annotations/trimaps", (".png",)),
        ("annotations/xmls", (".xml",)),
        ("annotations", (".txt",)),
    ):
        for entry in scan(folder / part):
            if not entry.name.startswith("._") and entry.name.lower().endswith(suffixes):
                yield f"{part}/{entry.name}", Path(entry.path)


class _Line(NamedTuple):
    """A line of a list: image id, official class id (from 1), species, and where it stands."""

    id: str
    class_id: int
    species: str | None
    where: str

    @property
    def breed(self) -> str:
        return self.id.rpartition("_")[0]


def read_pets(root: Path, *, is_toy: bool = False, labels: Labels = "breed") -> Dataset:
    """Read lists, boxes and file names of ``root/oxford-iiit-pet`` (or of ``root`` itself); open no image.

    The classes are those of ``trainval.txt`` and ``test.txt``, ordered by their official ids, which may have gaps; the
    label is the place in that order. Names are the image names without their number (``american_bulldog_12`` is an
    ``american_bulldog``). An image that both lists name is kept in test and dropped from trainval. With
    ``labels="species"`` the classes are cat and dog, which the lists' third column tells apart.

    Returns:
        The data set; ``warnings`` counts what is unusual, ``examples`` names up to three of each.

    Raises:
        MissingDataError: ``images/`` or one of the two lists is not there, or no listed image is.
        SegError: a malformed line, lines that contradict each other, a class without trainval images, and what
            :func:`seg.data.boxes.read_box_file` refuses. All problems of a kind are reported together.
    """
    if missing := missing_parts(root):
        raise MissingDataError(f"no Oxford-IIIT Pet data at {root}: missing {', '.join(missing)}")
    folder, found = pets_folder(root), ReadReport()
    annotations = folder / "annotations"
    lines = {name: _read_list(annotations / f"{name}.txt", found) for name in SPLITS}
    listed = _without_leakage(lines, found)
    names = _class_names([line for name in SPLITS for line in lines[name]], found)
    if labels == "species":
        names = _species([line for line, _ in listed.values()], found)
    found.stop_if_any(folder)  # what follows would only repeat the problems of the lists

    images = files_by_stem(folder / "images", IMAGE_SUFFIXES, found)
    trimaps = files_by_stem(annotations / "trimaps", (".png",), found)
    box_files = files_by_stem(annotations / "xmls", (".xml",), found)
    found.warn("listed images that are missing", (i for i in listed if i not in images))
    found.warn("images that no list names (not used)", (i for i in images if i not in listed))
    found.warn("trimaps of images that no list names", (i for i in trimaps if i not in listed))
    found.warn("box files of images that no list names (not read)", (i for i in box_files if i not in listed))
    present = {i: entry for i, entry in listed.items() if i in images}
    if not present:
        raise MissingDataError(f"none of the {len(listed)} listed images is in {folder / 'images'}")
    found.warn("images without a trimap", (i for i in present if i not in trimaps))
    trained = {names[line.class_id] for line, split in present.values() if split == "trainval"}
    found.problems += [
        f"empty class: {name!r} (id {i}) has no trainval image; add some, or take its lines out of the lists"
        for i, name in names.items()
        if name not in trained
    ]
    boxes = _boxes({i: box_files[i] for i in present if i in box_files}, images, found)
    unboxed = (i for i, (_, split) in present.items() if split == "trainval" and not boxes.get(i))
    found.warn("trainval images without boxes", unboxed)
    found.stop_if_any(folder)

    classes = tuple(dict.fromkeys(names.values()) if labels == "breed" else sorted(set(names.values())))
    records = tuple(
        Record(i, images[i], (classes.index(names[line.class_id]),), split, trimaps.get(i), boxes.get(i, ()))
        for i, (line, split) in present.items()
    )
    return Dataset(classes, records, found.warnings, is_toy, found.examples)


def _read_list(path: Path, found: ReadReport) -> list[_Line]:
    """Lines ``stem class-id species breed-id``, of which the last two are optional; without comments and blanks."""
    lines = []
    for number, text in enumerate(read_text(path, errors="replace").splitlines(), 1):
        where, parts = f"{path} line {number}", nfc(text).split()
        digits = "".join(parts[1:])
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) not in (2, 4) or not (digits.isascii() and digits.isdigit()) or len(parts[1]) > 9:
            shown = text if len(text) <= 60 else text[:57] + "..."
            found.problems.append(f"{where}: {shown!r} is not 'name class-id species breed-id'")
        elif parts[0].rfind("_") < 1:
            found.problems.append(f"{where}: {parts[0][:60]!r} is not 'class_number'")
        elif too_long(parts[0]):
            found.problems.append(f"{where}: {parts[0][:60]!r}... is {TOO_LONG}")
        else:
            lines.append(_Line(parts[0], int(parts[1]), _SPECIES.get("".join(parts[2:3])), where))
    return lines


def _without_leakage(lines: dict[Split, list[_Line]], found: ReadReport) -> dict[str, tuple[_Line, Split]]:
    """Every listed image once, trainval first; those of test never in trainval."""
    test = {line.id for line in lines["test"]}
    listed: dict[str, tuple[_Line, Split]] = {}
    for split in SPLITS:
        count = Counter(line.id for line in lines[split])
        found.warn("images listed twice in a split (kept once)", (i for i, n in count.items() if n > 1))
        for line in lines[split]:
            if split == "test" or line.id not in test:
                listed.setdefault(line.id, (line, split))
    both = dict.fromkeys(line.id for line in lines["trainval"] if line.id in test)
    found.warn("images listed in both splits (kept in test only)", both)
    return listed


def _class_names(lines: list[_Line], found: ReadReport) -> dict[int, str]:
    """Class name by official id, ascending. Lines that contradict the majority of theirs are problems."""
    ids: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for line in lines:
        ids[line.breed][line.class_id] += 1
    usual = {name: counts.most_common(1)[0][0] for name, counts in ids.items()}
    for line in lines:
        if line.class_id < 1:
            found.problems.append(f"{line.where}: class id {line.class_id} is out of range: ids start at 1")
        elif line.class_id != (expected := usual[line.breed]):
            found.problems.append(f"{line.where}: {line.id!r} has id {line.class_id}, its class {expected}")
    names: dict[int, str] = {}
    for name, class_id in sorted(usual.items(), key=lambda item: item[1]):
        if names.setdefault(class_id, name) != name:
            found.problems.append(f"class id {class_id} goes by two names, {names[class_id]!r} and {name!r}")
    return names


def _species(lines: list[_Line], found: ReadReport) -> dict[int, str]:
    """Cat or dog by official class id. Lines that do not say so, or not as others of their class do, are problems."""
    species: dict[int, str] = {}
    for line in lines:
        if line.species is None:
            found.problems.append(f"{line.where}: {line.id!r} has no 1 (cat) or 2 (dog) in its third column, a species")
        elif (first := species.setdefault(line.class_id, line.species)) != line.species:
            found.problems.append(f"{line.where}: {line.id!r} is a {line.species}, others of its class are {first}s")
    return species


def _boxes(files: dict[str, Path], images: dict[str, Path], found: ReadReport) -> dict[str, tuple[Box, ...]]:
    """Boxes by image id. The name of the XML file counts, not the ``<filename>`` inside of it."""
    boxes: dict[str, tuple[Box, ...]] = {}
    misnamed = []
    for image_id, path in files.items():
        with found.gathering(str(path)):
            content = read_box_file(path)
            size = content.size or to_photo(None, images[image_id])[0]
            boxes[image_id] = tuple(fit_box(box, size, str(path)) for box in content.boxes)
            if content.filename is not None and PurePosixPath(nfc(content.filename)).stem != image_id:
                misnamed.append(image_id)
    found.warn("box files with several objects", (i for i, own in boxes.items() if len(own) > 1))
    found.warn("box files without an object", (i for i, own in boxes.items() if not own))
    found.warn("box files whose <filename> is another image's (the file's own name counts)", misnamed)
    return boxes
