"""Trackers that are Lightning Fabric's loggers, writing into the run's folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from seg.tracking.base import Facts, Notes, Status, Tracker


@dataclass
class CSV(Tracker):
    """``csv/<training>/metrics.csv``, a row per epoch, and ``csv/results/metrics.csv``, one row."""

    def start(self, facts: Facts, notes: Notes, sweep: Notes) -> Notes:
        """Make way for this run's files where a folder is used again."""
        self._folder = facts.folder / "csv"
        self._loggers: dict[str, Any] = {}
        _clear(self._folder, "*/metrics.csv")
        return {}

    def scalars(self, training: str, epoch: int, values: Mapping[str, float]) -> None:
        """A row of the training's file."""
        if training not in self._loggers:
            from lightning_fabric.loggers.csv_logs import CSVLogger

            self._loggers[training] = CSVLogger(self._folder, training, version="", flush_logs_every_n_steps=1)
        self._loggers[training].log_metrics(dict(values), epoch)

    def results(self, facts: Facts, figures: Mapping[str, float], miou: float | None) -> None:
        """The one row of the results."""
        if figures:
            self.scalars("results", 0, {**figures, **({} if miou is None else {"miou": miou})})

    def end(self, status: Status) -> Notes:
        """Nothing is left to write."""
        for logger in self._loggers.values():
            logger.finalize(status)
        return {}


@dataclass
class TensorBoard(Tracker):
    """``tensorboard/`` with the scalars, and at the end the settings beside the result (its HPARAMS page)."""

    extra: ClassVar[str | None] = "tensorboard"
    module: ClassVar[str] = "tensorboard"

    def start(self, facts: Facts, notes: Notes, sweep: Notes) -> Notes:
        """Open the file of events; those of a former run of the same folder go, or every point would be there twice."""
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        folder = facts.folder / "tensorboard"
        _clear(folder, "events.out.tfevents.*")
        self._logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
        self._logger.experiment.add_text("command", f"    {facts.command}")
        self._logger.experiment.add_text("data", facts.data)
        if facts.revision:
            self._logger.experiment.add_text("revision", facts.revision)
        return {}

    def scalars(self, training: str, epoch: int, values: Mapping[str, float]) -> None:
        """Points of the curves ``<training>/<name>``, to be seen at once."""
        self._logger.log_metrics({f"{training}/{name}": value for name, value in values.items()}, epoch)
        self._logger.save()

    def results(self, facts: Facts, figures: Mapping[str, float], miou: float | None) -> None:
        """The figures as scalars, and the settings."""
        self._logger.log_metrics(dict(figures), 0)
        if miou is not None:
            settings = {key: _number(value) for key, value in facts.settings.items()}
            self._logger.log_hyperparams(settings, {"miou": miou}, 0)

    def end(self, status: Status) -> Notes:
        """Close the file."""
        self._logger.finalize(status)
        return {}


def _clear(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
