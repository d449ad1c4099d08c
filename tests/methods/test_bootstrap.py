import numpy as np
import pytest

from seg.methods.bootstrap import bootstrap_miou, percentile_interval
from seg.methods.metrics import Confusion


def test_each_sample_is_the_miou_of_the_images_drawn():
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 3, (2, 8, 8)).astype(np.uint8) for _ in range(4)]
    confusion = Confusion(2)
    for pred, target in images:
        confusion.add(pred, target)
    found = bootstrap_miou(confusion.matrices, samples=20, seed=5)
    for miou, drawn in zip(found, np.random.default_rng(5).integers(4, size=(20, 4)), strict=True):
        again = Confusion(2)
        for image in drawn:
            again.add(*images[image])
        assert miou == pytest.approx(again.compute().miou, abs=1e-14)
    assert (found == bootstrap_miou(confusion.matrices, 20, 5)).all()


@pytest.mark.filterwarnings("error")
def test_nothing_to_resample_is_not_a_number():
    assert np.isnan(percentile_interval(bootstrap_miou(np.zeros((0, 2, 2), int)))).all()
    without_objects = np.array([[[5, 3], [0, 0]]] * 3)
    assert np.isnan(percentile_interval(bootstrap_miou(without_objects))).all()
    one_object = bootstrap_miou(np.concatenate([without_objects, [[[1, 0], [0, 4]]]]))
    assert 0.2 < np.isnan(one_object).mean() < 0.45  # (3/4) ** 4 of the sets lack it
