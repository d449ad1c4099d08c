"""``data=oxford_pet``: Oxford-IIIT Pet, or anything in its layout, read in place; and its download."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from seg.data.dataset import Dataset, Split
from seg.data.download import CUT_OFF, MARKER, fetch
from seg.data.layout import IMAGE_SUFFIXES, MissingDataError, files_by_stem, nfc, read_text
from seg.data.read_report import ReadReport
from seg.data.records import Layout, listed_splits, make_dataset, place_boxes, read_xmls
from seg.data.sources import InPlace
from seg.store import Products, param

FOLDER = "oxford-iiit-pet"
SPLITS: tuple[Split, ...] = ("trainval", "test")
#: What an image's label is: its breed, or the animal.
Labels = Literal["breed", "species"]
_SPECIES = {"1": "cat", "2": "dog"}
_LINE = re.compile(r"(?P<id>(?P<breed>[^\s/\\]+)_[^\s/\\]*)\s+(?P<number>[0-9]{1,9})(\s+(?P<species>[0-9]+)\s+[0-9]+)?")


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
        """Download the data if that was asked for and a part is missing; archives that lie there are used."""
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

    @cached_property
    def layout(self) -> Layout:
        """The files, found by the lists."""
        if missing := self._missing():
            raise MissingDataError(
                f"no Oxford-IIIT Pet data at {self.root} (missing: {', '.join(missing)}); pass data.download=true, or "
                f"{self._by_hand()}, or point data.root elsewhere"
            )
        return find_pets(Path(self.root), self.labels)

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the boxes of the XML files, which are of their image's class whatever they are called."""
        layout = self.layout.copy()
        boxes = {i: [box._replace(class_name="") for box in own] for i, own in read_xmls(layout).items()}
        return make_dataset(layout, place_boxes(boxes, layout.images, layout.report))


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


def find_pets(root: Path, labels: Labels = "breed") -> Layout:
    """Read the lists and file names of ``root/oxford-iiit-pet`` (or of ``root`` itself); open no image.

    Classes are ordered by their official ids, which may have gaps. Names are the image names without their number
    (``american_bulldog_12`` is an ``american_bulldog``). An image that both lists name is of test alone. With
    ``labels="species"`` the classes are cat and dog, which the lists' third column tells apart.

    Raises:
        MissingDataError: no listed image is there.
        SegError: malformed lines, or lines that contradict each other.
    """
    folder, report = pets_folder(root), ReadReport()
    annotations = folder / "annotations"
    texts = {str(split): annotations / f"{split}.txt" for split in SPLITS}
    lines = {split: _read_list(texts[split], labels, report) for split in SPLITS}
    every = [line for own in lines.values() for line in own]
    names = {int(line["number"]): line["breed"] for line in every}
    pairs = {(int(line["number"]), line["breed"]) for line in every}
    if len(pairs) > len(names) or len(pairs) > len({*names.values()}):
        report.problems.append(f"{annotations}: a breed has two class ids, or a class id two breeds; correct the lists")
    report.raise_problems(folder)
    images = files_by_stem(folder / "images", IMAGE_SUFFIXES, report)
    splits = listed_splits({s: [line["id"] for line in lines[s]] for s in SPLITS}, images, folder / "images", report)
    trimaps = files_by_stem(annotations / "trimaps", (".png",), report)
    xmls = files_by_stem(annotations / "xmls", (".xml",), report)
    classes = [names[number] for number in sorted(names)]
    if labels == "species":
        classes = sorted({_SPECIES[line["species"]] for line in every})
    shown = {line["id"]: line["breed"] if labels == "breed" else _SPECIES[line["species"]] for line in every}
    return Layout(
        folder / "images",
        tuple(classes),
        {i: images[i] for i in splits},
        splits,
        labels={i: (classes.index(shown[i]),) for i in splits},
        masks={i: trimaps[i] for i in splits if i in trimaps},
        codes="trimap",
        boxes={i: xmls[i] for i in splits if i in xmls},
        texts=texts,
        report=report,
    )


def _read_list(path: Path, labels: Labels, report: ReadReport) -> list[re.Match[str]]:
    """Lines ``class_number class-id species breed-id``, of which the last two are optional; without comments."""
    lines = []
    for number, text in enumerate(read_text(path, errors="replace").splitlines(), 1):
        if not text.strip() or text.strip().startswith("#"):
            continue
        match = _LINE.fullmatch(nfc(text.strip()))
        if match is None or (labels == "species" and match["species"] not in _SPECIES):
            what = "'class_number class-id species breed-id', with species 1 (cat) or 2 (dog)"
            report.problems.append(f"{path} line {number}: {text[:60]!r} is not {what}")
        else:
            lines.append(match)
    return lines
