"""The typed top of the config: what Hydra itself checks before anything runs."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Config:
    """Top-level keys. The groups' own keys are checked against the stages' declared parameters."""

    epoch: int = MISSING
    threshold: float = MISSING
    seed: int = 0
    backbone: str = "resnet18"
    weights: str | None = None
    store: str = "outputs/store"
    dry_run: bool = False
    figures: bool | None = None
    select: str | None = None
    select_by: str = "miou"
    data: dict[str, Any] = field(default_factory=dict)
    classifier: dict[str, Any] = field(default_factory=dict)
    supervision: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, Any] = field(default_factory=dict)
    refiner: dict[str, Any] = field(default_factory=dict)
    segmenter: dict[str, Any] | None = None
    checkpoints: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    export: dict[str, Any] = field(default_factory=dict)
    runtime: dict[str, Any] = field(default_factory=dict)
    tracker: dict[str, Any] = field(default_factory=dict)


def register() -> None:
    """Make the schema known to Hydra under the name that ``conf/config.yaml`` lists."""
    ConfigStore.instance().store(name="schema", node=Config)
