"""Trained and pretrained networks as stages, and the training loop."""

from seg.train.training import NetworkStage as NetworkStage
from seg.train.training import Pretrained as Pretrained
from seg.train.training import Training as Training
