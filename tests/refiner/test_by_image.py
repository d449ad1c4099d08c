"""What the refiners of single images share: every image once, in order, whatever number of threads; seeds."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seg.data.prepared import Pool, PreparedData
from seg.errors import SegError
from seg.refiner.by_image import ByImage, GrabCut, RandomWalker, Superpixels
from seg.store import Runtime, Store
from seg.supervision.mask import TargetScores
from seg.supervision.scores import ScoreMaps

needs_opencv = pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed")


@pytest.mark.parametrize("kind", [Superpixels, RandomWalker, pytest.param(GrabCut, marks=needs_opencv)])
def test_the_number_of_threads_changes_nothing(
    store: Store, runtime: Runtime, pool: Pool, tmp_path: Path, kind: type[ByImage]
) -> None:
    target = TargetScores(pool=pool)
    stage, answers = kind(scores=target), []
    store.ensure(target)
    for workers in (1, 4):
        (out := tmp_path / str(workers)).mkdir()
        stage.build(out, Store(store.root, replace(runtime, workers=workers)))
        answers.append((out / "scores.npy").read_bytes())
    assert answers[0] == answers[1]


def test_the_spacing_is_that_of_the_squashed_image(data: PreparedData, store: Store) -> None:
    """An image of 100 x 400 has pixels four times as wide as they are high."""
    rows = np.asarray([0, 1])
    sizes = data.sizes.copy()
    sizes[0], sizes[1] = (100, 400), (300, 300)
    scores: ScoreMaps = ScoreMaps.of_foreground(replace(data, sizes=sizes), rows, np.zeros((2, 8, 8), np.float16))
    seen: list[tuple[float, float]] = []

    class Spy(ByImage):
        def refine(self, image: np.ndarray, scores: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
            seen.append(spacing)
            return scores

    stage = Spy.__new__(Spy)
    assert len(list(stage._refined(scores, store))) == 2
    assert seen == [(0.5, 2.0), (1.0, 1.0)]


def test_seeds_the_wrong_way_round_are_refused(pool: Pool) -> None:
    with pytest.raises(SegError, match=r"RandomWalker.background_below=0.8: must not lie above foreground_from=0.75"):
        RandomWalker(scores=TargetScores(pool=pool), background_below=0.8)
