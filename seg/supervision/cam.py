"""Class activation maps in closed form (Zhou et al., CVPR 2016)."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from seg.data.prepared import Pool, PoolRows
from seg.errors import SegError
from seg.methods.cam import foreground_maps, multi_scale_cam, predicted_classes
from seg.nets.backbones import fold_batch_norm
from seg.store import Products, param
from seg.supervision.classifier import Classifier
from seg.supervision.feature_cache import FeatureCache
from seg.supervision.scores import ScoreStage, infer
from seg.train import NetworkStage

log = logging.getLogger(__name__)


class CAM(ScoreStage):
    """CAM of every image of the pool, in batches, at the network's own resolution.

    Of an image with several classes a map for each, from the one forward pass; where masks are of the foreground alone
    their maximum. An image without a class gets no map: it is all background.

    Attributes:
        pool: the images.
        classifier: the trained network, at the epoch it is asked for.
        target: ``label``, the image's own classes (known, since they are the supervision); ``predicted``, the
            classifier's answer, of a logistic one every class that it finds likelier than not.
        scales: input sizes as multiples of the working resolution (rounded to 32); maps are averaged on the
            finest one's grid.
        flip: average with the map of the mirrored image.
        normalisation: ``minmax`` or ``relu`` (see :func:`normalise_maps`).
        precision: ``32-true``; or ``bf16-true``: the network computes in bfloat16, its maps are summed in float32.
    """

    what: ClassVar[str] = "CAM"

    pool: Pool
    classifier: NetworkStage
    target: Literal["label", "predicted"] = param(default="label")
    scales: tuple[float, ...] = param(default=(1.0,), above=0, high=4)
    flip: bool = param(default=False)
    normalisation: Literal["minmax", "relu"] = param(default="minmax")
    precision: Literal["32-true", "bf16-true"] = param(default="32-true")

    @property
    def design(self) -> Classifier:
        return self.classifier.designed_as(Classifier, "supervision.classifier")

    def validate(self) -> None:
        if not self.scales:
            raise SegError("supervision.scales=[]: must not be empty; [1.0] is the working resolution alone")
        _ = self.design

    @property
    def title(self) -> str:
        return f"CAM ({self.target})"

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """One forward pass per image, scale and direction; what is frozen is passed once for several epochs."""
        pool: PoolRows = store.get(self.pool)
        data, source = pool.data, pool.data.as_read  # the network knows all classes, the masks perhaps one
        model: nn.Module = store.get(self.classifier)
        _, weight, bias = self.design.parts(model)
        network, shared = self._network(model, pool, out, store)
        logistic = self.design.is_logistic(source)
        class_ids: list[list[int]] = []
        asked = [list(source.label_sets[row]) for row in pool.rows]
        if self.target == "label" and (without := sum(not own for own in asked)):
            log.info("CAM: %d images have no label: all of them is background", without)

        def maps(images: Tensor, part: np.ndarray) -> Tensor:
            if shared:
                shared.begin(part)
            here = slice(part[0], part[-1] + 1)
            if self.target == "predicted":
                # The classifier's answer is at the working resolution, whatever scales the maps are of.
                asked[here] = predicted_classes(network(images).mean((2, 3)) @ weight.T + bias, logistic)
            pairs = [(i, label) for i, own in enumerate(asked[here]) for label in own]
            image, labels = torch.tensor(pairs, dtype=torch.int64, device=images.device).reshape(-1, 2).T
            cam = multi_scale_cam(network, weight, images, labels, image, self.scales, self.flip, self.normalisation)
            if source is data:
                class_ids.extend([label + 1 for label in own] for own in asked[here])
                return cam
            class_ids.extend([1] if own else [] for own in asked[here])
            return foreground_maps(cam, image)

        parts = infer(maps, data, pool.rows, store.runtime, "CAM")
        return self.save(out, data, pool.rows, parts, class_ids)

    def _network(
        self, model: nn.Module, pool: PoolRows, out: Path, store: Products
    ) -> tuple[Callable[[Tensor], Tensor], FeatureCache | None]:
        """The classifier before its pooling, ready to infer, and the features that it shares with other epochs'."""
        dtype = torch.bfloat16 if self.precision == "bf16-true" else torch.float32
        halves, shared = self.design.halves(model), None
        if halves is not None:
            what = f"{self.pool.id} {self.target} {self.scales} {self.flip} {dtype} {self.design.shape()}"
            shared = FeatureCache.of(halves[0], what, out.parent, store.runtime)
        frozen, rest = (
            fold_batch_norm(part).to(dtype=dtype).to(memory_format=torch.channels_last)
            for part in halves or (nn.Identity(), self.design.parts(model)[0])
        )

        def network(images: Tensor) -> Tensor:
            images = images.to(dtype)
            return rest(shared(frozen, images) if shared else images).float()

        return network, shared
