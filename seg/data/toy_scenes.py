"""``data=toy_scenes``: drawn scenes of two animals, the toy of many classes."""

from pathlib import Path
from typing import ClassVar

from seg.data.dataset import Dataset
from seg.data.sources import Source
from seg.data.voc_layout import find_voc
from seg.data.voc_records import read_voc
from seg.store import Products, param
from seg.store.parameters import MOST_SEED


class ToyScenes(Source):
    """Drawn animals in Pascal VOC's layout, mostly two of different breeds in a picture; from a seed, offline.

    Attributes:
        images: how many pictures, both splits together.
        breeds: how many classes.
        size: shorter side of the pictures in pixels.
        seed: of all that is drawn.
    """

    what: ClassVar[str] = "toy scenes, drawn"
    boxes_of: ClassVar[str] = "boxes"
    licence: ClassVar[str] = "drawn by weakseg itself; no rights of others"

    images: int = param(default=480, low=20)
    breeds: int = param(default=4, low=2)
    size: int = param(default=128, low=48)
    seed: int = param(default=0, low=0, high=MOST_SEED)

    @property
    def title(self) -> str:
        """That it is a toy."""
        return f"toy_scenes (a TOY: {self.images} drawn scenes, seed {self.seed})"

    def build(self, out: Path, store: Products) -> None:
        """Draw the pictures, masks, boxes and lists."""
        from seg.data.toy.pairs import draw_toy_scenes

        draw_toy_scenes(out, images=self.images, breeds=self.breeds, size=self.size, seed=self.seed)

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the layout back, as any other data set in it."""
        return read_voc(find_voc(path), is_toy=True)
