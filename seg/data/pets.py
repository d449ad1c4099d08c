"""``data=oxford_pet``: Oxford-IIIT Pet, or anything in its layout, read in place; and its download."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from seg.data.dataset import Dataset, Split
from seg.data.download import Downloadable
from seg.data.layout import IMAGE_SUFFIXES, files_by_stem, nfc, read_text
from seg.data.read_report import ReadReport
from seg.data.records import Layout, listed_splits, make_dataset, place_boxes, read_xmls
from seg.store import Products, param

FOLDER = "oxford-iiit-pet"
SPLITS: tuple[Split, ...] = ("trainval", "test")
#: An image's label: its breed, or its species (cat or dog).
Labels = Literal["breed", "species"]
_SPECIES = {"1": "cat", "2": "dog"}
_LINE = re.compile(r"(?P<id>(?P<breed>[^\s/\\]+)_[^\s/\\]*)\s+(?P<number>[0-9]{1,9})(\s+(?P<species>[0-9]+)\s+[0-9]+)?")


class OxfordPet(Downloadable):
    """Oxford-IIIT Pet, or anything in its official layout, below ``root`` or in ``root/oxford-iiit-pet``.

    Classes are ordered by their official ids, which may have gaps. Breeds are the image names without their number
    (``american_bulldog_12`` is an ``american_bulldog``).

    Attributes:
        labels: an image's label is its ``breed``, or its ``species``, cat or dog.
        title: the data set's name in a run's log.
    """

    what: ClassVar[str] = "official layout, read in place"
    licence: ClassVar[str] = (
        "Oxford-IIIT Pet is CC BY-SA 4.0 by its authors and its photos belong to their owners; "
        "of other images in its layout, that of the images"
    )
    data_name: ClassVar[str] = "Oxford-IIIT Pet"
    archives: ClassVar[str] = "images.tar.gz and annotations.tar.gz (https://www.robots.ox.ac.uk/~vgg/data/pets/)"

    labels: Labels = param(default="breed")
    title: str = param(default="oxford_pet", key=False)

    def params(self) -> dict[str, Any]:
        """The content and ``labels``."""
        return super().params() | {"labels": self.labels}

    @property
    def folder(self) -> Path:
        """``root/oxford-iiit-pet``, or ``root`` itself."""
        root = Path(self.root)
        itself = (root / "images").is_dir() or (root / "annotations").is_dir()
        return root if itself and not (root / FOLDER).is_dir() else root / FOLDER

    def missing_parts(self) -> list[str]:
        """The required parts that are not there, relative to the folder."""
        parts = ("images", *(f"annotations/{name}.txt" for name in SPLITS))
        return [name for name in parts if not (self.folder / name).exists()] if self.folder.is_dir() else [FOLDER]

    def target(self) -> tuple[Path, Path]:
        """The annotations are renamed: torchvision does not unpack where both folders exist."""
        folder = self.folder if self.folder.name == FOLDER else Path(self.root) / FOLDER
        return folder, folder / "annotations"

    def fetch(self, folder: Path) -> None:
        """Download and unpack with torchvision."""
        from torchvision.datasets import OxfordIIITPet

        OxfordIIITPet(str(folder.parent), split="trainval", download=True)

    @cached_property
    def layout(self) -> Layout:
        """The files, found by the lists; no image is opened. An image that both lists name is in the test split only.

        Raises:
            MissingDataError: a part is missing, or no listed image exists.
            SegError: malformed lines, or lines that contradict each other.
        """
        self.require()
        folder, report = self.folder, ReadReport()
        annotations = folder / "annotations"
        texts = {str(split): annotations / f"{split}.txt" for split in SPLITS}
        lines = {split: _read_list(texts[split], self.labels, report) for split in SPLITS}
        every = [line for own in lines.values() for line in own]
        names = {int(line["number"]): line["breed"] for line in every}
        pairs = {(int(line["number"]), line["breed"]) for line in every}
        if len(pairs) > len(names) or len(pairs) > len({*names.values()}):
            report.problems.append(
                f"{annotations}: a breed has two class ids, or a class id two breeds; correct the lists"
            )
        report.raise_problems(folder)
        images = files_by_stem(folder / "images", IMAGE_SUFFIXES, report)
        splits = listed_splits(
            {s: [line["id"] for line in lines[s]] for s in SPLITS}, images, folder / "images", report
        )
        trimaps = files_by_stem(annotations / "trimaps", (".png",), report)
        xmls = files_by_stem(annotations / "xmls", (".xml",), report)
        classes = [names[number] for number in sorted(names)]
        if self.labels == "species":
            classes = sorted({_SPECIES[line["species"]] for line in every})
        shown = {line["id"]: line["breed"] if self.labels == "breed" else _SPECIES[line["species"]] for line in every}
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

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the boxes of the XML files; a box has its image's class."""
        layout = self.layout.copy()
        boxes = {i: [box._replace(class_name="") for box in own] for i, own in read_xmls(layout).items()}
        return make_dataset(layout, place_boxes(boxes, layout.images, layout.report))


def _read_list(path: Path, labels: Labels, report: ReadReport) -> list[re.Match[str]]:
    """Lines ``breed_number class-id [species breed-id]`` without comments."""
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
