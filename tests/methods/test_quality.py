"""Estimated quality of masks: what raises it and what lowers it."""

import numpy as np
import pytest

from seg.methods.quality import edge_contrast, estimate_quality, held_out_foreground, to_cells, whiten

RNG = np.random.default_rng(0)
PLACES = RNG.integers(1, 8, (30, 2))


def pictures(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Noise, a bright square somewhere in those that are ``shown`` to have one; and the squares as masks."""
    images = RNG.integers(0, 60, (30, 16, 16, 3)).astype(np.uint8)
    masks = np.zeros((30, 16, 16), np.uint8)
    for image, mask, (y, x), is_shown in zip(images, masks, PLACES, shown, strict=True):
        if is_shown:
            image[y : y + 7, x : x + 7] += 150
            mask[y : y + 7, x : x + 7] = 1
    return images, masks


def test_worse_masks_have_a_lower_estimate() -> None:
    labelled = np.ones(30, bool)
    images, masks = pictures(labelled)
    features = whiten(images.astype(np.float32))
    moved = [np.roll(masks, by, (1, 2)) for by in (0, 1, 2, 4)]
    found = [estimate_quality(features, images, m, labelled[:, None]).quality for m in moved]
    assert found == sorted(found, reverse=True) and found[0] > 0.95 and found[-1] < 0.6


def test_masks_of_what_images_without_a_label_show_too_are_found_out() -> None:
    labelled = np.arange(30) % 3 > 0
    images, squares = pictures(np.ones(30, bool))  # all have the square, which therefore is not what the label means
    masks = squares * labelled[:, None, None].astype(np.uint8)
    features = whiten(images.astype(np.float32))
    known, blind = (estimate_quality(features, images, masks, of) for of in (labelled[:, None], np.ones((30, 1), bool)))
    assert known.false_positives > 0.1 and np.isnan(blind.false_positives)
    share = float((masks[labelled] > 0).mean())
    precision = share / (share + known.false_positives)
    assert known.quality / known.agreement == pytest.approx(precision**2 * blind.quality / blind.agreement, rel=1e-6)
    images, masks = pictures(labelled)
    told = estimate_quality(whiten(images.astype(np.float32)), images, masks, labelled[:, None])
    assert told.false_positives < 0.01 and told.quality > known.quality + 0.1


def test_cells_are_what_most_of_their_known_pixels_are() -> None:
    mask = np.array([[[2, 2, 0, 255], [2, 0, 0, 255], [255, 255, 254, 1], [255, 1, 255, 1]]], np.uint8)
    assert to_cells(mask, (2, 2)).tolist() == [[1, 0, 255, 1]]


def test_an_image_is_predicted_from_the_others_alone() -> None:
    features = RNG.normal(size=(8, 50, 4)).astype(np.float32)
    cells = (features[..., 0] > 0).astype(np.uint8)
    cells[3] = 1 - cells[3]  # which nothing says of the others
    found = held_out_foreground(features, cells)
    assert (found == (features[..., 0] > 0)).mean() > 0.9


def test_the_contrast_of_outlines() -> None:
    images, masks = pictures(np.ones(30, bool))
    assert edge_contrast(images, masks) > 5
    assert edge_contrast(RNG.integers(0, 255, images.shape).astype(np.uint8), masks) == pytest.approx(1, abs=0.1)
    # Masks without foreground have none, and no quality.
    assert np.isnan(edge_contrast(images, np.zeros_like(masks)))
    found = estimate_quality(whiten(images.astype(np.float32)), images, masks * 0, np.ones((30, 1), bool))
    assert np.isnan(found.quality) and np.isnan(found.per_image).all()


def test_masks_of_the_rest_tell_less_of_the_labels() -> None:
    images, masks = pictures(np.ones(30, bool))
    labels = np.arange(30)[:, None] % 2 == [0, 1]
    images[(masks > 0) & labels[:, :1, None], 0] = 0  # squares of two colours
    features = whiten(images.astype(np.float32))
    right, wrong = (estimate_quality(features, images, m, labels) for m in (masks, 1 - masks))
    assert right.labels_inside == wrong.labels_outside > 0.95 > 0.8 > right.labels_outside == wrong.labels_inside
    # An image without a mask is recognised last; one class alone tells nothing.
    masks[labels[:, 0]] = 0
    assert estimate_quality(features, images, masks, labels).labels_inside < 0.9
    assert np.isnan(estimate_quality(features, images, masks, labels[:, :1] | True).labels_inside)
