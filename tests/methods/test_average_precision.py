import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from seg.methods.average_precision import mean_average_precision


@pytest.mark.parametrize("steps", [4, 1000])  # many equal scores, and few
def test_it_is_scikit_learns(steps):
    rng = np.random.default_rng(steps)
    labels = rng.random((60, 5)) < 0.3
    scores = np.round((rng.random((60, 5)) + labels) * steps)
    assert mean_average_precision(scores, labels) == pytest.approx(
        average_precision_score(labels, scores, average="macro")
    )
    labels[:, 2] = False  # a class without a positive image is left out
    rest = [0, 1, 3, 4]
    assert mean_average_precision(scores, labels) == mean_average_precision(scores[:, rest], labels[:, rest])
    assert np.isnan(mean_average_precision(scores[:, 2:3], labels[:, 2:3]))
