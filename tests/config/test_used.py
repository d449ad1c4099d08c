"""How many masks were looked at to choose what a run is made with."""

import pytest
from omegaconf import OmegaConf

from seg.config.used import masks_used

CONFIG = """
threshold: 0.6
epoch: 3
data: {refine: {beta: 16, threshold: 0.5}, size: 64}
supervision: {classifier: {epochs: "${epoch}"}, size: "${data.size}"}
seeds: {scores: "${supervision}", threshold: "${threshold}"}
refiner: {scores: {affinity: {seeds: "${seeds}"}, beta: "${data.refine.beta}"}, threshold: "${data.refine.threshold}"}
segmenter: "${refiner}"
chain:
  scores: {masks: {scores: "${supervision}", threshold: 0.3}}
  seeds: {masks: "${seeds}"}
  refined: {masks: "${refiner}"}
  predicted: {masks: {scores: "${segmenter.scores}", name: "a ${data.size} and ${threshold}"}}
chosen_by_masks: {threshold: 20, data: {refine: {beta: 300}}}
"""
STEPS = [f"chain.{step}" for step in ("scores", "seeds", "refined", "predicted")]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], [0, 20, 300, 300]),
        (["data.refine.beta=8"], [0, 20, 20, 20]),  # whoever typed it knows
        (["threshold=0.3", "data.refine.beta=8"], [0, 0, 0, 0]),
        (["threshold=0.3", "++chosen_by_masks.threshold=20"], [0, 20, 300, 300]),
        (["data.size=32"], [0, 20, 300, 300]),
    ],
)
def test_what_is_behind_a_step_counts(typed, expected):
    cfg = OmegaConf.create(CONFIG)
    assert list(masks_used(cfg, STEPS, typed).values()) == expected


def test_an_epoch_that_a_sweep_chose_by_masks_counts_everywhere():
    cfg = OmegaConf.merge(OmegaConf.create(CONFIG), {"chosen_by_masks": {"epoch": 150}})
    typed = ["epoch=7", "++chosen_by_masks.epoch=150"]
    assert list(masks_used(cfg, STEPS, typed).values()) == [150, 150, 300, 300]
