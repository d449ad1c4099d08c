"""Networks that are trained, or given: the stages, and the one loop that trains."""

from seg.train.training import NetworkStage as NetworkStage
from seg.train.training import Pretrained as Pretrained
from seg.train.training import Training as Training
