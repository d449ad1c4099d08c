"""AffinityNet and the random walk as stages."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.backbones import load_into, make_classifier, split_at_pooling
from seg.data.augment import augment, normalise
from seg.errors import SegError
from seg.refiner.affinity_net import AffinityNet, FrozenAffinityNet, affinity_loss
from seg.refiner.walk import random_walk
from seg.seeds import MaskSet, Seeds
from seg.stage import Stage, param
from seg.store import Store
from seg.supervision.cam import normalise_maps
from seg.supervision.classifier import Classifier
from seg.supervision.scores import ScoreMaps, ScoreStage
from seg.train import Training


def check_start(stage: "Affinity | FrozenAffinity") -> None:
    """Where the backbone starts: from weights, or from the classifier, which is upstream only then.

    Raises:
        SegError: neither is given, or the classifier is of another backbone.
    """
    if stage.weights is not None:
        object.__setattr__(stage, "classifier", None)
    elif stage.classifier is None:
        raise SegError("refiner: AffinityNet needs weights= (ImageNet's, or a file) or a classifier")
    elif stage.classifier.backbone != stage.backbone:
        raise SegError(
            f"refiner: backbone={stage.backbone} has no weights and cannot start from a classifier of "
            f"{stage.classifier.backbone}; give weights= or use one backbone for both"
        )


def fresh_backbone(stage: "Affinity | FrozenAffinity") -> nn.Module:
    """The backbone without the classifier's weights."""
    # A classifier without its last stage has no weights for one.
    return make_classifier(stage.backbone, 2, stage.weights, stage.classifier.stages if stage.classifier else 4)


def started_backbone(stage: "Affinity | FrozenAffinity", store: Store) -> nn.Module:
    """The backbone with its weights."""
    backbone = fresh_backbone(stage)
    if stage.classifier is not None:
        # By its weights, not the object: a classifier that was dilated lacks the coarse levels.
        _, head = split_at_pooling(backbone, stage.backbone)
        # The product itself stays where it is: the store hands it to others too.
        trained = {k: v.cpu() for k, v in store.get(stage.classifier).state_dict().items()}
        load_into(backbone, trained, head=head, what="the classifier")
    return backbone


class Affinity(Training):
    """AffinityNet, trained on the confident seeds of trainval's images.

    Attributes:
        seeds: confident foreground and background, the rest ignored.
        backbone: torchvision's name.
        weights: of the backbone; null starts it from the trained classifier instead.
        classifier: where the backbone starts when there are no weights.
        strides: the backbone's levels that are used.
        channels: width of each level's 1 x 1 convolution and of the embedding.
        radius: reach of the walk's pairs, in cells of the grid (a quarter of the working resolution).
        train_radius: reach of the pairs learnt from; wider, for confident seeds of different kinds lie apart.
        pairs: so many of these pairs' offsets are drawn for every step.
        train_backbone: whether the backbone learns too.
    """

    what: ClassVar[str] = "AffinityNet"
    role: ClassVar[str] = "affinity"

    seeds: Seeds
    backbone: str = param(default="resnet18")
    weights: str | None = param(default=None, file=True)
    classifier: Classifier | None = param(default=None)
    strides: tuple[int, ...] = param(default=(4, 8, 16))
    channels: int = param(default=32, low=1)
    radius: float = param(default=5.0, above=1)
    train_radius: float = param(default=12.0, above=1)
    pairs: int = param(default=8, low=1)
    train_backbone: bool = param(default=False)

    def validate(self) -> None:
        """The classifier is upstream only if its weights are used."""
        super().validate()
        if self.checkpoint is None:
            check_start(self)

    def check(self, store: Store) -> None:
        """Load the weights once, before anything long, and see that the backbone has the levels."""
        if self.checkpoint is None:
            self._net(fresh_backbone(self))
        else:
            self.load_given(store)

    def shape(self) -> dict[str, Any]:
        """What decides how given weights are used."""
        return {
            "backbone": self.backbone,
            "strides": self.strides,
            "channels": self.channels,
            "radius": self.radius,
        }

    def empty(self, store: Store) -> nn.Module:
        """AffinityNet with random weights."""
        # A classifier's missing last stage is no level of AffinityNet's, so nothing of it has to be known.
        return self._net(make_classifier(self.backbone, 2, None))

    def network(self, store: Store) -> nn.Module:
        """AffinityNet with its backbone's weights and fresh 1 x 1 convolutions."""
        backbone = started_backbone(self, store)
        torch.manual_seed(self.seed)
        return self._net(backbone)

    def _net(self, backbone: nn.Module) -> AffinityNet:
        return AffinityNet(
            backbone,
            strides=self.strides,
            channels=self.channels,
            radius=self.radius,
            train_radius=self.train_radius,
            train_backbone=self.train_backbone,
        )

    def samples(self, store: Store) -> np.ndarray:
        """Positions in the seeds of trainval's images."""
        seeds: MaskSet = store.get(self.seeds)
        return np.flatnonzero(~seeds.data.is_test[seeds.rows])

    def batch(self, rows: np.ndarray, generator: torch.Generator, store: Store) -> tuple[Tensor, ...]:
        """Augmented images ``(B, 3, S, S)`` and seeds ``uint8 (B, S / 4, S / 4)``."""
        seeds: MaskSet = store.get(self.seeds)
        images, masks = augment(
            normalise(seeds.data.images[seeds.rows[rows]]),
            torch.from_numpy(seeds.at(rows)),
            generator,
            flip=self.flip,
            zoom=self.zoom,
            jitter=self.jitter,
        )
        assert masks is not None
        return images, to_grid(masks)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """The balanced loss over pairs of confident positions."""
        images, seeds = batch
        net: Any = getattr(model, "module", model)
        offsets = net.draw_offsets(self.pairs)
        return affinity_loss(model(images, offsets), seeds, offsets), {}


class FrozenAffinity(Stage):
    """The backbone's features as they are: the walk with nothing trained, for comparison.

    Attributes:
        backbone, weights, classifier, strides, radius: as of :class:`Affinity`.
    """

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "frozen features"

    backbone: str = param(default="resnet18")
    weights: str | None = param(default=None, file=True)
    classifier: Classifier | None = param(default=None)
    strides: tuple[int, ...] = param(default=(8, 16))
    radius: float = param(default=5.0, above=1)

    def validate(self) -> None:
        """The classifier is upstream only if its weights are used."""
        check_start(self)

    def check(self, store: Store) -> None:
        """Load the weights once, before anything long, and see that the backbone has the levels."""
        FrozenAffinityNet(fresh_backbone(self), self.strides, self.radius)

    def load(self, path: Path, store: Store) -> FrozenAffinityNet:
        """The network, on the device of inference."""
        net = FrozenAffinityNet(started_backbone(self, store), self.strides, self.radius)
        return net.to(store.runtime.device).eval()


def to_grid(masks: Tensor) -> Tensor:
    """``uint8 (B, H, W)`` labels to ``(B, ceil(H / 4), ceil(W / 4))``, each from the nearest pixel."""
    size = [-(-s // 4) for s in masks.shape[-2:]]
    return F.interpolate(masks[:, None].float(), size, mode="nearest-exact")[:, 0].to(torch.uint8)


class Walk(ScoreStage):
    """The scores after a random walk with the affinities (Ahn and Kwak, eq. 7 and 8).

    Attributes:
        scores: of the supervision. affinity: the trained AffinityNet, or frozen features.
        beta: power of the affinities. log_steps: the walk takes ``2 ** log_steps`` steps.
        rescale: bring each walked map back to [0, 1]; the walk draws all scores towards each other, by how much
            differs from image to image.
    """

    what: ClassVar[str] = "random walk"

    scores: ScoreStage
    affinity: Affinity | FrozenAffinity
    beta: float = param(default=8.0, above=0)
    log_steps: int = param(default=8, low=0, high=16)
    rescale: bool = param(default=True)

    def build(self, out: Path, store: Store) -> dict[str, Any]:
        """Affinities and walk, batch by batch; nothing of size n x n is ever formed."""
        scores: ScoreMaps = store.get(self.scores)
        net: AffinityNet | FrozenAffinityNet = store.get(self.affinity)
        device, data = store.runtime.device, scores.data
        grid = (-(-data.side // 4),) * 2
        values = np.lib.format.open_memmap(out / "scores.npy", "w+", np.float16, (len(scores), *grid))
        size = min(store.runtime.batch_size, 32)
        with torch.inference_mode():
            for start in store.runtime.bar(range(0, len(scores), size), "random walk"):
                part = np.arange(start, min(start + size, len(scores)))
                images = normalise(torch.from_numpy(data.images[scores.rows[part]]).to(device))
                start_scores = torch.from_numpy(scores.at(part, grid)).to(device)
                # What nobody knows starts undecided.
                start_scores = start_scores.nan_to_num(0.5)
                walked = random_walk(
                    net(images),
                    start_scores[:, None],
                    offsets=net.offsets,
                    beta=self.beta,
                    steps=2**self.log_steps,
                )
                walked = walked[:, 0].clamp(0, 1)
                if self.rescale:
                    walked = normalise_maps(walked, "minmax")
                values[part] = walked.half().cpu().numpy()
        values.flush()
        return self.describe(out, data, scores.rows, grid)

    def load(self, path: Path, store: Store) -> ScoreMaps:
        """Walked scores on the grid."""
        return self.read(path, store.get(self.scores).data)


class Refined(Seeds):
    """Walked scores to pseudo masks."""

    what: ClassVar[str] = "refined masks"

    scores: Walk


class Unrefined(Stage):
    """``refiner=none``: the seeds as they are."""

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "no refiner"

    seeds: Seeds

    def load(self, path: Path, store: Store) -> MaskSet:
        """The seeds."""
        masks: MaskSet = store.get(self.seeds)
        return masks
