"""Class activation maps in closed form (Zhou et al., CVPR 2016)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.backbones import fold_batch_norm
from seg.data.augment import normalise
from seg.data.prepared import Pool, PoolRows
from seg.stage import param
from seg.store import Store
from seg.supervision.classifier import Classifier
from seg.supervision.scores import ScoreMaps, ScoreStage


def class_activation_maps(features: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
    """``M_c(x, y) = sum_k w_k^c f_k(x, y)`` (Zhou et al., eq. 2), for one class per image.

    Args:
        features: ``float (B, C, h, w)``, the input of the global pooling.
        weight: ``float (classes, C)``, of the linear layer.
        classes: ``int64 (B,)``, the class asked of each image.

    Returns:
        ``float (B, h, w)``, unbounded; its mean over the map is the class's logit less its bias.
    """
    return torch.einsum("bchw,bc->bhw", features, weight[classes])


def normalise_maps(maps: Tensor, how: str) -> Tensor:
    """Bring each map to [0, 1].

    Args:
        maps: ``float (B, h, w)``.
        how: ``minmax``: its minimum to 0 and its maximum to 1; ``relu``: negative values to 0 and its
            maximum to 1. A constant map (for ``relu``: one without a positive value) becomes 0.

    Returns:
        ``float (B, h, w)`` in [0, 1].
    """
    flat = maps.flatten(1)
    low = flat.min(1).values[:, None, None] if how == "minmax" else torch.zeros_like(maps[:, :1, :1])
    shifted = (maps - low).clamp_min(0)
    high = shifted.flatten(1).max(1).values[:, None, None]
    return shifted / torch.where(high > 0, high, torch.ones_like(high))


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
    classifier: Classifier
    target: Literal["label", "predicted"] = param(default="label")
    scales: tuple[float, ...] = param(default=(1.0,), above=0, high=4)
    flip: bool = param(default=False)
    normalisation: Literal["minmax", "relu"] = param(default="minmax")
    precision: Literal["32-true", "bf16-true"] = param(default="32-true")

    def params(self) -> dict[str, Any]:
        """Keys without ``precision`` are as old as those without the parameter."""
        return {k: v for k, v in super().params().items() if k != "precision" or v != "32-true"}

    def build(self, out: Path, store: Store) -> dict[str, Any]:
        """One forward pass per image, scale and direction."""
        pool: PoolRows = store.get(self.pool)
        model: nn.Module = store.get(self.classifier)
        features, weight, bias = self.classifier.parts(model)
        dtype = torch.bfloat16 if self.precision == "bf16-true" else torch.float32
        network = fold_batch_norm(features).to(dtype=dtype).to(memory_format=torch.channels_last)

        def forward(images: Tensor) -> Tensor:
            maps: Tensor = network(images.to(dtype))
            return maps.float()

        device, size = store.runtime.device, store.runtime.batch_size
        labels = torch.from_numpy(pool.data.labels)
        maps = []
        starts = range(0, len(pool.rows), size)
        with torch.inference_mode():
            for start in store.runtime.bar(starts, "CAM", len(starts)):
                rows = pool.rows[start : start + size]
                images = normalise(torch.from_numpy(pool.data.images[rows]).to(device))
                maps.append(self._maps(forward, weight, bias, images, labels[rows].to(device)).cpu())
        return self.save(out, pool.data, pool.rows, torch.cat(maps).numpy())

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
            if total is None:
                total = cam
            else:
                total = total + F.interpolate(cam[:, None], total.shape[1:], mode="bilinear")[:, 0]
        assert total is not None
        return normalise_maps(total, self.normalisation)

    def load(self, path: Path, store: Store) -> ScoreMaps:
        """Scores of the pool's images."""
        return self.read(path, store.get(self.pool).data)
