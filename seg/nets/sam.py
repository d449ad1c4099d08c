"""Promptable segmenters of transformers: SAM, SAM-HQ, SAM 2 and EdgeTAM."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg.errors import SegError, first_line
from seg.files import file_sha256
from seg.nets.pretrained import hub_folder, hub_is_reached

#: By transformers' ``model_type``: whether images keep their aspect ratio and are padded, or are resized to a square.
PADDED = {
    "sam": True,
    "sam_hq": True,
    "sam2": False,
    "sam2_video": False,
    "edgetam": False,
    "edgetam_video": False,
}


def content_of_weights(stage: Any, weights: str) -> str:
    """What identifies weights in a key: a repository of the hub, or the content of another folder."""
    folder = hub_folder(weights)
    if folder is None or (weights.count("/") == 1 and not Path(weights).is_dir()):
        return weights
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors", ".bin"))
    return " ".join(f"{file.name}:{file_sha256(file)}" for file in files)


def load_sam(weights: str) -> nn.Module:
    """A network in ``eval`` mode on the CPU, in float32.

    Args:
        weights: a name of the Hugging Face hub, such as ``facebook/sam-vit-base``, downloaded unless ``weights_dir``
            has a folder of that name or of its last part; or a folder with ``config.json`` and the weights.

    Raises:
        SegError: there are none, or those of another network.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder = hub_folder(weights)
    try:
        with torch.random.fork_rng(devices=[]):
            model, report = transformers.AutoModelForMaskGeneration.from_pretrained(
                folder or weights,
                local_files_only=folder is not None or not hub_is_reached(),
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # of many kinds
        raise SegError(
            f"weights={weights}: not loaded ({first_line(error)}); offline put the folder with config.json and "
            f"model.safetensors into weights_dir as {Path(weights).name}, or give its path"
        ) from error
    if model.config.model_type not in PADDED:
        raise SegError(f"weights={weights}: is of type {model.config.model_type}; use one of {', '.join(PADDED)}")
    if lacks := sorted([*report["missing_keys"], *report["mismatched_keys"]]):
        raise SegError(f"weights={weights}: lacks {len(lacks)} of the network's tensors, such as {lacks[0]}")
    return model.eval()


@torch.inference_mode()
def prompted_masks(
    model: nn.Module, images: Tensor, size: tuple[int, int], boxes: Tensor, points: Tensor
) -> list[Tensor]:
    """Candidate masks for prompts in one image, from one pass of the image encoder.

    Args:
        model: from :func:`load_sam`. images: ``float (1, 3, S, S)``, normalised as ImageNet's.
        size: height and width of the image before it was resized to a square.
        boxes: ``float (n, 4)``, ``xmin, ymin, xmax, ymax`` as pixel indices of ``images``.
        points: ``float (n, p, 2)``, ``x, y``, foreground points of each prompt.

    Returns:
        For each prompt ``float (k, S, S)`` in [0, 1] on the CPU; a mask's foreground is above 0.5.
    """
    side, grid = int(model.prompt_encoder.input_image_size), images.shape[2:]  # type: ignore[union-attr, arg-type]
    padded = PADDED[model.config.model_type]  # type: ignore[union-attr, index]
    shape = [max(1, round(side * length / max(size))) if padded else side for length in size]
    resized = F.interpolate(images, shape, mode="bilinear", antialias=True)
    pixels = F.pad(resized, (0, side - shape[1], 0, side - shape[0]))
    # The networks add half a pixel to get to the pixel's centre.
    scale = images.new_tensor([shape[1] / grid[1], shape[0] / grid[0]])
    boxes, points = ((x.to(images) + 0.5) * scale.repeat(x.shape[-1] // 2) - 0.5 for x in (boxes, points))
    answer = model(pixel_values=pixels, input_boxes=boxes[None], input_points=points[None])
    found = []
    for logits in answer.pred_masks[0, :, None]:
        if padded:  # as in transformers' post-processing
            logits = F.interpolate(logits, (side, side), mode="bilinear")[:, :, : shape[0], : shape[1]]
        found.append(F.interpolate(logits, grid, mode="bilinear")[0].sigmoid().cpu())
    return found
