"""What trackers log, read back with each library's own reader; and what must not happen because of them."""

import importlib.util
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from within import TOYS, call, succeed

TINY = [*TOYS, "classifier.hold_out=0.25", "classifier.batch_size=8", "evaluation.panel=1", "figures=false"]
ONE = [*TINY, "epoch=2", "threshold=0.5"]
Trained = tuple[Path, pd.DataFrame, dict[str, float]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder whose store has both epochs of the classifier; its history, and the figures of a run with it."""
    here = tmp_path_factory.mktemp("tracked")
    succeed(here, *ONE, "hydra.run.dir=plain")
    (history,) = (here / "outputs/store/Classifier").glob("*/history.csv")
    rows = json.loads((here / "plain/metrics.json").read_text())["rows"]
    names = {row["stage"]: re.sub(r" >= .*|[()]", "", row["stage"]) for row in rows}
    figures = {f"{row['split']}/{names[row['stage']]}/miou": row["miou"] for row in rows}
    assert {"trainval/seeds/miou", "test/seeds/miou", "test/CAM label/miou"} <= set(figures)
    return here, pd.read_csv(history), figures


def test_csv_and_tensorboard_have_the_history_and_the_results_once(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    here, history, figures = trained
    for _ in range(2):  # the same folder again: no point twice, and the stored epochs
        assert "epoch 1/2" not in succeed(here, *ONE, "tracker=[csv,tensorboard]", "hydra.run.dir=board")
    logged = pd.read_csv(here / "board/csv/metrics.csv")
    assert list(logged["step"]) == [1, 2, 0]
    for name in set(history) - {"epoch"}:
        assert list(logged[f"classifier/{name}"][:2]) == list(history[name]), name
    assert {name: logged[name][2] for name in figures} == figures
    assert logged["miou"][2] == figures["trainval/seeds/miou"]
    (events,) = (here / "board/tensorboard").iterdir()
    read = EventAccumulator(str(events))
    read.Reload()
    points = [(point.step, point.value) for point in read.Scalars("classifier/loss")]
    assert points == [(e, pytest.approx(x, rel=1e-6)) for e, x in zip(history["epoch"], history["loss"], strict=True)]
    for name, value in figures.items():
        assert [point.value for point in read.Scalars(name)] == pytest.approx([value], rel=1e-6)
    assert b"threshold" in read.PluginTagToContent("hparams")["_hparams_/session_start_info"]


def test_mlflow_has_a_run_and_each_job_of_a_sweep_in_one_experiment(trained, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    here, history, figures = trained
    with monkeypatch.context() as broken:
        broken.setattr("seg.experiment.Experiment.measure", lambda self: 1 / 0)
        assert call(here, *ONE, "tracker=mlflow", "hydra.run.dir=one")[0] == 1
    sweep = ["-m", *TINY, "epoch=1,2", "threshold=0.5", "hydra.sweep.dir=grid"]
    for command in ([*ONE, "hydra.run.dir=one"], sweep):
        succeed(here, *command, "tracker=mlflow")
    client = MlflowClient(tracking_uri=(here / "outputs/mlruns").as_uri())
    experiments = [client.get_experiment_by_name(name) for name in ("cam", "grid")]
    (failed, run), jobs = (
        list(client.search_runs([one.experiment_id], order_by=["attributes.start_time ASC"])) for one in experiments
    )
    assert (failed.info.status, run.info.status, run.info.run_name) == ("FAILED", "FINISHED", "one")
    losses = client.get_metric_history(run.info.run_id, "classifier/loss")
    assert [(p.step, p.value) for p in losses] == list(zip(history["epoch"], history["loss"], strict=True))
    assert {name: run.data.metrics[name] for name in figures} == figures
    assert run.data.metrics["miou"] == figures["trainval/seeds/miou"]
    assert run.data.params["threshold"] == "0.5" and run.data.params["data.size"] == "64"
    files = {x.path for x in client.list_artifacts(run.info.run_id)}
    assert {"metrics.json", "metrics.csv", "config.yaml"} <= files
    assert [(job.info.status, job.data.params["epoch"]) for job in jobs] == [("FINISHED", "1"), ("FINISHED", "2")]


def test_wandb_offline_has_epochs_results_and_settings(trained):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    here, history, figures = trained
    assert "tracker wandb" not in succeed(
        here, *ONE, "tracker=wandb", "tracker.wandb.mode=offline", "hydra.run.dir=biases"
    )
    (file,) = (here / "biases/wandb").glob("offline-run-*/run-*.wandb")
    content, at, part, records = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):  # LevelDB's log format, which wandb itself reads in Go alone
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the end of one
            records.append(wandb_internal_pb2.Record.FromString(part))
            part = b""

    def values(items):
        return {x.key or "/".join(x.nested_key): json.loads(x.value_json) for x in items}

    rows = [values(r.history.item) for r in records if r.HasField("history")]
    assert [(row["epoch"], row["classifier/loss"]) for row in rows] == [
        *zip(history["epoch"], history["loss"], strict=True)
    ]
    summary = {k: v for r in records if r.HasField("summary") for k, v in values(r.summary.update).items()}
    assert {name: summary[name] for name in figures} == figures and summary["miou"] == figures["trainval/seeds/miou"]
    (run,) = (r.run for r in records if r.HasField("run"))
    assert (run.project, run.run_group, run.display_name) == ("weakseg", "cam", "biases")
    assert values(run.config.update)["threshold"] == "0.5"
    assert [r.exit.exit_code for r in records if r.HasField("exit")] == [0]
    assert {"metrics.csv", ".hydra/config.yaml"} <= {f.path for r in records for f in r.files.files}


def test_epochs_are_logged_while_training_and_a_failing_tracker_ends_nothing(tmp_path, monkeypatch):
    logged: list[int] = []

    def full(_, figures, step):
        (history,) = Path("outputs/store/Classifier").glob("*/history.csv")
        assert list(pd.read_csv(history)["epoch"])[-1] == step
        logged.append(step)
        if step == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning_fabric.loggers.csv_logs.CSVLogger.log_metrics", full)
    printed = succeed(tmp_path, *ONE, "epoch=3", "tracker=csv", "hydra.run.dir=run")
    assert logged == [1, 2]
    assert printed.count("tracker csv: OSError: [Errno 28] No space left on device; the run goes on without it") == 1
    assert "Classifier epoch 3/3" in printed and (tmp_path / "run/metrics.csv").is_file()


def test_a_missing_extra_is_refused_before_anything_is_built(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "mlflow" else find(name, *more))
    status, printed = call(tmp_path, *TINY, "tracker=mlflow")
    assert status == 1 and printed.count("is not installed; pip install 'weakseg[mlflow]'") == 1
    assert not (tmp_path / "outputs/store").exists()
