"""Where the images come from: each source is a stage whose product is a Dataset."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from seg.data.dataset import MOST_CLASSES, Dataset
from seg.data.layout import content_fingerprint
from seg.data.records import Layout
from seg.errors import SegError
from seg.store import Products, Stage, param


class Source(Stage):
    """Base of the sources. ``load`` returns a :class:`seg.data.dataset.Dataset`.

    Attributes:
        boxes_of: the name of its annotated boxes in tables. boxes_hint: how to provide some.
        licence: of the images, if known; saved with the networks that were trained on them.
    """

    what: ClassVar[str] = "data"
    boxes_of: ClassVar[str] = "HEAD boxes"
    boxes_hint: ClassVar[str] = "give XML files in annotations/xmls"
    licence: ClassVar[str] = "unknown: that of the images"

    @property
    def title(self) -> str:
        """The name of the data in logs and reports."""
        return self.what or type(self).__name__

    def acquire(self) -> None:
        """Download the data if need be, before anything else."""

    def detail(self, store: Products) -> str:
        """More about the data for the first line of a run's log."""
        return ""

    def dataset_if_known(self, store: Products) -> Dataset | None:
        """The data set for checks before any work; None if it has yet to be made."""
        return store.get(self) if not self.stored or store.has(self) else None


def require_few(count: int, place: str, remedy: str) -> None:
    """Raise SegError for more classes than masks have codes; the message begins with ``place``."""
    if count > MOST_CLASSES:
        raise SegError(f"{place}: {count} classes, and masks have codes for {MOST_CLASSES}; {remedy}")


class InPlace(Source):
    """Base of the sources that are read in place; their key is a hash of their files' contents.

    Attributes:
        cache: a file for the content hashes of the data's files.
        read_only: do not write that file (for a dry run).
    """

    stored: ClassVar[bool] = False

    cache: str | None = param(default=None, key=False)
    read_only: bool = param(default=False, key=False)

    def check(self, store: Products) -> None:
        """Raise SegError for files, lists, boxes or classes that cannot be used."""
        store.get(self)

    @cached_property
    def layout(self) -> Layout:
        """The files, found by their names."""
        raise TypeError(f"{type(self).__name__} has no layout")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the names and contents of the files; the folder's own path does not count."""
        return self.hashed(Path(self.cache) if self.cache else None, write=not self.read_only)

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """Compute the fingerprint, see :func:`seg.data.layout.content_fingerprint`."""
        return content_fingerprint(str(self.layout.folder.resolve()), self.layout.content(), cache, write=write)

    def params(self) -> dict[str, Any]:
        """The hash of the content."""
        return {"content": self.fingerprint}

    def detail(self, store: Products) -> str:
        """Counts and places of images, classes, masks and boxes, and the choice of test images."""
        dataset: Dataset = store.get(self)
        records, layout, count = dataset.records, self.layout, len(dataset.classes)
        named = [f"{key} in {layout.texts[key]}" for key in ("labels", "classes") if key in layout.texts]
        names = f" ({', '.join(named)})" if named else ""
        masks, boxes = [r.trimap for r in records if r.trimap], sum(bool(r.boxes) for r in records)
        box_files = (path.parent if path.suffix.lower() == ".xml" else path for path in layout.boxes.values())
        chosen = f"drawn (test_share={getattr(self, 'test_share', 0):g})"
        chosen = f"test images in {layout.texts['test']}" if "test" in layout.texts else f"test images {chosen}"
        found = [
            f"{len(records)} images of {count} class{'es' if count > 1 else ''}{names}",
            f"mask files for {len(masks)} in {_places(mask.parent for mask in masks)}" if masks else "no masks",
            f"boxes for {boxes} in {_places(box_files)}" if boxes else "no boxes",
            chosen if any(r.split == "test" for r in records) else "no test images",
        ]
        return f": {', '.join(found)}"


def _places(paths: Iterable[Path]) -> str:
    different = [str(path) for path in dict.fromkeys(paths)]
    return " and ".join(different[:2]) + (" and others" if len(different) > 2 else "")
