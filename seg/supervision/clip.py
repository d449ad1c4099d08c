"""Score maps from class names: similarity of CLIP's dense features and text embeddings."""

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from seg.data.prepared import Pool, PoolRows
from seg.errors import SegError
from seg.methods.clip import text_scores
from seg.nets.clip import CLIP, content_of_weights
from seg.store import Products, param
from seg.supervision.scores import ScoreStage, image_class_ids, infer


class TextScores(ScoreStage):
    """Probabilities of an image's classes against background names, from MaskCLIP's features (Zhou et al., ECCV 2022).

    Nothing is trained, so one class is enough. An image with several classes has a map for each, or with foreground
    masks their sum. An image without a class has no map.

    Attributes:
        pool: the images.
        model, weights, size: as for :class:`seg.nets.clip.CLIP`.
        names: of the classes, in order; null for the names in the data, with spaces for underscores.
        background: names of other things in the images, chosen by hand.
        templates: sentences in which the name replaces {}; their embeddings are averaged.
        temperature: of the softmax over an image's classes and the background.
    """

    what: ClassVar[str] = "CLIP"

    pool: Pool
    model: str
    weights: str = param(content=content_of_weights)
    size: int = param(default=448, low=32, high=4096)
    names: tuple[str, ...] | None = param(default=None)
    background: tuple[str, ...]
    templates: tuple[str, ...] = param(default=("a photo of a {}.",))
    temperature: float = param(default=0.01, above=0)

    def validate(self) -> None:
        if not self.background:
            raise SegError("supervision.background=[]: give at least one name; else all of an image is its class")
        if not self.templates or any("{}" not in template for template in self.templates):
            raise SegError("supervision.templates: give at least one sentence, each with {} for the name")

    def check(self, store: Products) -> None:
        if importlib.util.find_spec("open_clip") is None:
            raise SegError("supervision=clip: needs open_clip, which is not installed: pip install 'weakseg[clip]'")
        if (dataset := self.pool.data.source.dataset_if_known(store)) is not None:
            self._names(dataset.classes)
        self._model()

    def _names(self, classes: tuple[str, ...]) -> list[str]:
        if self.names is not None and len(self.names) != len(classes):
            raise SegError(f"supervision.names: {len(self.names)} names for {len(classes)} classes; give one for each")
        return [name.replace("_", " ") for name in classes] if self.names is None else list(self.names)

    def _model(self) -> CLIP:
        try:
            return CLIP(self.model, self.weights, self.size)
        except SegError as error:
            raise SegError(f"supervision.{error}") from error

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        pool: PoolRows = store.get(self.pool)
        data, source = pool.data, pool.data.as_read  # names are of all classes, masks perhaps of the foreground alone
        model = self._model().to(store.runtime.device)
        classes = model.embed(self._names(source.classes), self.templates)
        background = model.embed(self.background, self.templates)

        def maps(images: Tensor, part: np.ndarray) -> Tensor:
            features = model(images).float()
            found = [features[:0, 0]]
            for own, row in zip(features, pool.rows[part], strict=True):
                scores = text_scores(own, classes[list(source.label_sets[row])], background, self.temperature)
                merged = source is not data and len(scores) > 0
                found.append(scores.sum(0, keepdim=True) if merged else scores)
            return torch.cat(found).clamp(0, 1).half()

        parts = infer(maps, data, pool.rows, store.runtime, self.what, most=16)
        return self.save(out, data, pool.rows, parts, [image_class_ids(data, row) for row in pool.rows])
