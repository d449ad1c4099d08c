"""Methods on arrays and tensors: no store, no config, no data set."""

from seg.methods.colocalise import colocalise
from seg.methods.thresholds import ScoreStats, bin_scores, count_scores, otsu, valley

__all__ = ["ScoreStats", "bin_scores", "colocalise", "count_scores", "otsu", "valley"]
