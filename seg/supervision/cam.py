"""Class activation maps in closed form (Zhou et al., CVPR 2016)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.data.prepared import Pool, PoolRows
from seg.errors import SegError
from seg.nets.backbones import fold_batch_norm
from seg.nets.maps import class_activation_maps, normalise_maps
from seg.store import Products, param
from seg.supervision.classifier import Classifier
from seg.supervision.scores import ScoreStage, infer
from seg.supervision.shared import SharedFeatures
from seg.train import NetworkStage


class CAM(ScoreStage):
    """CAM of every image of the pool, in batches, at the network's own resolution.

    Attributes:
        pool: the images.
        classifier: the trained network, at the epoch it is asked for.
        target: ``label``, the image's own class (known, since that is the supervision); ``predicted``, the
            classifier's answer.
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
        """What the classifier is, trained or given."""
        return self.classifier.designed_as(Classifier, "supervision.classifier")

    def validate(self) -> None:
        """Only a classifier has classes to map, and no map is made at no scale."""
        if not self.scales:
            raise SegError("supervision.scales=[]: must not be empty; [1.0] is the working resolution alone")
        _ = self.design

    @property
    def title(self) -> str:
        """The class that is asked for matters."""
        return f"CAM ({self.target})"

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """One forward pass per image, scale and direction; what is frozen is passed once for several epochs."""
        pool: PoolRows = store.get(self.pool)
        model: nn.Module = store.get(self.classifier)
        features, weight, bias = self.design.parts(model)
        dtype = torch.bfloat16 if self.precision == "bf16-true" else torch.float32

        def ready(part: nn.Module) -> nn.Module:
            return fold_batch_norm(part).to(dtype=dtype).to(memory_format=torch.channels_last)

        halves, shared = self.design.halves(model), None
        if halves is not None:
            what = f"{self.pool.id} {self.target} {self.scales} {self.flip} {dtype} {self.design.shape()}"
            shared = SharedFeatures.of(halves[0], what, len(pool.rows), out.parent, store.runtime)
        frozen, rest = map(ready, halves or (nn.Identity(), features))

        def forward(images: Tensor) -> Tensor:
            images = images.to(dtype)
            return rest(shared(frozen, images) if shared else images).float()

        labels = torch.from_numpy(pool.data.labels[pool.rows])

        def maps(images: Tensor, part: np.ndarray) -> Tensor:
            if shared:
                shared.begin(part)
            return self._maps(forward, weight, bias, images, labels[part].to(images.device))

        return self.save(out, pool.data, pool.rows, infer(maps, pool.data, pool.rows, store.runtime, "CAM"))

    def _maps(
        self, features: Callable[[Tensor], Tensor], weight: Tensor, bias: Tensor, images: Tensor, labels: Tensor
    ) -> Tensor:
        side = images.shape[-1]
        sides = [max(32, round(side * scale / 32) * 32) for scale in self.scales]
        if self.target == "predicted":
            # The classifier's answer is at the working resolution, whatever scales the maps are of.
            labels = (features(images).mean((2, 3)) @ weight.T + bias).argmax(1)
        total: Tensor | None = None
        for s in sorted(sides, reverse=True):
            resized = images if s == side else F.interpolate(images, (s, s), mode="bilinear", antialias=True)
            cam = class_activation_maps(features(resized), weight, labels)
            if self.flip:
                cam = (cam + class_activation_maps(features(resized.flip(3)), weight, labels).flip(2)) / 2
            cam = normalise_maps(cam, self.normalisation)
            if total is not None:
                cam = total + F.interpolate(cam[:, None], total.shape[1:], mode="bilinear")[:, 0]
            total = cam
        assert total is not None
        return normalise_maps(total, self.normalisation)
