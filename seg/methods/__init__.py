"""Methods on arrays and tensors: no store, no config, no data set."""

from seg.methods.affinity import AffinityNet, FrozenAffinityNet, affinity_loss, pair_affinity, pair_labels
from seg.methods.appearance import FourierFeatures, appearance_scores, describe, fit_appearance
from seg.methods.average_precision import mean_average_precision
from seg.methods.bootstrap import bootstrap_miou, percentile_interval
from seg.methods.boundary import boundary_areas
from seg.methods.boxes import body_box, box_slices, gaussian_score, rank_in_boxes
from seg.methods.calibration import reliability
from seg.methods.cam import class_activation_maps, foreground_maps, multi_scale_cam, normalise_maps, predicted_classes
from seg.methods.clip import text_scores
from seg.methods.colocalise import class_discriminants, colocalise
from seg.methods.image_labels import fit_label_probe, follow_labels
from seg.methods.losses import focal_loss
from seg.methods.metrics import Confusion, HistogramEvaluator, Metrics, mean_iou
from seg.methods.pamr import pamr
from seg.methods.pixels import (
    condition_scores,
    nearest_scores,
    paint_scores,
    pixel_grid,
    simulated_points,
    simulated_scribbles,
)
from seg.methods.prompts import best_masks, score_prompts, soft_iou
from seg.methods.quality import edge_contrast, estimate_quality, held_out_foreground, label_evidence, whiten, whitening
from seg.methods.refine import grabcut, random_walker, superpixel_means
from seg.methods.seeds import alpha_threshold, clean_mask, confident_seeds, threshold_scores
from seg.methods.thresholds import ScoreStats, bin_scores, count_scores, otsu, valley
from seg.methods.upsampling import joint_bilateral_upsampling
from seg.methods.walk import pair_offsets, random_walk

__all__ = [
    "AffinityNet",
    "Confusion",
    "FourierFeatures",
    "FrozenAffinityNet",
    "HistogramEvaluator",
    "Metrics",
    "ScoreStats",
    "affinity_loss",
    "alpha_threshold",
    "appearance_scores",
    "best_masks",
    "bin_scores",
    "body_box",
    "bootstrap_miou",
    "boundary_areas",
    "box_slices",
    "class_activation_maps",
    "class_discriminants",
    "clean_mask",
    "colocalise",
    "condition_scores",
    "confident_seeds",
    "count_scores",
    "describe",
    "edge_contrast",
    "estimate_quality",
    "fit_appearance",
    "fit_label_probe",
    "focal_loss",
    "follow_labels",
    "foreground_maps",
    "gaussian_score",
    "grabcut",
    "held_out_foreground",
    "joint_bilateral_upsampling",
    "label_evidence",
    "mean_average_precision",
    "mean_iou",
    "multi_scale_cam",
    "nearest_scores",
    "normalise_maps",
    "otsu",
    "paint_scores",
    "pair_affinity",
    "pair_labels",
    "pair_offsets",
    "pamr",
    "percentile_interval",
    "pixel_grid",
    "predicted_classes",
    "random_walk",
    "random_walker",
    "rank_in_boxes",
    "reliability",
    "score_prompts",
    "simulated_points",
    "simulated_scribbles",
    "soft_iou",
    "superpixel_means",
    "text_scores",
    "threshold_scores",
    "valley",
    "whiten",
    "whitening",
]
