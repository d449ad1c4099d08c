"""``data=oxford_pet``: Oxford-IIIT Pet, or anything in its layout, read in place; and its download."""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from seg.data.dataset import Dataset, Split
from seg.data.download import CUT_OFF, MARKER, fetch
from seg.data.layout import IMAGE_SUFFIXES, MissingDataError, content_fingerprint, files_by_stem, nfc, read_text, scan
from seg.data.read_report import ReadReport
from seg.data.records import make_dataset, place_boxes, present_splits, read_xmls
from seg.data.sources import InPlace
from seg.store import Products, param

FOLDER = "oxford-iiit-pet"
SPLITS: tuple[Split, ...] = ("trainval", "test")
#: What an image's label is: its breed, or the animal.
Labels = Literal["breed", "species"]
_SPECIES = {"1": "cat", "2": "dog"}
_LINE = re.compile(r"(([^\s/\\]+)_[^\s/\\]*)\s+([0-9]{1,9})(?:\s+([0-9]+)\s+[0-9]+)?")


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
        is_cut = (pets_folder(Path(self.root)) / MARKER).exists()
        return [*missing_parts(Path(self.root)), *([CUT_OFF] if is_cut else [])]

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
        kinds: dict[str, str | tuple[str, ...]] = {
            "images": IMAGE_SUFFIXES,
            "annotations/trimaps": ".png",
            "annotations/xmls": ".xml",
            "annotations": ".txt",
        }
        entries = ((part, entry, endings) for part, endings in kinds.items() for entry in scan(folder / part))
        content = [
            (f"{part}/{entry.name}", entry)
            for part, entry, endings in entries
            if entry.name[0] != "." and entry.name.lower().endswith(endings)
        ]
        return content_fingerprint(str(folder.resolve()), content, cache, write=write)

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


class _Line(NamedTuple):
    """A line of a list: image id, breed, official class id, and species, if it is there."""

    id: str
    breed: str
    class_id: int
    species: str | None


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
            :func:`seg.data.boxes.read_xml` refuses. All problems of a kind are reported together.
    """
    if missing := missing_parts(root):
        raise MissingDataError(f"no Oxford-IIIT Pet data at {root}: missing {', '.join(missing)}")
    folder, found = pets_folder(root), ReadReport()
    annotations = folder / "annotations"
    lines = {split: _read_list(annotations / f"{split}.txt", labels, found) for split in SPLITS}
    every = [line for own in lines.values() for line in own]
    names = {line.class_id: line.breed for line in every}
    ids = {line.breed: line.class_id for line in every}
    for line in every:
        if names[line.class_id] != line.breed or ids[line.breed] != line.class_id:
            what = f"{line.id!r} has class id {line.class_id}, as {names[line.class_id]!r}"
            found.problems.append(f"{annotations}: {what}; {line.breed!r} has {ids[line.breed]}, too: mend the lists")
    found.stop_if_any(folder, one_line=True)  # what follows would only repeat the problems of the lists

    images = files_by_stem(folder / "images", IMAGE_SUFFIXES, found)
    listed = {split: [line.id for line in own] for split, own in lines.items()}
    splits = present_splits(listed, images, folder / "images", found)
    classes = [names[i] for i in sorted(names)]
    if labels == "species":
        classes = sorted({str(line.species) for line in every})
    kinds = {line.id: line.breed if labels == "breed" else str(line.species) for line in every}
    trimaps = files_by_stem(annotations / "trimaps", (".png",), found)
    xmls = files_by_stem(annotations / "xmls", (".xml",), found)
    boxes = place_boxes(read_xmls({i: xmls[i] for i in splits if i in xmls}, found), images, found)
    own = {i: (classes.index(kinds[i]),) for i in splits}
    return make_dataset(
        folder,
        classes,
        {i: images[i] for i in splits},
        own,
        splits,
        trimaps,
        {i: [(box.box, label) for box in boxes.get(i, ())] for i, (label,) in own.items()},
        found,
        codes="trimap",
        is_toy=is_toy,
    )


def _read_list(path: Path, labels: Labels, found: ReadReport) -> list[_Line]:
    """Lines ``class_number class-id species breed-id``, of which the last two are optional; without comments."""
    lines = []
    for number, text in enumerate(read_text(path, errors="replace").splitlines(), 1):
        if not text.strip() or text.strip().startswith("#"):
            continue
        match = _LINE.fullmatch(nfc(text.strip()))
        species = _SPECIES.get(match[4] or "") if match else None
        if match is None or (labels == "species" and species is None):
            what = "'class_number class-id species breed-id', with species 1 (cat) or 2 (dog)"
            found.problems.append(f"{path} line {number}: {text[:60]!r} is not {what}")
        else:
            lines.append(_Line(match[1], match[2], int(match[3]), species))
    return lines
