"""What a pixel is described by, what a prior says."""

import numpy as np
import pytest

from seg.methods.appearance import describe, prior_logit


def test_a_plain_picture_is_described_by_its_colour_alone() -> None:
    found = describe(np.full((12, 9, 3), (51, 102, 204), np.uint8))
    logs = np.log([0.25 / 0.45, 0.85 / 0.45])
    np.testing.assert_allclose(found[3, 4], [0.2, 0.4, 0.8, *logs, 0.2, 0.4, 0.8, 0, 0.2, 0.4, 0.8, 0], atol=1e-3)
    assert found.shape == (12, 9, 13) and found.dtype == np.float32 and np.ptp(found, axis=(0, 1)).max() < 1e-3


def test_a_texture_is_described_by_how_much_it_varies() -> None:
    checks = np.zeros((64, 64, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    found = describe(checks)[32, 32]
    assert found[8] == pytest.approx(0.5, abs=0.01) and found[12] == pytest.approx(0.5, abs=0.01)


def test_an_unknown_prior_says_nothing() -> None:
    np.testing.assert_allclose(prior_logit(np.array([np.nan, 0.5, 0.75, 1, 0], np.float32), 6), [0, 0, 1.5, 3, -3])
