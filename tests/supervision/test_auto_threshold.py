"""Thresholds that are chosen without a mask."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from seg.data.prepared import Pool, PreparedData
from seg.masks import Threshold
from seg.methods.thresholds import STEPS, ScoreStats, count_scores, otsu, valley
from seg.store import Products, Store, param
from seg.supervision.auto_threshold import AutoThreshold, Choice, ScoreHistogram
from seg.supervision.scores import ScoreStage


class TwoHills(ScoreStage):
    """Scores by a rule: trainval's around ``low`` and ``high``, test's around ``test``; some unknown."""

    pool: Pool
    low: float = param(default=0.2)
    high: float = param(default=0.8)
    spread: float = param(default=0.05)
    test: float = param(default=0.5)

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Three quarters background."""
        pool = store.get(self.pool)
        data: PreparedData = pool.data
        rng = np.random.default_rng(0)
        values = np.where(rng.random((len(pool.rows), 16, 16)) < 0.75, self.low, self.high)
        values = (values + self.spread * rng.standard_normal(values.shape)).clip(0, 1)
        values[data.is_test[pool.rows]] = self.test
        values[:, :2] = np.nan
        return self.save(out, data, pool.rows, values)


def hills(*parts: tuple[float, float, int]) -> np.ndarray:
    """Scores of several normal distributions: middle, spread, how many."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(m, s, n) for m, s, n in parts])
    return values.clip(0, 1).astype(np.float32)


def test_otsu_as_scikit_image_says() -> None:
    """Its threshold belongs to the background, ours to the foreground."""
    counts = count_scores(hills((0.2, 0.05, 700), (0.8, 0.1, 300)))
    middles = (np.arange(STEPS) + 0.5) / STEPS
    assert otsu(counts) == pytest.approx(threshold_otsu(hist=(counts, middles)) + 0.5 / STEPS)


def test_two_hills_are_parted_in_the_valley_between_them() -> None:
    """The hills are of different widths and weights: Otsu's threshold lies on the slope of the wider one."""
    counts = count_scores(hills((0.3, 0.1, 90_000), (0.85, 0.03, 10_000)))
    assert 0.6 < valley(counts) < 0.78
    assert otsu(counts) < 0.6
    shallow = count_scores(hills((0.3, 0.12, 50_000), (0.65, 0.12, 50_000)))  # one hill, and no valley
    assert valley(shallow) == otsu(shallow)


def test_separability_is_otsus_criterion() -> None:
    """Best at Otsu's threshold; 1 for two values, 0 for one; by hand for three."""
    counts = count_scores(hills((0.2, 0.1, 700), (0.7, 0.1, 300)))
    found = [ScoreStats(counts, 1).separability(t / STEPS) for t in range(STEPS)]
    assert found[round(otsu(counts) * STEPS)] == pytest.approx(max(found)) and 0.7 < max(found) < 1
    assert ScoreStats(count_scores(np.asarray([0.1, 0.1, 0.9], np.float32)), 1).separability(0.5) == pytest.approx(1)
    three = ScoreStats(count_scores(np.asarray([0.2, 0.4, 0.9], np.float32)), 1)
    assert three.separability(0.5) == pytest.approx((2 / 9 * 0.6**2) / np.var([0.2, 0.4, 0.9]))
    assert three.means(0.5) == (pytest.approx(0.3, abs=1e-3), pytest.approx(0.9, abs=1e-3))


def test_a_threshold_that_the_scores_decide(store: Store, pool: Pool) -> None:
    scores = TwoHills(pool=pool)
    cut = Threshold(scores=scores, threshold="otsu")
    seeds = Threshold(scores=scores, background_below="otsu", foreground_from="otsu")
    assert (cut.threshold_text, cut.bounds, cut.is_cut, seeds.is_cut) == ("otsu", None, True, False)
    low, high = cut.bounds_in(store)
    assert low == high and 0.3 < low < 0.7
    below, above = seeds.bounds_in(store)
    assert below == pytest.approx(0.2, abs=0.06) and above == pytest.approx(0.8, abs=0.06)
    band = Threshold(scores=scores, threshold="otsu", band=0.1)
    assert band.bounds_in(store) == (pytest.approx(low - 0.1), pytest.approx(low + 0.1)) and not band.is_cut
    masks = store.get(cut)
    assert (masks.low, masks.high) == (low, high)


def test_test_images_have_no_say(store: Store, pool: Pool) -> None:
    choices = [
        store.get(AutoThreshold(histogram=ScoreHistogram(scores=TwoHills(pool=pool, test=test)), criterion="otsu"))
        for test in (0.0, 0.5, 1.0)
    ]
    assert choices[0] == choices[1] == choices[2]
    data: PreparedData = store.get(pool.data)
    assert choices[0].images == int((~data.is_test[store.get(pool).rows]).sum()) < len(store.get(pool).rows)


def test_scores_that_are_all_the_same(store: Store, pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    flat = ScoreHistogram(scores=TwoHills(pool=pool, low=0.3, high=0.3, spread=0))
    with caplog.at_level(logging.WARNING):
        choice = store.get(AutoThreshold(histogram=flat, criterion="valley"))
    assert choice == Choice(0.5, 0.5, 0.5, choice.images)
    assert "all scores of TwoHills are the same; using 0.5" in caplog.text
