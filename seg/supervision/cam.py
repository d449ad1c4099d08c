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
    """CAM of every image of the pool, at the network's output resolution.

    An image with several classes has a map for each, from one forward pass, or with foreground masks their maximum. An
    image without a class has no map: all of it is background.

    Attributes:
        pool: the images.
        classifier: the trained network.
        target: ``label`` for the image's labels; ``predicted`` for the class that the classifier predicts, or with a
            logistic loss every class with a probability above 1/2.
        scales: input sizes as multiples of the working resolution (rounded to 32); maps are averaged on the grid of
            the largest.
        flip: average with the map of the mirrored image.
        normalisation: ``minmax`` or ``relu`` (see :func:`seg.methods.normalise_maps`).
        precision: ``32-true``; or ``bf16-true`` for a network in bfloat16, with maps summed in float32.
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
        """One forward pass per image, scale and direction; frozen stages run once for several epochs."""
        pool: PoolRows = store.get(self.pool)
        data, source = pool.data, pool.data.as_read  # the network has all classes, masks perhaps the foreground alone
        model: Any = store.get(self.classifier)
        weight, bias = model.linear.weight.detach(), model.linear.bias.detach()
        network, shared = self._network(model, pool, out, store)
        logistic = self.design.is_logistic(source)
        class_ids: list[list[int]] = []
        asked = [list(source.label_sets[row]) for row in pool.rows]
        if self.target == "label" and (without := sum(not own for own in asked)):
            log.info("CAM: %d images have no label and are all background", without)

        def maps(images: Tensor, part: np.ndarray) -> Tensor:
            if shared:
                shared.begin(part)
            here = slice(part[0], part[-1] + 1)
            if self.target == "predicted":
                # Classes are predicted at the working resolution, whatever the scales of the maps.
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
        self, model: Any, pool: PoolRows, out: Path, store: Products
    ) -> tuple[Callable[[Tensor], Tensor], FeatureCache | None]:
        """The classifier before its pooling, and the cache of its frozen features; None if nothing is frozen."""
        dtype = torch.bfloat16 if self.precision == "bf16-true" else torch.float32
        parts, shared = self.design.split(model), None
        if not isinstance(parts[0], nn.Identity):
            what = f"{self.pool.id} {self.target} {self.scales} {self.flip} {dtype} {self.design.shape()}"
            shared = FeatureCache.of(parts[0], what, out.parent, store.runtime)
        frozen, rest = (fold_batch_norm(part).to(dtype=dtype).to(memory_format=torch.channels_last) for part in parts)

        def network(images: Tensor) -> Tensor:
            images = images.to(dtype)
            return rest(shared(frozen, images) if shared else images).float()

        return network, shared
