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
        boxes_of: what the table calls its annotated boxes. boxes_hint: how to give some.
        licence: of the images, as far as it is known; written beside the networks that were trained on them.
    """

    what: ClassVar[str] = "data"
    boxes_of: ClassVar[str] = "HEAD boxes"
    boxes_hint: ClassVar[str] = "give XML files in annotations/xmls"
    licence: ClassVar[str] = "unknown: that of the images"

    @property
    def title(self) -> str:
        """What runs and pages call the data, wherever they lie."""
        return self.what or type(self).__name__

    def acquire(self) -> None:
        """Fetch what has to be fetched before anything about the data can be known."""

    def detail(self, store: Products) -> str:
        """What more the first line of a run says of the data."""
        return ""

    def dataset_if_known(self, store: Products) -> Dataset | None:
        """The data set, for checks before any work; None where it would first have to be made."""
        return store.get(self) if not self.stored or store.has(self) else None


def require_few(count: int, place: str, remedy: str) -> None:
    """Refuse more classes than masks have codes for; ``place`` is what the message begins with."""
    if count > MOST_CLASSES:
        raise SegError(f"{place}: {count} classes, and masks have codes for {MOST_CLASSES}; {remedy}")


class InPlace(Source):
    """Base of the sources that are read where they lie: what they contain is their identity.

    Attributes:
        cache: a file that remembers the content hashes of the data's files.
        read_only: leave that file as it is, for a dry run.
    """

    stored: ClassVar[bool] = False

    cache: str | None = param(default=None, key=False)
    read_only: bool = param(default=False, key=False)

    def check(self, store: Products) -> None:
        """Refuse files, lists, boxes or classes that can't be used."""
        store.get(self)

    @cached_property
    def layout(self) -> Layout:
        """The files, found by their names."""
        raise TypeError(f"{type(self).__name__} has no layout")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the names and contents of the files, wherever they lie."""
        return self.hashed(Path(self.cache) if self.cache else None, write=not self.read_only)

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """That hash, see :func:`seg.data.layout.content_fingerprint`."""
        return content_fingerprint(str(self.layout.folder.resolve()), self.layout.content(), cache, write=write)

    def params(self) -> dict[str, Any]:
        """The content is the identity."""
        return {"content": self.fingerprint}

    def detail(self, store: Products) -> str:
        """What was found: images, classes, masks and boxes, where these lie, and how test images are chosen."""
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
