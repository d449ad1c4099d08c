"""From stored bytes to a network's input."""

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms.functional import normalize

from seg.nets.augment import MEAN, STD, augment, normalise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(n: int = 16, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose first channel says what their mask is."""
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(np.asarray([0, 1, 255], np.uint8)[rng.integers(0, 3, (n, 4, 4))])
    masks = F.interpolate(codes[:, None].float(), (side, side), mode="nearest")[:, 0].to(torch.uint8)
    images = torch.from_numpy(rng.standard_normal((n, 3, side, side)).astype(np.float32))
    images[:, 0] = masks.float()
    return images, masks


def test_normalise_is_torchvisions() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    made = normalise(raw)
    expected = normalize(torch.from_numpy(raw).permute(0, 3, 1, 2) / 255, list(MEAN), list(STD))
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_a_flip_takes_the_mask_along() -> None:
    images, masks = some()
    made, moved = augment(images, masks, generator(), flip=True)
    assert moved is not None
    mirrored = [torch.equal(m, i.flip(2)) for m, i in zip(made, images, strict=True)]
    kept = [torch.equal(m, i) for m, i in zip(made, images, strict=True)]
    assert 0 < sum(mirrored) < 16 and sum(mirrored) + sum(kept) == 16
    assert torch.equal(augment(images, masks, generator(), flip=False)[0], images)
    assert torch.equal(made[:, 0], moved.float())


def test_a_crop_takes_the_mask_along_and_blends_no_label() -> None:
    images, masks = some(side=64)
    made, moved = augment(images, masks, generator(), zoom=0.5)
    assert torch.equal(made, augment(images, None, generator(), zoom=0.5)[0])
    assert moved is not None and moved.dtype == torch.uint8 and moved.shape == masks.shape
    assert set(moved.unique().tolist()) <= {0, 1, 255}
    assert not torch.equal(moved, masks)
    # The image is interpolated between two blocks; inside of a block it says what the mask says.
    same = (made[:, 0] - moved.float()).abs() < 1e-3
    assert same.float().mean() > 0.85


def test_jitter_moves_within_its_range() -> None:
    ones = torch.ones(200, 3, 4, 4)
    made, _ = augment(ones, None, generator(), flip=False, jitter=0.2)
    assert (made.amax((2, 3)) == made.amin((2, 3))).all()  # an image's channel moves as a whole
    assert made.min() >= 0.8 * 0.9 - 0.2 and made.max() <= 1.2 * 1.1 + 0.2
    assert made[:, 0, 0, 0].std() > 0.05 and (made[:, 0] != made[:, 1]).any()
