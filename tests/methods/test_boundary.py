import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from seg.methods.boundary import _region, boundary_areas
from seg.methods.metrics import mean_iou


def blobs(seed, shape=(120, 90), classes=1):
    noise = [gaussian_filter(np.random.default_rng((seed, c)).random(shape), 5) for c in range(classes + 1)]
    return np.argmax(noise, 0).astype(np.uint8)


def authors_region(mask, ratio):
    """``mask_to_boundary`` of https://github.com/bowenc0221/boundary-iou-api, with OpenCV."""
    cv2 = pytest.importorskip("cv2")
    h, w = mask.shape
    dilation = max(1, round(ratio * np.sqrt(h**2 + w**2)))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=dilation)
    return (mask - eroded[1 : h + 1, 1 : w + 1]).astype(bool)


@pytest.mark.parametrize(("ratio", "shape"), [(0.02, (120, 90)), (0.001, (40, 41)), (0.1, (33, 150))])
def test_the_region_is_that_of_the_authors_code(ratio, shape):
    mask = blobs(0, shape)
    assert (_region(mask == 1, ratio) == authors_region(mask, ratio)).all()


def test_the_figure_is_the_iou_of_the_regions_by_class():
    pred, target = blobs(1, classes=2), blobs(2, classes=2)
    regions = [[_region(m == c, 0.02) for c in range(3)] for m in (pred, target)]
    expected = [(p & t).sum() / (p | t).sum() for p, t in zip(*regions, strict=True)]
    areas = boundary_areas(pred, target, classes=2)
    assert mean_iou(areas) == pytest.approx(np.mean(expected), abs=1e-14)
    assert mean_iou(boundary_areas(target, target, classes=2)) == 1
    assert np.isnan(mean_iou(boundary_areas(pred, np.zeros_like(target), classes=2)))  # no object, nothing measured


def test_what_is_not_evaluated_does_not_count():
    target, pred = blobs(3), blobs(4)
    target[:, 30:40], pred[50:60] = 255, 255
    changed_target, changed_pred = target.copy(), pred.copy()
    changed_target[50:60], changed_pred[:, 30:40] = 254, 1
    assert (boundary_areas(changed_pred, changed_target) == boundary_areas(pred, target)).all()
    as_foreground = np.where(changed_target == 254, np.uint8(1), changed_target)
    for border, equal in (("foreground", as_foreground), ("background", np.where(changed_target == 254, 0, target))):
        found = boundary_areas(changed_pred, changed_target, border=border)
        assert (found == boundary_areas(changed_pred, equal.astype(np.uint8))).all()
