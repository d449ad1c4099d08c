"""Runs in MLflow: found again when they go on, and not told twice when they only read the store."""

import getpass
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from seg.errors import SegError, first_line
from seg.tracking.base import Facts, Notes, Status, Tracker

log = logging.getLogger(__name__)

IDENTITY = "weakseg.identity"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_PARENT = "mlflow.parentRunId"
#: Seconds to wait for another process that makes an experiment.
_PATIENCE = 30
#: Of a parameter's text.
_MOST_CHARACTERS = 500


@dataclass
class MLflow(Tracker):
    """A run of MLflow per run.

    The jobs of a sweep are runs below the sweep's own (MLflow's tag for nested runs), all in one experiment. A run
    that was killed or failed goes on in the same run of MLflow; one that builds nothing and is there already is
    left as it is.

    Args:
        uri: a folder, or a tracking server. experiment: its name; None for the sweep's, or the pipeline's.
    """

    uri: str = "outputs/mlruns"
    experiment: str | None = None

    extra: ClassVar[str | None] = "mlflow"
    module: ClassVar[str] = "mlflow"

    def __post_init__(self) -> None:
        if not isinstance(self.uri, str) or not self.uri:
            raise SegError(f"tracker.mlflow.uri={self.uri}: must be a folder or the address of a server")
        self._run: str | None = None
        self._same: str | None = None
        self._known: dict[str, set[int]] = {}

    # -- before ----------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path | None:
        """Where the file store is, or None for a server or a data base."""
        if self.uri.startswith("file:"):
            return Path(self.uri.removeprefix("file:").replace("///", "/", 1))
        return None if "://" in self.uri or self.uri == "databricks" else Path(self.uri)

    def check(self) -> None:
        """Refuse a missing package, a place that can't be written to, and a server that does not answer."""
        super().check()
        from seg.files import writable

        if self.folder is not None:
            if not writable(self.folder):
                raise SegError(f"tracker.mlflow.uri={self.uri}: cannot be written to; choose another")
            return
        try:
            self.client.search_experiments(max_results=1)
        except Exception as error:
            hint = "" if self.uri.startswith("http") else "; a data base needs the whole of it: pip install mlflow"
            raise SegError(f"tracker.mlflow.uri={self.uri}: {first_line(error)}{hint}") from error

    @cached_property
    def client(self) -> Any:
        """MLflow's client. The environment's own settings win over these."""
        # A training must not wait for minutes for a server that is gone; and nobody was asked about telemetry.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # MLflow 3 wants to be told that its file store is meant; it needs no data base's packages, and no lock.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        if self.folder is None:
            logging.getLogger("urllib3").setLevel(logging.ERROR)  # a line for every attempt says nothing more
        with self._locked():
            return MlflowClient(self.uri if self.folder is None else self.folder.absolute().as_uri())

    def _experiment_id(self, name: str) -> str:
        client = self.client
        with self._locked():  # two processes would make two of the same name
            found = client.get_experiment_by_name(name)
            if found is None:
                try:
                    return str(client.create_experiment(name))
                except Exception:
                    # On a server another process may have been faster.
                    found = client.get_experiment_by_name(name)
                    if found is None:
                        raise
            if found.lifecycle_stage != "active":
                raise SegError(
                    f"the experiment {name} was deleted; restore it, or give another tracker.mlflow.experiment="
                )
            return str(found.experiment_id)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock

        if self.folder is None:
            yield
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # Where no file can be made, filelock tries for ever; and a training must not wait for a tracker for long.
        with FileLock(f"{self.folder}.lock", timeout=_PATIENCE):
            yield

    # -- a run -----------------------------------------------------------------------------------------

    def start(self, facts: Facts, notes: Notes, sweep: Notes) -> Notes:
        """Find the run that is to go on, else make one; unless it is there and nothing was built yet."""
        self._facts, self._sweep = facts, sweep
        self._place = sweep.get("experiment") or self._experiment_id(self.experiment or facts.pipeline)
        found = self._find(notes)
        if found is not None and found.info.status == "FINISHED":
            self._same = found.info.run_id
        elif found is not None:
            self._run = found.info.run_id
            self.client.update_run(self._run, status="RUNNING")
            self._known = {key: self._steps(key) for key in found.data.metrics}
        self._open()
        return self._notes()

    def _notes(self) -> Notes:
        run = self._run or self._same
        return {"uri": self.uri, "run": run, "identity": self._facts.identity, "parent": self._sweep.get("run")}

    def _find(self, notes: Notes) -> Any:
        """The newest run that would give the same; a sweep's job by its notes, for there may be thousands."""
        from mlflow.exceptions import MlflowException

        same = {"identity": self._facts.identity, "parent": self._sweep.get("run"), "uri": self.uri}
        if self._facts.sweep is not None:
            if notes.get("run") is None or any(notes.get(key) != value for key, value in same.items()):
                return None
            with suppress(MlflowException):
                found = self.client.get_run(notes["run"])
                return found if found.info.lifecycle_stage == "active" else None
            return None
        wanted = f"tags.`{IDENTITY}` = '{self._facts.identity}'"
        newest = ["attributes.start_time DESC"]
        return next(iter(self.client.search_runs([self._place], wanted, max_results=1, order_by=newest)), None)

    def _open(self) -> bool:
        """Whether there is a run to tell things to; makes one if there is something to tell."""
        if self._run is None and (self._same is None or self._facts.worked()):
            facts = self._facts
            parent = self._sweep.get("run")
            tags = {IDENTITY: facts.identity} | ({_PARENT: parent} if parent else {})
            self._run = self._create(self._place, facts, tags)
        return self._run is not None

    def _create(self, experiment: str, facts: Facts, tags: Mapping[str, str]) -> str:
        from mlflow.entities import Param

        about = {
            "mlflow.note.content": f"{facts.data}\n\n    {facts.command}",
            "mlflow.source.name": "seg.run",
            "mlflow.source.type": "LOCAL",
            "weakseg.command": facts.command,
            "weakseg.folder": str(facts.folder),
        }
        if facts.revision:
            about["mlflow.source.git.commit"] = facts.revision
        with suppress(OSError, KeyError, ImportError):  # a user without a name
            about["mlflow.user"] = getpass.getuser()
        made = self.client.create_run(experiment, tags={**about, **tags}, run_name=facts.name).info.run_id
        params = [Param(key, value[:_MOST_CHARACTERS]) for key, value in facts.settings.items()]
        self.client.log_batch(made, params=params)
        return str(made)

    def _steps(self, key: str) -> set[int]:
        return {point.step for point in self.client.get_metric_history(self._run, key)}

    def _log(self, run: str, figures: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = {key: value for key, value in figures.items() if step not in self._known.get(key, ())}
        self.client.log_batch(run, metrics=[Metric(key, value, now, step) for key, value in new.items()])

    def scalars(self, training: str, epoch: int, values: Mapping[str, float]) -> None:
        """Points of the metrics ``<training>/<name>``; those of an epoch that the run has already are left."""
        if self._open():
            self._log(str(self._run), {f"{training}/{name}": value for name, value in values.items()}, epoch)

    def results(self, facts: Facts, figures: Mapping[str, float], miou: float | None) -> None:
        """The figures as metrics; ``miou`` is the one to sort by."""
        if self._open():
            self._log(str(self._run), {**figures, **({} if miou is None else {"miou": miou})}, 0)

    def artifacts(self, paths: Sequence[Path]) -> None:
        """Copies of the files."""
        for path in paths if self._open() else ():
            self.client.log_artifact(self._run, str(path))

    def end(self, status: Status) -> Notes:
        """Close the run, or say that there was nothing to tell."""
        if self._run is None and self._same is not None:
            log.info("mlflow: nothing new was built; run %s has it", self._same)
        if self._run is not None:
            self.client.set_terminated(self._run, _STATUS[status])
        return self._notes()

    # -- a sweep ---------------------------------------------------------------------------------------

    def find_sweep(self, notes: Notes) -> Notes:
        """The sweep's run of before, if it is still there."""
        from mlflow.exceptions import MlflowException

        if notes.get("uri") != self.uri or (self.folder is not None and not self.folder.is_dir()):
            return {}
        try:
            found = self.client.get_run(notes["run"])
            name = self.client.get_experiment(found.info.experiment_id).name
        except MlflowException:
            return {}
        other = self.experiment is not None and name != self.experiment
        return {} if other or found.info.lifecycle_stage != "active" else notes

    def begin_sweep(self, facts: Facts, notes: Notes) -> Notes:
        """Make the run that the jobs' runs lie below."""
        try:
            if notes:
                self.client.update_run(notes["run"], status="RUNNING")
                return notes
            place = self._experiment_id(self.experiment or facts.name)
            run = self._create(place, facts, {"weakseg.kind": "sweep"})
        except Exception as error:
            raise SegError(f"tracker.mlflow.uri={self.uri}: {first_line(error)}") from error
        return {"uri": self.uri, "experiment": place, "run": run}

    def end_sweep(self, notes: Notes, figures: Mapping[str, float], best: str, paths: Sequence[Path], ok: bool) -> None:
        """Add the best to the sweep's run, and close it."""
        run = notes["run"]
        self.client.set_tag(run, "best", best)
        before = self.client.get_run(run).data.metrics
        step = len(self.client.get_metric_history(run, "miou"))
        self._log(run, {key: value for key, value in figures.items() if before.get(key) != value}, step)
        for path in paths:
            self.client.log_artifact(run, str(path))
        self.client.set_terminated(run, "FINISHED" if ok else "FAILED")

    def has_job(self, notes: Notes, sweep: Notes) -> bool:
        """A job is there if it was told below this very run."""
        return super().has_job(notes, sweep) and bool(sweep) and notes.get("parent") == sweep.get("run")
