"""What trackers are told, read back with each library's own reader; and what must not happen because of them."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from within import call

from seg.config.paths import CONF
from seg.config.process import in_sweep
from seg.errors import SegError
from seg.experiment import Experiment
from seg.sweep.plan import make_plan
from seg.tracking.loggers import CSV
from seg.tracking.run import tracked_name

ROOT = Path(__file__).parents[2]
TINY = [
    "data.prepared.source.images=32",
    "data.prepared.source.breeds=2",
    "data.prepared.source.size=48",
    "data.size=64",
    "classifier.hold_out=0.25",
    "classifier.batch_size=8",
    "runtime.accelerator=cpu",
    "runtime.threads=1",
    "evaluation.panel=1",
]
ONE = [*TINY, "epoch=2", "threshold=0.5", "figures=false"]
GRID = ["-m", *TINY, "epoch=1..2", "threshold=0.4,0.5"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store the tests of this file share."""
    return tmp_path_factory.mktemp("tracked")


@pytest.fixture
def trained(here: Path) -> tuple[Path, pd.DataFrame, dict[str, float]]:
    """Where both epochs of the classifier are in the store; its history, and the figures of a run with it."""
    status, printed = call(here, *ONE, "hydra.run.dir=plain")
    assert status == 0, printed
    (history,) = (here / "outputs/store/Classifier").glob("*/history.csv")
    rows = json.loads((here / "plain/metrics.json").read_text())["rows"]
    figures = {f"{row['split']}/{tracked_name(re.sub(r' >= .*', '', row['stage']))}/miou": row["miou"] for row in rows}
    assert {"trainval/seeds/miou", "test/seeds/miou", "test/CAM label/miou"} <= set(figures)
    return here, pd.read_csv(history), figures


def test_csv_has_the_history_and_the_results_of_a_run_that_trained_nothing(
    trained: tuple[Path, pd.DataFrame, dict[str, float]],
) -> None:
    here, history, figures = trained
    status, printed = call(here, *ONE, "tracker=csv", "hydra.run.dir=csv")
    assert status == 0 and "epoch 1/2" not in printed, printed
    told = pd.read_csv(here / "csv/csv/classifier/metrics.csv")
    assert list(told["step"]) == [1, 2] and {"loss", "held_out_accuracy"} <= set(told)
    for name in set(history) - {"epoch"}:
        assert list(told[name]) == list(history[name]), name
    (row,) = csv.DictReader((here / "csv/csv/results/metrics.csv").open())
    assert {name: float(row[name]) for name in figures} == figures
    assert float(row["miou"]) == figures["trainval/seeds/miou"]
    assert not (here / "plain/csv").exists()


def test_tensorboard_reads_the_same_beside_csv(trained: tuple[Path, pd.DataFrame, dict[str, float]]) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    here, history, figures = trained
    for _ in range(2):  # the same folder again: no point twice
        status, printed = call(here, *ONE, "tracker=[csv,tensorboard]", "hydra.run.dir=board")
        assert status == 0, printed
    (events,) = (here / "board/tensorboard").iterdir()
    read = EventAccumulator(str(events))
    read.Reload()
    points = [(point.step, point.value) for point in read.Scalars("classifier/loss")]
    assert points == [(e, pytest.approx(x, rel=1e-6)) for e, x in zip(history["epoch"], history["loss"], strict=True)]
    for name, value in figures.items():
        assert [point.value for point in read.Scalars(name)] == pytest.approx([value], rel=1e-6)
    assert b"python -m seg.run" in read.Tensors("command/text_summary")[0].tensor_proto.string_val[0]
    content = read.PluginTagToContent("hparams")
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(content)
    assert b"threshold" in content["_hparams_/session_start_info"]
    assert (here / "board/csv/classifier/metrics.csv").is_file()


def test_epochs_are_told_while_training_and_a_failing_tracker_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def full(self: CSV, training: str, epoch: int, values: Any) -> None:
        (history,) = Path("outputs/store/Classifier").glob("*/history.csv")
        assert list(pd.read_csv(history)["epoch"])[-1] == epoch
        told.append(epoch)
        if epoch == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(CSV, "scalars", full)
    command = [x for x in ONE if x != "epoch=2"]
    status, printed = call(tmp_path, *command, "epoch=3", "tracker=csv", "hydra.run.dir=run")
    assert status == 0, printed
    assert told == [1, 2]
    assert printed.count("tracker csv: OSError: [Errno 28] No space left on device; the run goes on without it") == 1
    assert "Classifier epoch 3/3" in printed and (tmp_path / "run/metrics.csv").is_file()


def test_a_tracker_that_goes_away_fails_no_job_of_a_sweep(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: CSV) -> None:
        if in_sweep():  # the sweep itself has passed it, and now a job asks
            raise SegError("no route to host")

    def gone(self: CSV, *_: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(CSV, "check", check)
    monkeypatch.setattr(CSV, "start", gone)
    status, printed = call(here, "-m", *TINY, "epoch=1", "threshold=0.2,0.3", "hydra.sweep.dir=away", "tracker=csv")
    assert status == 0 and "2 jobs, 0 done before, 0 failed" in printed, printed
    assert printed.count("tracker csv: ConnectionError: no route to host") == 2


@pytest.mark.parametrize("extra", ["tensorboard", "mlflow"])
@pytest.mark.parametrize("before", [(), ("-m", "epoch=1..2")], ids=["run", "sweep"])
def test_a_missing_extra_is_refused_before_anything_is_built(
    extra: str, before: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seg.tracking.loggers.installed", lambda module: module != extra)
    status, printed = call(tmp_path, *before, *TINY, f"tracker={extra}")
    assert status == 1
    assert printed.count(f"is not installed; pip install 'weakseg[{extra}]'") == 1
    assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "outputs/store").exists() and not (tmp_path / "outputs/mlruns").exists()


def test_several_are_a_list_and_not_swept(tmp_path: Path) -> None:
    status, printed = call(tmp_path, "-m", *TINY, "epoch=1..2", "tracker=csv,tensorboard")
    assert status == 1 and "all at once is tracker=[csv,tensorboard]" in printed
    assert not (tmp_path / "outputs/store").exists()


def test_trackers_are_no_part_of_what_is_computed() -> None:
    several = ["tracker=[csv,tensorboard,mlflow]", "tracker.mlflow.uri=elsewhere"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain, tracked = (compose("config", [*TINY, *more]) for more in ([], several))
        assert set(tracked.tracker) == {"csv", "tensorboard", "mlflow"}
        experiments = [Experiment.from_config(cfg) for cfg in (plain, tracked)]
        assert experiments[0].figures() == experiments[1].figures()
        assert experiments[0].stored() == experiments[1].stored()
        loader = GlobalHydra.instance().config_loader()
        names = {make_plan({}, ["epoch=1,2", *more], loader).folder("cam") for more in ([], several)}
    assert len(names) == 1


@pytest.mark.slow
def test_of_two_processes_that_train_together_the_first_tells(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "seg.run", *ONE, "tracker=csv", "runtime.devices=2", "hydra.run.dir=run"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("csv/classifier/*")] == [
        "run/csv/classifier/metrics.csv"
    ]
    assert list(pd.read_csv(tmp_path / "run/csv/classifier/metrics.csv")["step"]) == [1, 2]


# -- MLflow ------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """All runs in a folder's file store, oldest first, as MLflow itself reads them."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    def read(folder: Path, name: str | None = None) -> list[Any]:
        client = MlflowClient(tracking_uri=(folder / "outputs/mlruns").as_uri())
        places = [x.experiment_id for x in client.search_experiments() if name in (None, x.name)]
        found = client.search_runs(places, order_by=["attributes.start_time ASC"])
        for run in found:
            run.points = {k: client.get_metric_history(run.info.run_id, k) for k in run.data.metrics}
            run.files = {x.path for x in client.list_artifacts(run.info.run_id)}
        return list(found)

    return read


def test_mlflow_has_one_run_of_a_folder(
    trained: tuple[Path, pd.DataFrame, dict[str, float]],
    runs: Callable[..., list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, history, figures = trained
    command = [*ONE, "tracker=mlflow", "hydra.run.dir=one", "figures=true"]
    with monkeypatch.context() as broken:
        broken.setattr("seg.experiment.Experiment.measure", lambda self: 1 / 0)
        assert call(here, *command)[0] == 1
    (failed,) = runs(here, "cam")
    assert failed.info.status == "FAILED"
    status, printed = call(here, *command)
    assert status == 0, printed
    (run,) = runs(here, "cam")
    assert run.info.status == "FINISHED" and run.info.run_name == "one" and run.info.run_id != failed.info.run_id
    assert [(p.step, p.value) for p in run.points["classifier/loss"]] == list(
        zip(history["epoch"], history["loss"], strict=True)
    )
    assert {name: run.data.metrics[name] for name in figures} == figures
    assert run.data.metrics["miou"] == figures["trainval/seeds/miou"]
    assert run.data.params["threshold"] == "0.5" and run.data.params["data.size"] == "64"
    assert {"panel.png", "report.html", "metrics.csv", "config.yaml"} <= run.files
    assert run.data.tags["weakseg.command"].startswith("python -m seg.run data.prepared")


def test_mlflow_groups_a_sweep(here: Path, runs: Callable[..., list[Any]]) -> None:
    status, printed = call(here, *GRID, "tracker=mlflow")
    assert status == 0, printed
    (folder,) = (here / "outputs/sweeps/cam").iterdir()
    jobs = runs(here, folder.name)
    names = sorted(run.info.run_name for run in jobs)
    assert names == [f"epoch={e},threshold={t}" for e in "12" for t in ("0.4", "0.5")]
    assert {run.info.status for run in jobs} == {"FINISHED"}
    for run in jobs:
        assert len(run.points["classifier/loss"]) == int(run.data.params["epoch"])
    # A job that is run again takes the place of its run.
    (folder / "epoch=1,threshold=0.4/job.json").unlink()
    assert "4 jobs, 3 done before" in call(here, *GRID, "tracker=mlflow")[1]
    assert sorted(run.info.run_name for run in runs(here, folder.name)) == names


@pytest.mark.slow
def test_mlflow_groups_jobs_of_several_processes(
    tmp_path: Path, runs: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("joblib", reason="the extra sweep is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    several = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=grid"]
    status, printed = call(tmp_path, *GRID, *several, "tracker=[mlflow,csv]")
    assert status == 0, printed
    jobs = runs(tmp_path, "grid")
    assert len(jobs) == 4 and {run.info.status for run in jobs} == {"FINISHED"}
    for run in jobs:
        assert [p.step for p in run.points["classifier/loss"]] == list(range(1, int(run.data.params["epoch"]) + 1))
        assert (tmp_path / "grid" / run.info.run_name / "csv/classifier/metrics.csv").is_file()
