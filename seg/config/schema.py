"""The typed part of the config, which Hydra checks itself."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Evaluation:
    """How masks are evaluated."""

    border: str = "ignore"
    resolution: str = "working"
    panel: int = 6
    boundary: bool | None = None
    quality: bool | None = None
    backbone: str | None = None
    weights: str | None = "DEFAULT"


@dataclass
class Export:
    """What a run writes beside its table."""

    masks: bool = False
    format: str | None = None
    tolerance: float = 0.0
    min_area: int = 0
    models: bool | None = None
    onnx: bool = False


@dataclass
class Config:
    """Top-level keys. The keys of groups that are stages are checked against the stages' declared parameters."""

    epoch: int = MISSING
    threshold: Any = MISSING  # a number, or the criterion that finds one
    seed: int = 0
    precision: str = "32-true"
    backbone: str = MISSING
    weights: str | None = None
    weights_dir: str | None = None
    store: str = "outputs/store"
    dry_run: bool = False
    figures: bool | None = None
    task: str = "foreground"
    chosen_by_masks: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    classifier: dict[str, Any] = field(default_factory=dict)
    supervision: dict[str, Any] = field(default_factory=dict)
    colocalise: Any = None
    image_labels: dict[str, Any] | None = None
    seeds: dict[str, Any] = field(default_factory=dict)
    best_scores: Any = None
    pixels: dict[str, Any] = field(default_factory=dict)
    in_boxes: Any = None
    corrected: Any = None
    refiner: Any = None
    best_masks: Any = None
    auto: dict[str, Any] = field(default_factory=dict)
    segmenter: dict[str, Any] | None = None
    prediction: dict[str, Any] = field(default_factory=dict)
    chain: dict[str, Any] = field(default_factory=dict)
    labelled: dict[str, Any] = field(default_factory=dict)
    checkpoints: dict[str, Any] = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    export: Export = field(default_factory=Export)
    runtime: dict[str, Any] = field(default_factory=dict)
    tracker: dict[str, Any] = field(default_factory=dict)


def register() -> None:
    """Make the schema known to Hydra under the name that ``conf/config.yaml`` lists."""
    ConfigStore.instance().store(name="schema", node=Config)
