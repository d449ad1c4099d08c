"""CAM for the image's label against torchcam's and grad-cam's, all from the same tensors in memory."""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.cases import Skipped
from benchmark.lab import Lab
from benchmark.machine import has_bfloat16
from benchmark.measure import Sample, interleaved
from benchmark.rows import Goal, Row
from seg.config.tree import make_objects
from seg.methods.cam import class_activation_maps, normalise_maps
from seg.nets.augment import normalise
from seg.nets.backbones import fold_batch_norm


def run(lab: Lab) -> Iterator[Row]:
    """Each as its documentation shows it, in batches; the maps are compared after the peer's own normalisation."""
    sizes = lab.sizes
    cfg, store = lab.config(sizes.batch), lab.store()
    classifier: Any = make_objects(cfg, "classifier")
    data = store.get(classifier.data)
    model = classifier.network(store).eval().model  # torchvision's own
    rows = np.arange(min(sizes.batch, len(data)))
    labels = torch.from_numpy(data.labels[rows])
    images = normalise(data.images[rows])
    dense = images.contiguous()  # as a transform to a tensor leaves it
    own = classifier.network(store).eval().to(memory_format=torch.channels_last)
    own.load_state_dict(model.state_dict())
    features, weight, bias = own.split()[1], own.linear.weight.detach(), own.linear.bias.detach()
    folded = fold_batch_norm(features).to(memory_format=torch.channels_last)
    parts, halves = (folded, weight, bias), (copy.deepcopy(folded).bfloat16(), weight, bias)

    def ours() -> Tensor:
        return our_maps(parts, images, labels)

    def ours_half() -> Tensor:
        return our_maps(halves, images, labels)

    note = f"batch {len(rows)}, {data.side} px, ResNet-18; a forward pass is all that either needs, so it is the limit"
    with torchcam_of(model) as extractor:
        fast, half, slow, slow_last = interleaved(
            [
                lambda: normalise_maps(ours(), "minmax"),
                lambda: normalise_maps(ours_half(), "minmax"),
                lambda: torchcam_maps(extractor, model, dense, labels),
                lambda: torchcam_maps(extractor, model, images, labels),
            ],
            sizes.repeats,
        )
        theirs = torchcam_maps(extractor, model, dense, labels)
    goal = Goal("speed", 2)
    yield from both(
        fast,
        half,
        "torchcam CAM, batched",
        slow,
        goal,
        note,
        [normalise_maps(m(), "minmax") for m in (ours, ours_half)],
        theirs,
    )
    yield Row("CAM of the image's label", fast, "torchcam CAM, batched, given channels-last input", slow_last)

    gradcam = gradcam_of(model)
    fast, half, slow = interleaved([ours, ours_half, lambda: gradcam_maps(gradcam, dense, labels)], sizes.repeats)
    theirs = torch.from_numpy(gradcam_maps(gradcam, dense, labels))
    note = (
        f"batch {len(rows)}; GradCAM adds a backward pass and scales its maps to {data.side} px; "
        "with global pooling it is CAM"
    )
    mine = [torch.from_numpy(like_gradcam(make(), data.side)) for make in (ours, ours_half)]
    yield from both(fast, half, "grad-cam GradCAM, batched", slow, Goal("speed", 5), note, mine, theirs)


def both(
    full: Sample, half: Sample, peer: str, slow: Sample, goal: Goal, note: str, mine: list[Tensor], theirs: Tensor
) -> Iterator[Row]:
    """A row in float32, and one in bfloat16 where the CPU computes in it; the peer as it comes, in float32."""
    kinds = [("", full), (", bfloat16", half)] if has_bfloat16() else [("", full)]
    for (kind, sample), maps in zip(kinds, mine, strict=False):
        differ = f"; largest difference of the maps {(maps - theirs).abs().max():.1e}"
        yield Row(f"CAM of the image's label{kind}", sample, peer, slow, goal, note=note + differ)


def our_maps(parts: tuple[nn.Module, Tensor, Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Ours, not normalised: ``float32 (B, h, w)``."""
    features, weight, _ = parts
    with torch.inference_mode():
        images = images.to(next(features.parameters()).dtype)
        return class_activation_maps(features(images).float(), weight, labels)


def torchcam_of(model: nn.Module) -> Any:
    """torchcam's extractor for a ResNet; a context that removes its hooks in the end."""
    try:
        from torchcam.methods import CAM
    except ImportError as error:
        raise Skipped("torchcam is not installed: pip install 'weakseg[bench]'") from error
    logging.getLogger("torchcam").setLevel(logging.ERROR)
    return CAM(model, "layer4", "fc")


def torchcam_maps(extractor: Any, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Its maps ``float32 (B, h, w)`` in [0, 1], each from its minimum to its maximum."""
    with torch.inference_mode():
        model(images)
        maps: Tensor = extractor(labels.tolist())[0]
    return maps


def gradcam_of(model: nn.Module) -> Any:
    """grad-cam's GradCAM for a ResNet."""
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError as error:
        raise Skipped("grad-cam is not installed: pip install 'weakseg[bench]'") from error
    return GradCAM(model=model, target_layers=[model.get_submodule("layer4")[-1]])  # type: ignore[index]


def gradcam_maps(gradcam: Any, images: Tensor, labels: Tensor) -> np.ndarray:
    """Its maps ``float32 (B, H, W)`` in [0, 1]: positive part, scaled up to the images."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(int(label)) for label in labels]
    maps: np.ndarray = gradcam(input_tensor=images, targets=targets)
    return maps


def like_gradcam(maps: Tensor, side: int) -> np.ndarray:
    """Our maps, brought to its form by its own function."""
    from pytorch_grad_cam.utils.image import scale_cam_image

    scaled = scale_cam_image(maps.clamp_min(0).numpy(), (side, side))
    return np.asarray(scale_cam_image(np.maximum(scaled, 0)))
