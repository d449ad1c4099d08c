"""Moments and components with known answers, discriminants of classes."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from seg.methods.colocalise import Moments, class_discriminants, prior_component


def test_moments_are_numpys() -> None:
    rng = np.random.default_rng(0)
    features, prior = rng.normal(3, 2, (500, 4)), rng.normal(size=500)
    features[:, 1] += prior
    moments = Moments()
    for part in np.array_split(np.arange(500), 3):
        moments.add(torch.from_numpy(features[part]), torch.from_numpy(prior[part]))
    mean, spread, correlation, with_prior = (x.numpy() for x in moments.solve())
    assert np.allclose(mean, features.mean(0)) and np.allclose(spread, features.std(0))
    expected = np.corrcoef(features.T, prior)
    assert np.allclose(correlation, expected[:4, :4]) and np.allclose(with_prior, expected[:4, 4])


def test_the_component_that_goes_with_the_prior_is_not_the_first() -> None:
    rng = np.random.default_rng(1)
    size, object_, n = rng.normal(size=4000), rng.normal(size=4000), 4000
    sizes, objects = ([of + 0.1 * rng.normal(size=n) for _ in range(count)] for of, count in ((size, 5), (object_, 3)))
    features = np.stack([*sizes, *objects], 1)
    for sign in (1, -1):
        moments = Moments()
        moments.add(torch.from_numpy(features), torch.from_numpy(sign * object_ + rng.normal(size=n)))
        mean, spread, correlation, with_prior = moments.solve()
        weights = prior_component(correlation, with_prior, 3)
        scores = ((torch.from_numpy(features) - mean) / spread @ weights).numpy()
        assert np.corrcoef(scores, sign * object_)[0, 1] > 0.95
        assert scores.std() == pytest.approx(1, abs=1e-3)
        # Of the first alone there is nothing but the size to take.
        first = prior_component(correlation, with_prior, 1)
        scores = ((torch.from_numpy(features) - mean) / spread @ first).numpy()
        assert abs(np.corrcoef(scores, size)[0, 1]) > 0.95


def test_what_one_image_shows_alone_tells_apart_what_two_show_together() -> None:
    """Images of one class teach, in closed form, which cells of an image of both are of which."""
    rng = np.random.default_rng(0)
    means = np.asarray([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])
    target = np.repeat([0, 1, 2, 0, 1, 2], 200)
    points = means[target] + rng.normal(0, 0.5, (1200, 4))
    may = np.zeros((1200, 4), bool)
    may[np.arange(1200), target + 1] = True
    may[600:, 1:] = True  # the last three are one image, whose cells the prior has all wrong
    named = np.where(np.arange(1200) < 600, target, (target + 1) % 3) + 1
    weights, bias = class_discriminants(*map(torch.from_numpy, (points.astype(np.float32), named, may)), ridge=1e-6)
    likely = torch.from_numpy(points).float() @ weights + bias
    assert torch.isneginf(bias[0]) and (likely[600:].argmax(1).numpy() == target[600:] + 1).mean() > 0.95
    library = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(points, likely.argmax(1))
    np.testing.assert_array_equal(library.predict(points), likely.argmax(1))
