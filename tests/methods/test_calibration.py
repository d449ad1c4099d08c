import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryCalibrationError

from seg.methods.calibration import reliability
from seg.methods.metrics import HistogramEvaluator


def test_the_error_is_torchmetrics():
    rng = np.random.default_rng(0)
    scores = rng.random(5000)
    right = rng.random(5000) < scores**2
    found = reliability(scores, right.astype(int), np.ones(5000, int), bins=10)
    library = BinaryCalibrationError(n_bins=10, norm="l1")
    assert found.error == pytest.approx(library(torch.from_numpy(scores), torch.from_numpy(right)).item(), abs=1e-6)
    assert found.pixels.sum() == 5000
    # Ones that are 0.9 sure and right nine times of ten.
    assert reliability(np.array([0.9]), np.array([9]), np.array([10])).error == pytest.approx(0, abs=1e-12)


@pytest.mark.filterwarnings("error")
def test_nothing_is_not_a_number():
    assert np.isnan(HistogramEvaluator().reliability().error)
