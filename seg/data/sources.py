"""Where the images come from: each source is a stage whose product is a Dataset."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from seg.data.dataset import MOST_CLASSES, Dataset
from seg.data.layout import layout_fingerprint
from seg.data.official_layout import Labels, read_official_layout
from seg.data.oxford_pet import download_oxford_pet, is_complete, missing_data_message
from seg.errors import SegError
from seg.store import Products, Stage, param
from seg.store.parameters import MOST_SEED


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


class ToyPets(Source):
    """Drawn animals in the official Oxford-IIIT Pet layout, generated from a seed, offline.

    Attributes:
        images: how many pictures, both splits together.
        breeds: how many classes.
        size: side of the pictures in pixels.
        seed: of all that is drawn.
        labels: what a picture's label is: its ``breed``, or its ``species``.
    """

    what: ClassVar[str] = "toy pictures, drawn"
    licence: ClassVar[str] = "drawn by weakseg itself; no rights of others"

    images: int = param(default=480, low=20)
    breeds: int = param(default=6, low=2)
    size: int = param(default=160, low=48)
    seed: int = param(default=0, low=0, high=MOST_SEED)
    labels: Labels = param(default="breed")

    @property
    def title(self) -> str:
        """That it is a toy."""
        return f"toy_pets (a TOY: {self.images} drawn pictures, seed {self.seed})"

    def build(self, out: Path, store: Products) -> None:
        """Draw the pictures, trimaps, boxes and lists."""
        from seg.data.toy.pets import draw_toy_pets

        draw_toy_pets(out, images=self.images, breeds=self.breeds, size=self.size, seed=self.seed)

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the layout back, as any other data set in it."""
        return read_official_layout(path, is_toy=True, labels=self.labels)


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
        """The content, and what is read of it where that is not the usual."""
        return super().params() | ({"labels": self.labels} if self.labels != "breed" else {})

    def acquire(self) -> None:
        """Download the data if that was asked for and it is not there."""
        if self.download and not is_complete(Path(self.root)):
            download_oxford_pet(Path(self.root))

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """Of images, trimaps, box files and lists."""
        return layout_fingerprint(self._folder(), cache, write=write)

    def _folder(self) -> Path:
        if not is_complete(Path(self.root)):
            raise SegError(missing_data_message(Path(self.root)))
        return Path(self.root)

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the lists, boxes and file names."""
        return read_official_layout(self._folder(), labels=self.labels)
