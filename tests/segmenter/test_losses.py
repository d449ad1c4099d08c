"""The losses of a segmenter, and what they are taken against."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from seg.segmenter.losses import corrected, focal_loss, look, posterior, probabilities, second_views, soft_targets


def some(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 9, 7, generator=generator)
    masks = torch.randint(0, 3, (2, 9, 7), generator=generator).to(torch.uint8)
    return logits, torch.where(masks == 2, 255, masks).to(torch.uint8)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_torchvisions_on_the_known_pixels(gamma: float) -> None:
    logits, masks = some()
    known = masks != 255
    expected = sigmoid_focal_loss(logits[known], (masks == 1).float()[known], alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(focal_loss(logits, masks, gamma), expected)


def test_without_focus_it_is_the_cross_entropy() -> None:
    logits, masks = some()
    known = masks != 255
    expected = F.binary_cross_entropy_with_logits(logits[known], (masks == 1).float()[known])
    torch.testing.assert_close(focal_loss(logits, masks, 0.0), expected)


def test_ignored_pixels_have_no_gradient() -> None:
    logits, masks = some()
    logits.requires_grad_()
    focal_loss(logits, masks).backward()
    assert logits.grad is not None
    assert (logits.grad[masks == 255] == 0).all() and (logits.grad[masks != 255] != 0).all()
    # Their values do not matter either.
    moved = torch.where(masks == 255, 100.0, logits.detach())
    assert focal_loss(moved, masks) == focal_loss(logits.detach(), masks)


def test_nothing_known_is_no_loss() -> None:
    logits = torch.ones(1, 2, 2, requires_grad=True)
    loss = focal_loss(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8))
    loss.backward()
    assert loss == 0 and logits.grad is not None and logits.grad.eq(0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sure_answers_have_finite_gradients(gamma: float) -> None:
    logits = torch.tensor([[[90.0, -90.0], [90.0, -90.0]]], requires_grad=True)
    masks = torch.tensor([[[1, 0], [0, 1]]], dtype=torch.uint8)
    focal_loss(logits, masks, gamma).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_soft_targets_of_0_and_1_have_the_loss_of_masks_to_the_last_digit(gamma: float) -> None:
    logits, masks = some()
    soft = torch.where(masks == 255, torch.nan, masks.float())
    results = []
    for targets in (masks, soft):
        given = logits.clone().requires_grad_()
        loss = focal_loss(given, targets, gamma)
        loss.backward()
        assert given.grad is not None
        results.append((loss.detach(), given.grad))
    (hard, of_hard), (of_soft, gradient) = results
    assert torch.equal(hard, of_soft) and torch.equal(of_hard, gradient)


def test_soft_targets_have_the_quality_focal_loss() -> None:
    logits, _ = some()
    targets = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(focal_loss(logits, targets, 0.0), entropy.mean())
    for gamma in (0.5, 2.0):
        expected = ((targets - logits.sigmoid()).abs() ** gamma * entropy).mean()
        torch.testing.assert_close(focal_loss(logits, targets, gamma), expected)
        answers = targets.logit().requires_grad_()
        loss = focal_loss(answers, targets, gamma)
        loss.backward()
        assert loss < 1e-3 and answers.grad is not None and answers.grad.isfinite().all()


def test_scores_as_probabilities() -> None:
    scores = np.asarray([[[0.0, 0.2, 0.4, 0.5, 0.8, 0.9, 1.0, np.nan]]], np.float32)
    masks = np.asarray([[[0, 0, 255, 255, 1, 1, 1, 255]]], np.uint8)
    nan = np.nan
    found = soft_targets(scores, masks, 0.4, 0.8, 1.0)
    np.testing.assert_allclose(found[0, 0], [0, 0.25, nan, nan, 0.5, 0.75, 1, nan], atol=1e-6)
    np.testing.assert_allclose(
        soft_targets(scores, masks, 0.4, 0.8, 0.5)[0, 0], [0, 0.125, nan, nan, 0.75, 0.875, 1, nan], atol=1e-6
    )
    np.testing.assert_array_equal(soft_targets(scores, masks, 0.4, 0.8, 0.0)[0, 0], [0, 0, nan, nan, 1, 1, 1, nan])
    # What was cleaned up is not known to be either; bounds at the ends divide by nothing.
    np.testing.assert_array_equal(soft_targets(scores, 1 - masks, 0.5, 0.5, 1.0)[0, 0, [0, 1, 4, 6]], [0.5] * 4)
    np.testing.assert_array_equal(soft_targets(scores[..., [0, 6]], masks[..., [0, 6]], 1.0, 1.0, 1.0)[0, 0], [0, 1])
    np.testing.assert_array_equal(soft_targets(scores[..., [0]], masks[..., [6]], 0.0, 0.0, 1.0)[0, 0], [0.5])


def test_only_where_the_teacher_is_sure_it_is_believed() -> None:
    teacher = torch.tensor([0.0, 0.1, 0.11, 0.5, 0.89, 0.9, 1.0])
    masks = torch.tensor([1, 1, 1, 255, 0, 0, 255], dtype=torch.uint8)
    assert corrected(masks, teacher[:, None], 0.9).tolist() == [0, 0, 1, 255, 0, 1, 1]
    soft = corrected(torch.full((7,), 0.3), teacher[:, None], 0.9)
    torch.testing.assert_close(soft, torch.tensor([0.0, 0.0, 0.3, 0.3, 0.3, 1.0, 1.0]))
    classes = torch.tensor([[0.95, 0.03, 0.02], [0.05, 0.05, 0.9], [0.5, 0.4, 0.1]])
    assert corrected(torch.tensor([1, 1, 255], dtype=torch.uint8), classes, 0.9).tolist() == [0, 2, 255]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_of_several_classes_too(gamma: float) -> None:
    """At the minimum over the network's answers of what a known share of each class costs."""
    logits = torch.tensor([0.3, -0.5, 1.1])[None, :, None, None].requires_grad_()
    q = posterior(probabilities(logits.detach()), gamma)
    torch.testing.assert_close(q.sum(1), torch.ones(1, 1, 1))
    losses = [focal_loss(logits, torch.full((1, 1, 1), k, dtype=torch.uint8), gamma) for k in range(3)]
    (slope,) = torch.autograd.grad(sum(q[0, k, 0, 0] * loss for k, loss in enumerate(losses)), logits)  # type: ignore[arg-type]
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0)
    # Two classes are the binary way: a softmax of 0 and a logit is its logistic.
    one = torch.linspace(-3, 3, 7)[:, None, None]
    two = torch.stack([torch.zeros_like(one), one], 1)
    target = torch.tensor([0, 1, 255, 1, 0, 1, 0], dtype=torch.uint8)[:, None, None]
    torch.testing.assert_close(focal_loss(two, target, gamma), focal_loss(one, target, gamma))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_the_posterior_is_where_the_focal_loss_is_least(gamma: float) -> None:
    p = torch.linspace(0.01, 0.99, 99)[:, None]
    for answer in (0.2, 0.5, 0.7, 0.9):
        q = posterior(torch.tensor([[answer]]), gamma)[0, 0]
        logit = torch.tensor([[[answer]]]).logit().requires_grad_()
        losses = [focal_loss(logit, torch.full((1, 1, 1), v, dtype=torch.uint8), gamma) for v in (0, 1)]
        (slope,) = torch.autograd.grad((1 - q) * losses[0] + q * losses[1], logit)
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0)
    torch.testing.assert_close(posterior(p, 0.0), p, atol=1e-5, rtol=0)
    assert posterior(torch.tensor([[0.0], [0.5], [1.0]]), gamma)[:, 0].tolist() == pytest.approx([0, 0.5, 1], abs=1e-4)


def test_second_views_are_mirrored_and_stay_within_the_image() -> None:
    theta = second_views(200, 0.6, torch.Generator().manual_seed(0))
    side, shift = theta[:, 1, 1], theta[:, :, 2]
    assert (theta[:, 0, 0] == -side).all() and 0.6 <= side.min() < 0.65 and 0.95 < side.max() <= 1
    assert (side[:, None] + shift.abs() <= 1 + 1e-6).all() and theta[:, 0, 1].eq(0).all() and theta[:, 1, 0].eq(0).all()
    maps = torch.rand(2, 3, 8, 6)
    torch.testing.assert_close(look(maps, second_views(2, 1.0, torch.Generator())), maps.flip(3))
    # Of a ramp, a half in the middle is the ramp of half the slope, run through backwards.
    ramp = ((torch.arange(16) + 0.5) / 16).expand(1, 1, 16, 16)
    half = torch.tensor([[[-0.5, 0, 0], [0, 0.5, 0]]])
    torch.testing.assert_close(look(ramp, half), 0.25 + 0.5 * ramp.flip(3))
