"""Trackers: Lightning Fabric's loggers into the run's folder, and MLflow."""

import importlib.util
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from seg.errors import SegError, first_line
from seg.files import read_json, writable, write_json

Status = Literal["finished", "failed", "killed"]


@dataclass(frozen=True)
class Facts:
    """What a run is.

    Attributes:
        name: of the run among others. pipeline: its name. folder: its folder.
        sweep: the folder of the sweep that it is a job of, if it is.
        settings: the main keys and all that was given, as text. command: the command line that repeats it.
        revision: the commit of the code, if it comes from a checkout. data: a line on the data.
    """

    name: str
    pipeline: str
    folder: Path
    sweep: Path | None
    settings: Mapping[str, str]
    command: str
    revision: str | None
    data: str


class Tracker:
    """One place that a run is logged to. A subclass is a dataclass of its settings, and made anew for every run.

    Whatever a method raises after :meth:`check` costs the run this tracker and a line of warning, no more.

    Attributes:
        package: what it needs, which is the name of the extra too; None for nothing.
    """

    package: ClassVar[str | None] = None

    def check(self) -> None:
        """Refuse what can't work, before anything is computed.

        Raises:
            SegError: with what to install, or what can't be reached.
        """
        if self.package is not None and not installed(self.package):
            raise SegError(f"tracker={self.package}: is not installed; pip install 'weakseg[{self.package}]'")

    def start(self, facts: Facts) -> None:
        """A run begins."""

    def scalars(self, training: str, epoch: int, values: Mapping[str, float]) -> None:
        """Log finite figures of one epoch of a training; each epoch once a run, in order."""

    def results(self, facts: Facts, figures: Mapping[str, float], miou: float | None) -> None:
        """Log what was measured: ``figures`` by ``split/step/figure``, and the mIoU that a sweep compares, if any."""

    def artifacts(self, paths: Sequence[Path]) -> None:
        """Copy files of the run's folder."""

    def end(self, status: Status) -> None:
        """The run is over."""


def installed(package: str) -> bool:
    """Whether a package could be imported; it is not imported for that."""
    return importlib.util.find_spec(package) is not None


@dataclass
class CSV(Tracker):
    """``csv/<training>/metrics.csv``, a row per epoch, and ``csv/results/metrics.csv``, one row."""

    def start(self, facts: Facts) -> None:
        """Remove the files of a former run of the same folder."""
        self._folder = facts.folder / "csv"
        self._loggers: dict[str, Any] = {}
        _clear(self._folder, "*/metrics.csv")

    def scalars(self, training: str, epoch: int, values: Mapping[str, float]) -> None:
        """Add a row to the training's file."""
        if training not in self._loggers:
            from lightning_fabric.loggers.csv_logs import CSVLogger

            self._loggers[training] = CSVLogger(self._folder, training, version="", flush_logs_every_n_steps=1)
        self._loggers[training].log_metrics(dict(values), epoch)

    def results(self, facts: Facts, figures: Mapping[str, float], miou: float | None) -> None:
        """Write the one row of the results."""
        if figures:
            self.scalars("results", 0, {**figures, **({} if miou is None else {"miou": miou})})

    def end(self, status: Status) -> None:
        """Close the files."""
        for logger in self._loggers.values():
            logger.finalize(status)


@dataclass
class TensorBoard(Tracker):
    """``tensorboard/`` with the scalars, and at the end the settings beside the result (its HPARAMS page)."""

    package: ClassVar[str | None] = "tensorboard"

    def start(self, facts: Facts) -> None:
        """Open the file of events; without those of a former run of the same folder, or points would be there twice."""
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        _clear(facts.folder / "tensorboard", "events.out.tfevents.*")
        self._logger = TensorBoardLogger(facts.folder / "tensorboard", name="", version="", default_hp_metric=False)
        texts = {"command": f"    {facts.command}", "data": facts.data, "revision": facts.revision or "unknown"}
        for name, text in texts.items():
            self._logger.experiment.add_text(name, text)

    def scalars(self, training: str, epoch: int, values: Mapping[str, float]) -> None:
        """Add points to the curves ``<training>/<name>``, to be seen at once."""
        self._logger.log_metrics({f"{training}/{name}": value for name, value in values.items()}, epoch)
        self._logger.save()

    def results(self, facts: Facts, figures: Mapping[str, float], miou: float | None) -> None:
        """Add the figures as scalars, and the settings."""
        self._logger.log_metrics(dict(figures), 0)
        if miou is not None:
            settings: dict[str, Any] = dict(facts.settings)
            for key, value in facts.settings.items():
                with suppress(ValueError):
                    settings[key] = float(value)
            self._logger.log_hyperparams(settings, {"miou": miou}, 0)

    def end(self, status: Status) -> None:
        """Close the file."""
        self._logger.finalize(status)


def _clear(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


@dataclass
class MLflow(Tracker):
    """A run of MLflow per run folder; the jobs of a sweep are in an experiment of their own.

    A folder that is used again gets a new run, and the one before is deleted. ``mlflow.json`` in it has the run's id.

    Args:
        uri: a folder, or a tracking server.
        experiment: its name; None for the name of the sweep's folder, or the pipeline's.
    """

    uri: str = "outputs/mlruns"
    experiment: str | None = None

    package: ClassVar[str | None] = "mlflow"

    def __post_init__(self) -> None:
        if not isinstance(self.uri, str) or not self.uri:
            raise SegError(f"tracker.mlflow.uri={self.uri}: must be a folder or the address of a server")

    @property
    def _folder(self) -> Path | None:
        return None if ":" in self.uri or self.uri == "databricks" else Path(self.uri)

    def check(self) -> None:
        """Refuse a missing package, a place that can't be written to, and a server that does not answer."""
        super().check()
        try:
            if self._folder is not None and not writable(self._folder):
                raise SegError("cannot be written to; choose another")
            if self._folder is None:
                self._client.search_experiments(max_results=1)
        except Exception as error:
            raise SegError(f"tracker.mlflow.uri={self.uri}: {first_line(error)}") from error

    @cached_property
    def _client(self) -> Any:
        # A training must not wait for minutes for a server that is gone. The environment's own settings win.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 refuses its file store without it
        from mlflow import MlflowClient

        logging.getLogger("urllib3").setLevel(logging.ERROR)  # a line for every attempt says nothing more
        return MlflowClient(self.uri if self._folder is None else self._folder.absolute().as_uri())

    def _create(self, facts: Facts, name: str) -> None:
        """Make a run in the experiment of that name, and note it in the folder."""
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(name)
        place = found.experiment_id if found is not None else self._client.create_experiment(name)
        tags = {
            "mlflow.note.content": f"{facts.data}\n\n    {facts.command}",
            "mlflow.source.name": "seg.run",
            "mlflow.source.git.commit": facts.revision,
            "weakseg.command": facts.command,
            "weakseg.folder": str(facts.folder),
        }
        tags = {key: value for key, value in tags.items() if value is not None}
        self._run = self._client.create_run(place, tags=tags, run_name=facts.name).info.run_id
        self._client.log_batch(self._run, params=[Param(key, value[:500]) for key, value in facts.settings.items()])
        write_json(facts.folder / "mlflow.json", {"uri": self.uri, "experiment": name, "run": self._run})

    def _noted(self, folder: Path) -> dict[str, str]:
        """What ``mlflow.json`` in a folder says of a run that is still there; else nothing."""
        with suppress(Exception):
            note: dict[str, str] = read_json(folder / "mlflow.json")
            if note["uri"] == self.uri and self._client.get_run(note["run"]).info.lifecycle_stage == "active":
                return note
        return {}

    def _log(self, figures: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(key, x, now, step) for key, x in figures.items()])

    def start(self, facts: Facts) -> None:
        """Make the run, in place of the folder's former one."""
        if former := self._noted(facts.folder):
            self._client.delete_run(former["run"])
        self._create(facts, self.experiment or (facts.sweep.name if facts.sweep else facts.pipeline))

    def scalars(self, training: str, epoch: int, values: Mapping[str, float]) -> None:
        """Add points to the metrics ``<training>/<name>``."""
        self._log({f"{training}/{name}": value for name, value in values.items()}, epoch)

    def results(self, facts: Facts, figures: Mapping[str, float], miou: float | None) -> None:
        """Add the figures as metrics; ``miou`` is the one to sort by."""
        self._log({**figures, **({} if miou is None else {"miou": miou})}, 0)

    def artifacts(self, paths: Sequence[Path]) -> None:
        """Copy the files."""
        for path in paths:
            self._client.log_artifact(self._run, str(path))

    def end(self, status: Status) -> None:
        """Close the run."""
        self._client.set_terminated(self._run, status.upper())
