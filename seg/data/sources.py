"""Where the images come from: each source is a stage whose product is a Dataset."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from seg.data.dataset import MOST_CLASSES, Dataset
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

    def seen(self, store: Products) -> Dataset | None:
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
    def fingerprint(self) -> str:
        """Hash of the names and contents of the files, wherever they lie."""
        return self.hashed(Path(self.cache) if self.cache else None, write=not self.read_only)

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """That hash, see :func:`seg.data.layout.content_fingerprint`."""
        raise TypeError(f"{type(self).__name__} has no hashed()")

    def params(self) -> dict[str, Any]:
        """The content is the identity."""
        return {"content": self.fingerprint}
