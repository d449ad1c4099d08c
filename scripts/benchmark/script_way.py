"""The sweep as scripts commonly do it: one picture at a time, and files between all the steps.

It is here to be measured against and for nothing else. The score is lost in a colour-blended JPEG, whose grey value is
what gets thresholded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seg.data.prepared import PreparedData


def heat_map(model: nn.Module, features: list[torch.Tensor], photo: Path, label: int, side: int, out: Path) -> None:
    """Forward pass of one picture, its CAM in colours over the photo, saved as JPEG.

    Args:
        model: a ResNet. features: where a hook leaves the last convolution's output.
        photo: the file. label: the class asked for. side: of the network's input. out: the JPEG to write.
    """
    import cv2
    from PIL import Image
    from torchvision.transforms import functional as transforms

    with Image.open(photo) as image:
        rgb = image.convert("RGB")
    tensor = transforms.to_tensor(rgb.resize((side, side)))
    tensor = transforms.normalize(tensor, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        features.clear()
        model(tensor[None])
        linear: Any = model.get_submodule("fc")
        cam = (linear.weight[label] @ features[0][0].flatten(1)).reshape(features[0].shape[2:]).numpy()
    cam = (cam - cam.min()) / max(float(np.ptp(cam)), 1e-12)
    grey = cv2.resize((255 * cam).astype(np.uint8), rgb.size)
    colours = cv2.applyColorMap(grey, cv2.COLORMAP_JET)
    blended = 0.3 * colours + 0.5 * np.asarray(rgb)[..., ::-1]
    cv2.imwrite(str(out), blended.astype(np.uint8))


def mask_of(heat: Path, threshold: float, out: Path) -> None:
    """The heat map read again, its grey value thresholded, opened and closed, saved as PNG."""
    import cv2

    grey: Any = cv2.imread(str(heat), cv2.IMREAD_GRAYSCALE)
    _, mask = cv2.threshold(grey, int(255 * threshold), 255, cv2.THRESH_BINARY)
    kernel = np.ones((5, 5), np.uint8)
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel), cv2.MORPH_CLOSE, kernel)
    cv2.imwrite(str(out), mask)


def confusion(mask: Path, trimap: Path) -> np.ndarray:
    """``int64 (2, 2)`` of one mask, read again, against its trimap; the border is left out."""
    import cv2

    prediction: Any = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    target: Any = cv2.imread(str(trimap), cv2.IMREAD_GRAYSCALE)
    if target.shape != prediction.shape:
        target = cv2.resize(target, prediction.shape[::-1], interpolation=cv2.INTER_NEAREST)
    known = target != 3
    return np.bincount(2 * (target[known] == 1) + (prediction[known] > 127), minlength=4).reshape(2, 2)


def sweep(
    model: nn.Module, photos: Sequence[Path], trimaps: Sequence[Path], labels: Sequence[int], side: int, out: Path
) -> dict[float, float]:
    """One epoch: every picture's heat map, then every threshold's masks and mIoU.

    Args:
        model: a ResNet in evaluation mode.
        photos, trimaps, labels: of the pictures, one of each.
        side: of the network's input in pixels.
        out: a folder for the files.

    Returns:
        mIoU by threshold, 0.1 to 0.9.
    """
    features: list[torch.Tensor] = []
    handle = model.get_submodule("layer4").register_forward_hook(lambda _m, _i, output: features.append(output))
    try:
        for photo, label in zip(photos, labels, strict=True):
            heat_map(model, features, photo, label, side, out / f"{photo.stem}.jpg")
    finally:
        handle.remove()
    result = {}
    for threshold in (n / 10 for n in range(1, 10)):
        masks = out / f"masks_{threshold}"
        masks.mkdir()
        for photo in photos:
            mask_of(out / f"{photo.stem}.jpg", threshold, masks / f"{photo.stem}.png")
        total = np.zeros((2, 2), np.int64)
        for photo, trimap in zip(photos, trimaps, strict=True):
            total += confusion(masks / f"{photo.stem}.png", trimap)
        hit = np.diagonal(total)
        result[threshold] = float(np.mean(hit / np.maximum(total.sum(0) + total.sum(1) - hit, 1)))
    return result


def usable(data: PreparedData, records: Sequence[Any], count: int) -> tuple[list[Path], list[Path], list[int]]:
    """Photos, trimaps and labels of ``count`` pictures that have ground truth, spread over the data."""
    own = [r for r in records if r.trimap is not None and r.id in data.row_of]
    own = [own[i * len(own) // count] for i in range(min(count, len(own)))]
    return [r.image for r in own], [r.trimap for r in own], [r.labels[0] for r in own]
