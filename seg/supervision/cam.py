"""Class activation maps in closed form (Zhou et al., CVPR 2016)."""

import logging
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
from seg.nets.resize import class_activation_maps, normalise_maps
from seg.store import Products, param
from seg.supervision.classifier import Classifier
from seg.supervision.scores import ScoreStage, infer
from seg.supervision.shared import SharedFeatures
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

        data, source = pool.data, pool.data.as_read  # the network knows all classes, the masks perhaps one
        logistic = self.design.is_logistic(source)
        asked = [[label + 1 for label in source.label_sets[row]] for row in pool.rows]
        class_ids = asked if source is data else [[1]] * len(asked)
        if self.target == "label" and (without := sum(not codes for codes in asked)):
            log.info("CAM: %d images have no label: all of them is background", without)

        def maps(images: Tensor, part: np.ndarray) -> Tensor:
            if shared:
                shared.begin(part)
            if self.target == "predicted":
                # The classifier's answer is at the working resolution, whatever scales the maps are of.
                asked[part[0] : part[-1] + 1] = predicted(forward(images).mean((2, 3)) @ weight.T + bias, logistic)
            codes = asked[part[0] : part[-1] + 1]
            if source is not data:
                class_ids[part[0] : part[-1] + 1] = [[1] if own else [] for own in codes]
            labels = torch.tensor([code - 1 for one in codes for code in one], dtype=torch.int64, device=images.device)
            if all(len(one) == 1 for one in codes):
                return self._maps(forward, weight, images, labels)
            if len(labels) == 0:  # as large as the others, and none of them
                return self._maps(forward, weight, images[:1], labels.new_zeros(1))[:0]
            of = torch.repeat_interleave(torch.tensor(list(map(len, codes)), device=images.device))
            made = self._maps(forward, weight, images, labels, of)
            if source is data:
                return made
            # Of the foreground, what speaks for any of its classes.
            largest = made.new_zeros(len(part), *made.shape[1:])
            largest.scatter_reduce_(0, of[:, None, None].expand_as(made), made, "amax")
            return largest[of.unique()]

        parts = infer(maps, data, pool.rows, store.runtime, "CAM")
        return self.save(out, data, pool.rows, parts, class_ids)

    def _maps(
        self,
        features: Callable[[Tensor], Tensor],
        weight: Tensor,
        images: Tensor,
        labels: Tensor,
        image: Tensor | None = None,
    ) -> Tensor:
        """Of the classes ``labels``, of the images ``image`` (None: one of each)."""
        side = images.shape[-1]
        sides = [max(32, round(side * scale / 32) * 32) for scale in self.scales]
        total: Tensor | None = None
        for s in sorted(sides, reverse=True):
            resized = images if s == side else F.interpolate(images, (s, s), mode="bilinear", antialias=True)
            cam = class_activation_maps(features(resized), weight, labels, image)
            if self.flip:
                mirrored = class_activation_maps(features(resized.flip(3)), weight, labels, image)
                cam = (cam + mirrored.flip(2)) / 2
            cam = normalise_maps(cam, self.normalisation)
            if total is not None:
                cam = total + F.interpolate(cam[:, None], total.shape[1:], mode="bilinear")[:, 0]
            total = cam
        assert total is not None
        return normalise_maps(total, self.normalisation)


def predicted(logits: Tensor, logistic: bool) -> list[list[int]]:
    """The masks' codes of the classes that a classifier finds in images, from its ``float (B, classes)`` logits."""
    if not logistic:
        return [[int(label) + 1] for label in logits.argmax(1)]
    return [(one > 0).nonzero()[:, 0].add(1).tolist() for one in logits.cpu()]
