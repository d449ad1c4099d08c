"""``data=toy_pets`` and ``data=toy_scenes``: drawn animals, generated from a seed, offline."""

from pathlib import Path
from typing import ClassVar

from seg.data.dataset import Dataset
from seg.data.pets import Labels, OxfordPet
from seg.data.sources import Source
from seg.data.voc import Voc
from seg.store import Products, param
from seg.store.parameters import MOST_SEED


class Toy(Source):
    """Base of the toy data sets.

    Attributes:
        images: number of pictures in both splits.
        breeds: number of classes.
        size: shorter side of the pictures in pixels.
        seed: of the drawing.
    """

    name: ClassVar[str]
    licence: ClassVar[str] = "drawn by weakseg itself; no rights of others"

    images: int = param(default=480, low=20)
    breeds: int = param(default=6, low=2)
    size: int = param(default=128, low=48)
    seed: int = param(default=0, low=0, high=MOST_SEED)

    @property
    def title(self) -> str:
        """The name, marked as a toy."""
        return f"{self.name} (a TOY: {self.images} drawn pictures, seed {self.seed})"

    def build(self, out: Path, store: Products) -> None:
        """Draw pictures, masks, boxes and lists."""
        from seg.data.toy import generate

        draw = {"toy_pets": generate.draw_toy_pets, "toy_scenes": generate.draw_toy_scenes}[self.name]
        draw(out, images=self.images, breeds=self.breeds, size=self.size, seed=self.seed)


class ToyPets(Toy):
    """One animal in a picture, in the layout of Oxford-IIIT Pet.

    Attributes:
        labels: a picture's label is its ``breed`` or its ``species``.
    """

    name: ClassVar[str] = "toy_pets"
    what: ClassVar[str] = "toy pictures, drawn"

    labels: Labels = param(default="breed")

    def load(self, path: Path, store: Products) -> Dataset:
        """Read it like any data set in this layout."""
        return OxfordPet(root=str(path), labels=self.labels).load(path, store)


class ToyScenes(Toy):
    """Mostly two animals of different breeds in a picture, in Pascal VOC's layout."""

    name: ClassVar[str] = "toy_scenes"
    what: ClassVar[str] = "toy scenes, drawn"
    boxes_of: ClassVar[str] = "boxes"

    def load(self, path: Path, store: Products) -> Dataset:
        """Read it like any data set in this layout."""
        return Voc(root=str(path)).load(path, store)
