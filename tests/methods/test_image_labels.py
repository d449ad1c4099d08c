"""A linear classifier of whole images, and segmentation that follows it."""

import pytest
import torch

from seg.methods.image_labels import fit_label_probe, follow_labels


def test_a_probe_finds_what_separates_classes_and_not_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand((200, 3), generator=generator) < 0.4
    features = torch.randn((200, 40), generator=generator)
    features[:, :3] += 6 * labels
    features[:, 5] *= 1000  # a feature's unit is no matter
    probe = fit_label_probe(features[:100], labels[:100])
    found = features[100:] @ probe.weight.T + probe.bias > 0
    assert (found == labels[100:]).float().mean() > 0.95
    assert probe.exact_match > 0.85
    noise = fit_label_probe(features[:, 3:], labels)
    assert noise.variance < probe.variance and noise.held_out_loss > 5 * probe.held_out_loss
    with pytest.raises(ValueError, match="3 images: must be at least folds=4"):
        fit_label_probe(features[:3], labels[:3])


def test_a_label_that_all_images_have_is_found_in_all() -> None:
    labels = torch.tensor([[True, i % 2 == 0] for i in range(12)])
    probe = fit_label_probe(torch.randn((12, 4), generator=torch.Generator().manual_seed(0)), labels)
    assert torch.isfinite(probe.weight).all() and probe.bias[0] > 2


def test_following_labels_renames_the_foreground_and_moves_no_outline() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 4, 8, 8), generator=generator)
    sure = torch.tensor([[30.0, -30, -30], [-30, -30, 30]])
    followed = follow_labels(logits, sure)
    for before, after, code in zip(logits, followed, (1, 3), strict=True):
        foreground = before.argmax(0) > 0
        assert torch.equal(after.argmax(0), foreground * code)
        torch.testing.assert_close(after[1:].amax(0), before[1:].amax(0))
    # A classifier that knows nothing changes nothing.
    torch.testing.assert_close(follow_labels(logits, torch.zeros(2, 3)), logits)
