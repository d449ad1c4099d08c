"""From stored images to a network's input; augmentation for all trainings."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

#: ImageNet's channel means and standard deviations, as torchvision's weights expect them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(images: np.ndarray | Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """``uint8 (B, H, W, 3)`` RGB to ``float32 (B, 3, H, W)``, channels-last, normalised as ImageNet's by default."""
    tensor = torch.as_tensor(images)
    if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (B, H, W, 3), not {tensor.dtype} {tuple(tensor.shape)}")
    scale = torch.tensor([255 * s for s in std], device=tensor.device)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=tensor.device)
    # Permuting (B, H, W, 3) gives channels-last memory without a copy.
    return tensor.float().div_(scale).sub_(shift).permute(0, 3, 1, 2)


def crop(array: np.ndarray, side: int, at: Sequence[float], fill: int | Sequence[int]) -> np.ndarray:
    """Crop a square from an image or mask, padded where the array is smaller.

    Args:
        array: ``(H, W, ...)``. side: of the square in pixels.
        at: vertical and horizontal position in [0, 1]: of the square between its first and last place, or of the array
            in the square along an axis where the array is shorter.
        fill: value of the padding.

    Returns:
        ``(side, side, ...)``.
    """
    out = np.full((side, side, *array.shape[2:]), fill, array.dtype)
    starts = [round(share * (length - side)) for share, length in zip(at, array.shape, strict=False)]
    taken = array[tuple(slice(max(start, 0), max(start, 0) + side) for start in starts)]
    top, left = (max(-start, 0) for start in starts)
    out[top : top + taken.shape[0], left : left + taken.shape[1]] = taken
    return out


def augment(
    images: Tensor,
    masks: Tensor | None,
    generator: torch.Generator,
    *,
    flip: bool = True,
    zoom: float = 1.0,
    jitter: float = 0.0,
) -> tuple[Tensor, Tensor | None]:
    """Augment a batch of images and their masks.

    Args:
        images: ``float32 (B, 3, H, W)``, normalised.
        masks: ``(B, H, W)``, ``uint8`` codes or floats, resampled to the nearest pixel; or None.
        generator: source of all randomness, on the CPU.
        flip: mirror each image horizontally with probability 1/2.
        zoom: smallest side of a random crop, as a share of the image; crops are resized to the full size.
        jitter: contrast, brightness and the gain of each channel vary by up to this factor.

    Returns:
        Tensors of the same shapes and dtypes.
    """
    b = len(images)
    if flip or zoom < 1:
        sign = torch.where(torch.rand(b, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(b)
        side = 1 - (1 - zoom) * torch.rand(b, 2, generator=generator)
        shift = (1 - side) * (2 * torch.rand(b, 2, generator=generator) - 1)
        if zoom < 1:
            theta = torch.zeros(b, 2, 3)
            theta[:, 0, 0], theta[:, 1, 1] = sign * side[:, 0], side[:, 1]
            theta[:, :, 2] = shift
            size = [b, 1, *images.shape[2:]]
            grid = F.affine_grid(theta, size, align_corners=False).to(images.device)
            images = F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
            if masks is not None:
                moved = F.grid_sample(masks[:, None].float(), grid, "nearest", "reflection", align_corners=False)
                masks = moved[:, 0].to(masks.dtype)
        else:
            mirror = (sign < 0).to(images.device)
            images = torch.where(mirror[:, None, None, None], images.flip(3), images)
            if masks is not None:
                masks = torch.where(mirror[:, None, None], masks.flip(2), masks)
    if jitter > 0:
        spread = lambda *shape: 1 + jitter * (2 * torch.rand(*shape, generator=generator) - 1)  # noqa: E731
        gain = (spread(b, 1, 1, 1) * (1 + (spread(b, 3, 1, 1) - 1) / 2)).to(images.device)
        images = images * gain + (spread(b, 1, 1, 1) - 1).to(images.device)
    return images.contiguous(memory_format=torch.channels_last), masks
