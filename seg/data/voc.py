"""``data=voc``: photos with class masks in Pascal VOC's layout, read in place."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from seg.data.dataset import Dataset
from seg.data.download import CUT_OFF, MARKER, fetch
from seg.data.layout import MissingDataError, content_fingerprint
from seg.data.sources import InPlace
from seg.data.voc_layout import MASKS, LabelsFrom, VocParts, find_voc, missing_parts, read_voc, voc_folder
from seg.store import Products, param


class Voc(InPlace):
    """Pascal VOC, or anything in its layout: the one that torchvision's ``VOCSegmentation`` reads.

    An image's labels are the classes of all objects in its XML, difficult ones too, as the published methods for image
    labels take them; the XML's boxes carry their class. Masks are read by index: 0 background, 1 and on the classes,
    255 unknown; RGB masks by colour, as ``labelmap.txt`` or VOC's palette has it.

    Attributes:
        root: the folder that holds ``VOCdevkit/VOC<year>/`` (or is ``VOCdevkit`` or ``VOC<year>``).
        year: of the folder's name, and of a download.
        download: fetch it with torchvision, checksum verified, if it is not there.
        train_list: what may be trained on: the name of a list in ``ImageSets/Segmentation`` or ``Main``. With
            ``trainaug``, which comes with SBD and not with VOC, the masks are those of ``SegmentationClassAug``, where
            it has them.
        test_list: what is only evaluated; null: nothing.
        test_share, split_seed: where there is a single list (CVAT's ``default.txt``), the share that is drawn for test.
        masks: name of the folder of masks.
        labels_from: ``xml`` in ``Annotations``, or ``masks``; ``auto``: of each image the XML, else the mask.
        classes: a file of names in the order of the masks' codes, see :func:`seg.data.voc_layout.read_classes`.
        title: what the first line of a run calls it.
    """

    what: ClassVar[str] = "VOC's layout, read in place"
    boxes_of: ClassVar[str] = "boxes"
    boxes_hint: ClassVar[str] = "give XML files in Annotations"
    licence: ClassVar[str] = (
        "PASCAL VOC's photos are Flickr's and subject to its terms of use; of other images in its layout, that of the "
        "images"
    )

    root: str = param(key=False)
    year: int = param(default=2012, low=2007, high=2012, key=False)
    download: bool = param(default=False, key=False)
    train_list: str = param(default="train", key=False)
    test_list: str | None = param(default="val", key=False)
    test_share: float = param(default=0.2, low=0, below=1)
    split_seed: int = param(default=0, low=0)
    masks: str = param(default=MASKS, key=False)
    labels_from: LabelsFrom = param(default="auto")
    classes: str | None = param(default=None, key=False)
    title: str = param(default="voc", key=False)

    def _missing(self) -> list[str]:
        folder = voc_folder(Path(self.root), self.year)
        return [*missing_parts(folder), *([CUT_OFF] if (folder / MARKER).exists() else [])]

    def _by_hand(self) -> str:
        page = f"http://host.robots.ox.ac.uk/pascal/VOC/voc{self.year}/"
        return f"unpack the official VOCtrainval archive ({page}) into {self.root}"

    def acquire(self) -> None:
        """Download the data if that was asked for and it is not there; an archive that lies there is used."""
        if not self.download or not self._missing():
            return
        folder = voc_folder(Path(self.root), self.year)

        def get() -> None:
            from torchvision.datasets import VOCSegmentation

            VOCSegmentation(self.root, year=str(self.year), image_set="train", download=True)

        # What a killed download left is unpacked again; another folder in its place is moved aside.
        aside = folder / "nothing" if (folder / MARKER).exists() else folder
        fetch(f"VOC{self.year}", folder, aside, self._by_hand(), get, lambda: missing_parts(folder))

    @cached_property
    def parts(self) -> VocParts:
        """The files."""
        if missing := self._missing():
            raise MissingDataError(
                f"no data in VOC's layout at {self.root} (missing: {', '.join(missing)}); pass data.download=true, or "
                f"{self._by_hand()}, or point data.root elsewhere"
            )
        return find_voc(
            Path(self.root),
            year=self.year,
            train_list=self.train_list,
            test_list=self.test_list,
            masks=self.masks,
            classes=self.classes,
        )

    def detail(self, store: Products) -> str:
        """What was found, and where the names come from."""
        dataset: Dataset = store.get(self)
        parts, records = self.parts, dataset.records
        folders = [r.trimap.parent.name for r in records if r.trimap]
        boxes, tested = sum(bool(r.boxes) for r in records), sum(r.split == "test" for r in records)
        found = [f"{len(records)} images of {len(dataset.classes)} classes ({parts.texts.get('classes', 'VOC')})"]
        found.append(f"masks for {len(folders)} in {' and '.join(dict.fromkeys(folders))}" if folders else "no masks")
        found.append(f"boxes for {boxes} in Annotations" if boxes else "no boxes")
        how = f"drawn (test_share={self.test_share:g})" if parts.is_drawn else f"of {self.test_list}.txt"
        found.append(f"{tested} test images {how}" if tested else "no test images")
        return ": " + ", ".join(found)

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """Of the lists, of what they name and of the classes' names."""
        return content_fingerprint(str(self.parts.folder.resolve()), self.parts.content(), cache, write=write)

    def params(self) -> dict[str, Any]:
        """The content, what was said of the labels, and the draw if there is one."""
        drawn = {"test_share": self.test_share, "split_seed": self.split_seed} if self.parts.is_drawn else {}
        return super().params() | {"labels_from": self.labels_from} | drawn

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the lists and the XML; the masks of images whose labels come from them."""
        return read_voc(
            self.parts,
            self.labels_from,
            test_share=self.test_share,
            split_seed=self.split_seed,
            workers=store.runtime.worker_count,
        )
