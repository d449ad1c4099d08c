"""Boxes to score maps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seg.data.image_folder import ImageFolder
from seg.data.pixels import PixelLabels
from seg.data.prepared import Pool, Prepared, PreparedData
from seg.errors import SegError
from seg.masks import Threshold
from seg.methods.boxes import body_box, gaussian_score
from seg.refiner.by_image import GrabCut
from seg.store import Store
from seg.supervision.bbox import BoxScores, InBoxes
from seg.supervision.pixels import WithPixels


def test_trainvals_boxes_become_gaussians(store: Store, data: PreparedData, pool: Pool) -> None:
    head, body = (BoxScores(pool=pool, resolution=16, box_source=s) for s in ("xml", "trimap"))  # type: ignore[arg-type]
    scores = store.get(head)
    assert scores.rows.tolist() == store.get(body).rows.tolist() == np.flatnonzero(~data.is_test).tolist()
    row = int(scores.rows[5])
    height, width = map(int, data.sizes[row])
    expected = gaussian_score(np.asarray(data.boxes[row]), (height, width), (16, 16))
    np.testing.assert_allclose(scores.values[5], expected, atol=1e-3)
    # Boxes of the ground truth are an oracle.
    assert Threshold(scores=body, threshold=0.5).is_oracle and not Threshold(scores=head, threshold=0.5).is_oracle
    line = (store.folder(body) / "trimaps_bbox.txt").read_text().splitlines()[5]
    assert tuple(map(float, line.split()[1:])) == body_box(data.original_target(row))


def test_test_images_count_where_that_is_asked_for(new_store: Store, photos: Callable[..., Path]) -> None:
    root = photos()
    lines = [f"{c}{i}.png,20,10,45,30\n" for c in ("cat", "dog") for i in range(1, 6) if (c, i) != ("dog", 5)]
    (root / "boxes.csv").write_text("".join(["file,xmin,ymin,xmax,ymax\n", *lines]))
    pool = Pool(data=Prepared(source=ImageFolder(root=str(root)), size=32))
    trainval, both = (BoxScores(pool=pool, resolution=16, test_images=t) for t in (False, True))
    data = new_store.get(pool).data
    assert data.is_test.sum() == 2
    boxed = np.arange(10) != data.row_of["dog5"]
    assert new_store.get(trainval).rows.tolist() == np.flatnonzero(~data.is_test & boxed).tolist()
    assert new_store.get(both).rows.tolist() == np.flatnonzero(boxed).tolist()
    assert trainval.key != both.key
    oracle = BoxScores(pool=pool, box_source="trimap", test_images=True)
    with pytest.raises(SegError, match="no trainval image of the pool has ground truth"):
        oracle.check(new_store)


def test_without_any_box_it_is_refused_before_the_images_are_decoded(
    new_store: Store, photos: Callable[..., Path]
) -> None:
    pool = Pool(data=Prepared(source=ImageFolder(root=str(photos())), size=32))
    with pytest.raises(SegError, match=r"no trainval image .* has a box; give data.boxes_from=FILE"):
        BoxScores(pool=pool).check(new_store)
    assert not new_store.has(pool.data)


def test_outside_of_whole_objects_boxes_all_later_masks_are_background(store: Store, pool: Pool) -> None:
    pytest.importorskip("cv2")
    boxes = BoxScores(pool=pool, resolution=16, box_source="trimap", clip=True)
    heads = BoxScores(pool=pool, resolution=16)
    # Any scores on the boxes' images: these are high everywhere.
    anywhere = GrabCut(scores=BoxScores(pool=pool, resolution=16, box_source="trimap", clip=True, scale=9.0))
    in_boxes = InBoxes.from_config(scores=anywhere, boxes=boxes)
    assert InBoxes.from_config(scores=boxes, boxes=boxes) is boxes
    assert InBoxes.from_config(scores=anywhere, boxes=heads) is anywhere
    points = PixelLabels(pool=pool, simulate="points")
    corrected = WithPixels(scores=in_boxes, pixels=points, like=boxes)
    for stage in (anywhere, in_boxes, GrabCut(scores=corrected)):
        masks = store.get(Threshold(scores=stage, threshold=0.1))
        for size in (None, (90, 61)):
            for row, mask in zip(masks.rows, masks.at(np.arange(4), size), strict=False):
                known = store.get(boxes).pixels.grid(row, mask.shape)
                assert 0 < (known == 0).mean() < 1 and not mask[known == 0].any() and (mask == 1).any()
    for row in store.get(corrected).rows[:4]:
        labelled = store.get(points).grid(row, (64, 64))
        both = store.get(corrected).pixels.grid(row, (64, 64))
        np.testing.assert_array_equal(both[labelled != 255], labelled[labelled != 255])
