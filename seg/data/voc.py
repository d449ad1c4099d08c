"""``data=voc``: photos with class masks in Pascal VOC's layout, read in place."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from seg.data.dataset import Dataset
from seg.data.layout import MissingDataError, content_fingerprint
from seg.data.sources import InPlace
from seg.data.voc_download import download_voc, is_complete, missing_voc_message
from seg.data.voc_layout import MASKS, VocParts, find_voc
from seg.data.voc_records import read_voc
from seg.store import Products, param


class Voc(InPlace):
    """Pascal VOC, or anything in its layout: the one that torchvision's ``VOCSegmentation`` reads.

    An image's labels are the classes of all objects in its XML, difficult ones too, as the published methods for image
    labels take them; the XML's boxes carry their class. Masks are read by index: 0 background, 1 and on the classes,
    255 unknown.

    Attributes:
        root: the folder that holds ``VOCdevkit/VOC<year>/`` (or is ``VOCdevkit`` or ``VOC<year>``).
        year: of the folder's name, and of a download.
        download: fetch it with torchvision, checksum verified, if it is not there.
        train_list: what may be trained on: the name of a list in ``ImageSets/Segmentation``. With ``trainaug``, which
            comes with SBD and not with VOC, the masks are those of ``SegmentationClassAug``, where it has them.
        test_list: what is only evaluated; null: nothing.
        masks: name of the folder of masks.
        labels_from: ``xml`` in ``Annotations``, or ``masks``; ``auto``: of each image the XML, else the mask.
        classes: a file with a name per line, in the order of the masks' codes, perhaps ``background`` before; null:
            ``classes.txt`` (of masks in ``SegmentationClassAll``: ``classes_all.txt``) in ``root``, else VOC's 20.
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
    masks: str = param(default=MASKS, key=False)
    labels_from: Literal["auto", "xml", "masks"] = param(default="auto")
    classes: str | None = param(default=None, key=False)
    title: str = param(default="voc", key=False)

    def acquire(self) -> None:
        """Download the data if that was asked for and it is not there."""
        if self.download and not is_complete(Path(self.root), self.year):
            download_voc(Path(self.root), self.year)

    @cached_property
    def parts(self) -> VocParts:
        """The files."""
        root = Path(self.root)
        if not is_complete(root, self.year):
            raise MissingDataError(missing_voc_message(root, self.year))
        return find_voc(
            root,
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
        masks, boxes = [r.trimap.parent.name for r in records if r.trimap], sum(bool(r.boxes) for r in records)
        said = [f"{len(records)} images of {len(dataset.classes)} classes ({parts.classes or 'VOC'})"]
        said.append(f"masks for {len(masks)} in {' and '.join(dict.fromkeys(masks))}" if masks else "no masks")
        said.append(f"boxes for {boxes} in Annotations" if boxes else "no boxes")
        tested = sum(r.split == "test" for r in records)
        said.append(f"{tested} test images of {parts.lists['test'].name}" if tested else "no test images")
        return ": " + ", ".join(said)

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """Of the lists, of what they name and of the classes' names."""
        return content_fingerprint(str(self.parts.folder.resolve()), self.parts.content(), cache, write=write)

    def params(self) -> dict[str, Any]:
        """The content, and what was said of the labels."""
        said = {} if self.labels_from == "auto" else {"labels_from": self.labels_from}
        return super().params() | said

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the lists and the XML; the masks of images whose labels come from them."""
        return read_voc(self.parts, self.labels_from, workers=store.runtime.worker_count)
