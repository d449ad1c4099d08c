"""Methods on arrays and tensors: no store, no config, no data set."""

from seg.methods.colocalise import colocalise
from seg.methods.pamr import pamr
from seg.methods.refine import grabcut, random_walker, seeds_of, superpixel_means
from seg.methods.thresholds import ScoreStats, bin_scores, count_scores, otsu, valley

__all__ = [
    "ScoreStats",
    "bin_scores",
    "colocalise",
    "count_scores",
    "grabcut",
    "otsu",
    "pamr",
    "random_walker",
    "seeds_of",
    "superpixel_means",
    "valley",
]
