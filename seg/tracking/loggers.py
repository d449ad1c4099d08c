"""The loggers behind ``tracker=``, in the form of Lightning Fabric's."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from seg.errors import SegError

Status = Literal["finished", "failed", "killed"]


class Tracker:
    """Base: a dataclass of its settings, made anew for every run. ``package`` is what it needs, and the extra's name.

    :meth:`log` gets finite figures: of an epoch ``training/figure``, of the results ``split/step/figure`` and ``miou``.
    """

    package: ClassVar[str | None] = None
    _logger: Any

    def check(self) -> None:
        """Raise for a missing package, before anything is computed."""
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            raise SegError(f"tracker={self.package}: is not installed; pip install 'weakseg[{self.package}]'")

    def start(self, folder: Path, experiment: str, settings: Mapping[str, str]) -> None:
        """Begin a run in its folder, of the experiment of that name, with its settings as text."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Log figures of a step."""
        self._logger.log_metrics(dict(figures), step)

    def finish(self, status: Status, files: Sequence[Path]) -> None:
        """End the run; ``files`` are the results in its folder."""
        self._logger.finalize(status)


@dataclass
class CSV(Tracker):
    """``csv/metrics.csv`` in the run's folder: a row per epoch of each training, and one of the results."""

    def start(self, folder: Path, experiment: str, settings: Mapping[str, str]) -> None:
        from lightning_fabric.loggers.csv_logs import CSVLogger

        (folder / "csv/metrics.csv").unlink(missing_ok=True)
        self._logger = CSVLogger(folder, "csv", version="", flush_logs_every_n_steps=1)


@dataclass
class TensorBoard(Tracker):
    """``tensorboard/`` in the run's folder; the settings are beside the mIoU on its HPARAMS page."""

    package: ClassVar[str | None] = "tensorboard"

    def start(self, folder: Path, experiment: str, settings: Mapping[str, str]) -> None:
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        for path in folder.glob("tensorboard/events.out.tfevents.*"):
            path.unlink()  # of an earlier run of the same folder: its points would be there twice
        self._logger = TensorBoardLogger(folder / "tensorboard", name="", version="", default_hp_metric=False)
        self._settings = dict(settings)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        if "miou" in figures:
            self._logger.log_hyperparams(self._settings, {"miou": figures["miou"]}, step)
        super().log({key: value for key, value in figures.items() if key != "miou"}, step)


@dataclass
class MLflow(Tracker):
    """A run of MLflow, in the experiment that is named after the pipeline or the sweep unless ``experiment`` is set."""

    uri: str = "outputs/mlruns"
    experiment: str | None = None
    package: ClassVar[str | None] = "mlflow"

    def start(self, folder: Path, experiment: str, settings: Mapping[str, str]) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 refuses a folder without it
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        mlflow.end_run("FAILED")  # of an earlier job of this process that could not be logged to its end
        mlflow.set_tracking_uri(self.uri if ":" in self.uri else Path(self.uri).absolute().as_uri())
        mlflow.set_experiment(self.experiment or experiment)
        mlflow.start_run(run_name=folder.name)
        mlflow.log_params({key: value[:500] for key, value in settings.items()})
        self._logger = mlflow

    def finish(self, status: Status, files: Sequence[Path]) -> None:
        for path in files:
            self._logger.log_artifact(str(path))
        self._logger.end_run(status.upper())
