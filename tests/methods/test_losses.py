"""The loss of a segmenter."""

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from seg.methods.losses import focal_loss


def some(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 9, 7, generator=generator)
    masks = torch.randint(0, 3, (2, 9, 7), generator=generator).to(torch.uint8)
    return logits, torch.where(masks == 2, 255, masks).to(torch.uint8)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_torchvisions_on_the_known_pixels(gamma: float) -> None:
    logits, masks = some()
    known = masks != 255
    expected = sigmoid_focal_loss(logits[known], (masks == 1).float()[known], alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(focal_loss(logits, masks, gamma), expected)


def test_ignored_pixels_have_no_gradient() -> None:
    logits, masks = some()
    logits.requires_grad_()
    focal_loss(logits, masks).backward()
    assert logits.grad is not None
    assert (logits.grad[masks == 255] == 0).all() and (logits.grad[masks != 255] != 0).all()
    # Their values do not matter either.
    moved = torch.where(masks == 255, 100.0, logits.detach())
    assert focal_loss(moved, masks) == focal_loss(logits.detach(), masks)


def test_sure_answers_have_finite_gradients() -> None:
    logits = torch.tensor([[[90.0, -90.0], [90.0, -90.0]]], requires_grad=True)
    masks = torch.tensor([[[1, 0], [0, 1]]], dtype=torch.uint8)
    focal_loss(logits, masks, 0.5).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_two_classes_are_the_binary_loss() -> None:
    """A softmax of 0 and a logit is its logistic function."""
    logits, masks = some()
    two = torch.stack([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(focal_loss(two, masks, 0.5), focal_loss(logits, masks, 0.5))
