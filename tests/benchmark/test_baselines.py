"""What is measured against does the same work: the baselines' answers are ours."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.cases.walk import csr_walk, dense_walk, our_walk, random_case
from benchmark.script_way import confusion, mask_of


@pytest.mark.parametrize("fill", [None, 1.0, 0.0])
def test_the_walks_agree(fill: float | None) -> None:
    # Drawn at random, all ones, and every pixel isolated.
    affinity, scores = random_case(12)
    if fill is not None:
        affinity.fill_(fill)
    ours = our_walk(affinity, scores)
    torch.testing.assert_close(dense_walk(affinity, scores), ours, rtol=0, atol=1e-4)
    torch.testing.assert_close(csr_walk(affinity, scores), ours, rtol=0, atol=1e-4)


def test_the_walks_agree_on_a_single_row() -> None:
    affinity, scores = random_case(12)
    affinity, scores = affinity[:, :, :1], scores[:, :, :1]
    ours = our_walk(affinity, scores)
    torch.testing.assert_close(dense_walk(affinity, scores), ours, rtol=0, atol=1e-4)
    torch.testing.assert_close(csr_walk(affinity, scores), ours, rtol=0, atol=1e-4)


def test_the_scripts_way_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed (the extra bench)")
    heat = np.zeros((40, 40), np.uint8)
    heat[10:30, 10:30] = 200
    Image.fromarray(heat).save(tmp_path / "heat.png")
    mask_of(tmp_path / "heat.png", 0.5, tmp_path / "mask.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")) > 127, heat > 127)
    trimap = np.full((40, 40), 2, np.uint8)
    trimap[10:30, 10:40] = 1
    trimap[0] = 3
    Image.fromarray(trimap).save(tmp_path / "trimap.png")
    # Rows are the truth: 400 of the 600 pet pixels are found, and no other; the border's 40 are left out.
    assert confusion(tmp_path / "mask.png", tmp_path / "trimap.png").tolist() == [[960, 0], [200, 400]]
