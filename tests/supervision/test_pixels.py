"""Labelled pixels as supervision, and beside any other: they keep their class in whatever follows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from within import TINY, succeed

from seg.data.image_folder import ImageFolder
from seg.data.pixels import PixelLabels
from seg.data.prepared import Pool, Prepared
from seg.errors import SegError
from seg.masks import Threshold
from seg.refiner.affinity import FrozenAffinity
from seg.refiner.by_image import GrabCut, RandomWalker, Superpixels
from seg.refiner.pamr import PAMR
from seg.refiner.walk import Walk
from seg.store import Store
from seg.supervision.mask import TargetScores
from seg.supervision.pixels import NearestPixels, WithPixels

REFINERS: dict[str, Callable[..., Any]] = {
    "grabcut": GrabCut,
    "random_walker": RandomWalker,
    "superpixels": Superpixels,
    "pamr": PAMR,
    "walk": lambda scores, file: Walk(scores=scores, affinity=FrozenAffinity(weights=file, strides=(8,)), log_steps=4),
}


@pytest.fixture
def pixels(pool: Pool) -> PixelLabels:
    return PixelLabels(pool=pool, simulate="scribbles")


@pytest.mark.parametrize("refiner", REFINERS)
def test_they_keep_their_class_after_every_refiner(
    store: Store, pool: Pool, pixels: PixelLabels, refiner: str, resnet18_file: str
) -> None:
    if refiner == "grabcut":
        pytest.importorskip("cv2")
    prior = NearestPixels(pool=pool, pixels=PixelLabels(pool=pool, simulate="points", seed=3), resolution=8)
    scores = WithPixels(scores=prior, pixels=pixels, like=prior)
    refined = REFINERS[refiner](scores=scores, **({"file": resnet18_file} if refiner == "walk" else {}))
    masks = Threshold(scores=refined, threshold=0.5, clean_up=("largest_component", "fill_holes"))
    assert masks.is_oracle
    known = store.get(pixels)
    for size in (None, (40, 30), (101, 99)):
        made = store.get(masks).at(np.arange(4), size)
        for mask, row in zip(made, store.get(masks).rows, strict=False):
            grid = known.grid(row, mask.shape)
            assert (grid != 255).any()
            np.testing.assert_array_equal(mask[grid != 255], grid[grid != 255])


def test_they_correct_what_is_like_them_and_leave_other_images(store: Store, pool: Pool) -> None:
    prior = NearestPixels(pool=pool, pixels=PixelLabels(pool=pool, simulate="points", seed=3))
    scores, true = prior, TargetScores(pool=pool)
    errors = []
    for kind in ("points", "scribbles"):
        with_pixels = WithPixels(scores=scores, pixels=PixelLabels(pool=pool, simulate=kind), like=prior)  # type: ignore[arg-type]
        made, target = store.get(with_pixels), store.get(true)
        maps, truth = (s.per_class(np.arange(len(s))).values for s in (made, target))
        errors.append(np.nanmean(np.abs(maps - truth)))
    before = store.get(prior).per_class(np.arange(len(made))).values
    assert errors[1] < errors[0] < np.nanmean(np.abs(before - truth))


def test_without_pixels_the_scores_are_as_they_are(pool: Pool, store: Store) -> None:
    nothing, scores = PixelLabels(pool=pool), TargetScores(pool=pool)
    assert WithPixels.from_config(scores=scores, pixels=nothing, like=scores) is scores
    with pytest.raises(SegError, match=r"supervision=points: give pixels.points=FILE.csv, pixels.scribbles=FOLDER"):
        NearestPixels(pool=pool, pixels=nothing).pixels.check(store)


def test_an_unlabelled_image_keeps_its_scores(new_store: Store, photos: Callable[..., Path], tmp_path: Path) -> None:
    pool = Pool(data=Prepared(source=ImageFolder(root=str(photos())), size=32))
    rows = [f"{kind}{i}.png,30,20,foreground\n" for kind in ("cat", "dog") for i in range(1, 6)]
    for name, lines in (("all", rows), ("one", ["cat2.png,2,2,background\n"])):
        (tmp_path / f"{name}.csv").write_text("file,x,y,class\n" + "".join(lines))
    every, one = (PixelLabels(pool=pool, points=str(tmp_path / f"{name}.csv")) for name in ("all", "one"))
    prior = NearestPixels(pool=pool, pixels=every)
    stages = (prior, WithPixels(scores=prior, pixels=one, like=prior))
    before, after = (new_store.get(stage).per_class(np.arange(10)).values for stage in stages)
    changed = np.abs(before - after).max((1, 2)) > 1e-3
    assert np.flatnonzero(changed).tolist() == [new_store.get(pool).data.row_of["cat2"]]
    assert not stages[1].is_oracle


def test_a_run_with_points_beside_image_labels_is_marked_as_an_oracle(tmp_path: Path) -> None:
    given = ["pixels.simulate=points", "pipeline=cam_affinity", "refiner=random_walker", "hydra.run.dir=out"]
    succeed(tmp_path, *TINY, *given, "evaluation.quality=false")
    rows = json.loads((tmp_path / "out/metrics.json").read_text())["rows"]
    marked = {row["stage"]: row["oracle"] for row in rows}
    assert marked == {"CAM (label) >= 0.5": False, "appearance >= 0.5": False, "seeds": True, "refined masks": True}
