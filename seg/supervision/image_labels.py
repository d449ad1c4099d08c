"""A linear image classifier on frozen features as a stage."""

import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.data.prepared import Prepared, PreparedData
from seg.errors import SegError
from seg.methods.image_labels import fit_label_probe
from seg.nets.backbones import make_classifier
from seg.nets.pretrained import known_backbone, weights_of
from seg.store import Products, Stage, param
from seg.supervision.scores import infer

log = logging.getLogger(__name__)


class ImageLabels(Stage):
    """A frozen backbone with a linear layer that is fitted to trainval's labels (:func:`seg.methods.fit_label_probe`).

    The product is the network, ``float32 (B, 3, S, S)`` normalised images to ``float32 (B, K)`` logits.

    Attributes:
        data: the prepared images. backbone, weights: as for :func:`seg.nets.backbones.make_classifier`.
        size: side of the network's input in pixels.
    """

    what: ClassVar[str] = "image labels"

    data: Prepared
    backbone: str = param(default="mobilenet_v2", content=known_backbone)
    weights: str | None = param(default="DEFAULT", content=weights_of("backbone", "image_labels."))
    size: int = param(default=320, low=64)

    def check(self, store: Products) -> None:
        if self.weights is None:
            raise SegError("image_labels.weights=null: needs pretrained features; give ImageNet's weights, or a file")
        try:
            make_classifier(self.backbone, 2, self.weights, section="image_labels.")
        except SegError as error:
            raise SegError(f"{error}; image_labels=none does without") from error

    def shape(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "size": self.size}

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        data: PreparedData = store.get(self.data)
        rows = np.flatnonzero(~data.is_test)
        backbone = make_classifier(self.backbone, 2, self.weights).eval().to(store.runtime.device)

        def pooled(images: Tensor, _: np.ndarray) -> Tensor:
            return backbone.features(resized(images, self.size)).mean((2, 3))

        found = np.concatenate(list(infer(pooled, data, rows, store.runtime, self.what)))
        try:
            with torch.inference_mode(False):
                probe = fit_label_probe(torch.from_numpy(found), torch.from_numpy(data.is_labelled[rows]))
        except ValueError as error:
            raise SegError(f"image_labels: {error}; image_labels=none does without") from error
        log.info("image labels: all correct in %.0f %% of held-out images (cross-validation)", 100 * probe.exact_match)
        np.savez(out / "linear.npz", weight=probe.weight.numpy(), bias=probe.bias.numpy())
        return {"images": len(rows), "variance": probe.variance, "exact_match": round(probe.exact_match, 3)}

    def load(self, path: Path, store: Products) -> nn.Module:
        linear = np.load(path / "linear.npz")
        model = make_classifier(self.backbone, len(linear["bias"]), self.weights)
        model.linear.load_state_dict({k: torch.from_numpy(linear[k]) for k in ("weight", "bias")})
        return model.eval()


def resized(images: Tensor, side: int) -> Tensor:
    """Images ``(B, 3, S, S)`` to ``(B, 3, side, side)``."""
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)
