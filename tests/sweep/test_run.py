"""Sweeps from the command line to the table, for real on drawn pictures, under the launchers too."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from within import TOYS, succeed
from within import call as sweep

from seg.evaluation.table import headline
from seg.store.code_hash import code_hash

ROOT = Path(__file__).parents[2]
#: Without a number of threads, which a launcher of several processes sets.
TINY = [*TOYS[:-1], "data.prepared.source.images=32", "classifier.hold_out=0.25", "classifier.batch_size=8"]
GRID = ["epoch=1..2", "threshold=0.1..0.9"]


def rows_of(folder):
    with (folder / "miou_results_all.csv").open() as file:
        return list(csv.DictReader(file))


def times_of(folder):
    """When each job was last run."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/job.json")}


ALL = [(str(e), f"0.{t}") for e in (1, 2) for t in range(1, 10)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The grid, once: where it was run, its folder, what it printed."""
    here = tmp_path_factory.mktemp("sweep")
    printed = succeed(here, "-m", *TINY, *GRID)
    (folder,) = (here / "outputs/sweeps/cam").iterdir()
    return here, folder, printed


def test_the_table_and_the_folder(swept):
    here, folder, printed = swept
    assert [path.name for path in here.iterdir()] == ["outputs"]
    rows = rows_of(folder)
    assert [(row["epoch"], row["threshold"]) for row in rows] == ALL
    for row in rows:
        assert row["status"] == "ok" and row["split"] == "trainval" and int(row["images"]) == 22
        table = json.loads((folder / row["folder"] / "metrics.json").read_text())["rows"]
        of = {row["split"]: row["miou"] for row in table if row["stage"] == "seeds"}
        assert {"trainval": float(row["miou"]), "test": float(row["miou_test"])} == of
    assert folder.name.startswith("epoch=1..2,threshold=0.1..0.9,classifier.batch_size=8,") and len(folder.name) < 150
    assert re.search(r"^\[18/18, 00:00 left\]  epoch=2 threshold=0\.9  mIoU 0\.\d{4}$", printed, re.MULTILINE)
    (classifier,) = (p for p in (swept[0] / "outputs/store/Classifier").iterdir() if p.is_dir())
    assert len(list(classifier.glob("epoch_*.safetensors"))) == 2  # one training
    made = {x: len([p for p in (swept[0] / "outputs/store" / x).iterdir() if p.is_dir()]) for x in ("CAM", "Histogram")}
    assert made == {"CAM": 2, "Histogram": 4}  # two epochs, two splits


def test_the_best_cell_and_a_run_with_it(swept):
    here, folder, printed = swept
    best = max(rows_of(folder), key=lambda row: float(row["miou"]))
    overrides = [f"epoch={best['epoch']}", f"threshold={best['threshold']}"]
    assert f"best: {' '.join(overrides)}  mIoU {float(best['miou']):.4f}" in printed and "masks were used" in printed
    accurate = max(rows_of(folder), key=lambda row: float(row["held_out_accuracy"]))
    same = [row for row in rows_of(folder) if row["epoch"] == accurate["epoch"]]
    parted = max(same, key=lambda row: float(row["separability"]))
    assert f"without masks: epoch={accurate['epoch']} threshold={parted['threshold']} " in printed
    assert {row["masks_used"] for row in rows_of(folder)} == {"0"}  # by each job; the best of them is chosen by masks
    with Image.open(folder / "miou.png") as picture:
        assert picture.format == "PNG" and picture.width > 300
    (command,) = re.findall(r"^next: python -m seg.run pipeline=cam_affinity (.*)$", printed, re.MULTILINE)
    given = [*shlex.split(command), "hydra.run.dir=one", "evaluation.panel=0"]
    assert set(overrides) <= set(given)
    succeed(here, *given)
    table = json.loads((here / "one/metrics.json").read_text())["rows"]
    assert {row["masks_used"] for row in table} == {int(best["images"])} and int(best["images"]) > 0
    assert float(best["miou"]) == headline(table)["miou"]


def test_the_same_command_again_runs_nothing(swept):
    here, folder, _ = swept
    before = times_of(folder)
    status, printed = sweep(here, *TINY, "threshold=0.1..0.9", "epoch=1..2", "-m", "figures=false")
    assert status == 0 and "18 jobs, 18 done before" in printed
    assert times_of(folder) == before and len(rows_of(folder)) == 18


def test_jobs_whose_inputs_are_there_are_cheap(swept):
    # Seconds of work are lost where each job composes its config, loads networks or draws pictures.
    here, _, _ = swept
    started = time.process_time()
    succeed(here, "-m", *TINY, "epoch=1,2", "threshold=0.31..0.35")
    assert (time.process_time() - started) / 10 < 0.6


def test_a_job_is_done_again_after_a_change_of_code_or_data_or_damage_to_its_record(swept, monkeypatch):
    here, _, _ = swept
    command = ["-m", *TINY, "epoch=1", "threshold=0.5,0.6", "hydra.sweep.dir=code"]
    assert "2 jobs, 0 done before" in sweep(here, *command)[1]
    record = here / "code/threshold=0.5/job.json"
    record.write_text("{")
    assert "2 jobs, 1 done before, 0 failed" in sweep(here, *command)[1]
    # A figure that is another, and all of it still JSON.
    record.write_text(record.read_text().replace('"miou": 0.', '"miou": 1.'))
    assert "2 jobs, 1 done before, 0 failed" in sweep(here, *command)[1]
    assert json.loads(record.read_text())["row"]["miou"] < 1
    assert "2 jobs, 2 done" in sweep(here, *command, "dry_run=true", "runtime.batch_size=8", "figures=false")[1]
    assert "2 jobs, 0 done" in sweep(here, *command, "dry_run=true", "data.prepared.source.seed=1")[1]
    monkeypatch.setattr("seg.store.stage.code_hash", lambda c: code_hash(c) + "x" * (c.__name__ == "CAM"))
    assert "2 jobs, 0 done, 2 to run" in sweep(here, *command, "dry_run=true")[1]


def test_a_failing_job_ends_nothing_but_itself(swept):
    here, _, _ = swept
    # Whether the loss stays a number is seen in training only.
    command = ["-m", *TINY, "epoch=1", "threshold=0.4", "classifier.lr=1e-4,1e30", "hydra.sweep.dir=failing"]
    status, printed = sweep(here, *command)
    assert status == 1
    rows = rows_of(here / "failing")
    assert [row["status"] for row in rows] == ["ok", "failed"]
    assert "lower lr" in rows[1]["error"] and rows[1]["miou"] == ""
    assert "failed: 1" in printed
    before = times_of(here / "failing")
    status, printed = sweep(here, *command)
    assert status == 1 and "2 jobs, 1 done before" in printed
    again = {name for name, time in times_of(here / "failing").items() if time > before[name]}
    assert again == {"classifier.lr=1e+30"}


def test_a_sweep_that_can_only_fail_is_refused(swept):
    here, _, _ = swept
    status, printed = sweep(here, "-m", "data=oxford_pet", "data.root=nowhere", "epoch=1..3", "hydra.sweep.dir=no")
    assert status == 1 and "nowhere" in printed.splitlines()[-1]
    assert not (here / "no").exists()
    status, printed = sweep(here, "-m", *TINY, *GRID, "dry_run=true", "hydra.sweep.dir=no")
    assert status == 0 and "18 jobs, 0 done, 18 to run" in printed and not (here / "no").exists()


def test_a_killed_sweep_leaves_a_valid_table_and_goes_on(swept):
    here, _, _ = swept
    command = ["-m", *TINY, "epoch=1..2", "threshold=0.41..0.50", "hydra.sweep.dir=killed"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started = [sys.executable, "-m", "seg.run", *command]
    running = subprocess.Popen(started, cwd=here, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.poll() is None and len(times_of(here / "killed")) < 3:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = rows_of(here / "killed")
    assert 2 <= len(done) < 20 and all(row["status"] == "ok" and row["miou"] for row in done)
    before = times_of(here / "killed")
    succeed(here, *command)
    assert len(rows_of(here / "killed")) == 20
    after = times_of(here / "killed")
    assert all(after[row["folder"]] == before[row["folder"]] for row in done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "thresholds"),
    [
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], "0.4,0.6"),
        (["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2"], "0.4"),  # a process for each job
    ],
    ids=["joblib", "submitit_local"],
)
def test_jobs_in_several_processes_share_a_store(swept, tmp_path, launcher, thresholds, monkeypatch):
    name = re.sub(r"\W", "_", launcher[0])
    pytest.importorskip("joblib" if "joblib" in name else "submitit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # A store of its own: two jobs begin with nothing at the same time.
    command = ["-m", *TINY, "epoch=1,2", f"threshold={thresholds}", "hydra.sweep.dir=several", *launcher]
    succeed(tmp_path, *command)
    table = rows_of(tmp_path / "several")
    rows = {(row["epoch"], row.get("threshold", thresholds)): row for row in table}
    alone = dict(zip(ALL, rows_of(swept[1]), strict=True))
    assert list(rows) == [(e, t) for e in "12" for t in thresholds.split(",")]
    assert all(row["miou"] == alone[cell]["miou"] for cell, row in rows.items())
    logs = "".join(path.read_text() for path in (tmp_path / "several").glob("*/run.log"))
    counts = Counter(re.findall(r"(\w+ [0-9a-f]{16}): building", logs))  # by stage
    assert {stage.split()[0] for stage in counts} >= {"ToyPets", "Prepared", "Classifier", "CAM"}
    # A training is gone on with, by another process perhaps; all else is built once.
    assert all(n == 1 for stage, n in counts.items() if not stage.startswith("Classifier")), counts
    histories = list((tmp_path / "outputs/store/Classifier").glob("*/history.csv"))
    assert [len(path.read_text().splitlines()) for path in histories] == [3]
    jobs = [json.loads(path.read_text())["overrides"] for path in (tmp_path / "several").glob("*/job.json")]
    assert all("runtime.threads=1" in overrides for overrides in jobs)


def test_a_sweep_without_a_target_leaves_the_pictures(tmp_path, photos):
    root = photos(images=4)
    (root / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax\ncat1.png,20,10,45,30\ndog1.png,20,10,45,30\n")
    blind = ["-m", "data=image_folder", f"data.root={root}", "data.size=32", "pipeline=bbox", "threshold=0.3,0.5"]
    blind += ["runtime.accelerator=cpu", "evaluation.panel=1"]
    printed = succeed(tmp_path, *blind)
    (folder,) = (tmp_path / "outputs/sweeps/bbox").iterdir()
    assert [(row["status"], row["miou"], row["error"]) for row in rows_of(folder)] == [("ok", "", "")] * 2
    assert "nothing was measured" in printed
    assert "[2/2, 00:00 left]  threshold=0.5  no ground truth to measure with" in printed
    assert not (folder / "miou.png").exists() and not list(folder.glob("*/panel.png"))
    # Done jobs are not taken for done where the pictures that they could still give are asked for.
    status, printed = sweep(tmp_path, *blind, "figures=true")
    assert status == 0 and len(list(folder.glob("*/panel.png"))) == 2
    assert "2 jobs, 2 done before" in sweep(tmp_path, *blind, "figures=true")[1]


def test_a_sweep_over_seeds_has_a_table_and_no_best(swept):
    here, _, _ = swept
    command = ["-m", *TINY, "epoch=1", "threshold=0.4,0.6", "seed=0,1", "evaluation.boundary=true"]
    printed = succeed(here, *command, "hydra.sweep.dir=seeds")
    table = pd.read_csv(here / "seeds/seeds.csv")
    assert len(table) == 8 and set(table["n"]) == {2} and set(table["split"]) == {"trainval", "test"}
    jobs = pd.read_csv(here / "seeds/miou_results_all.csv")
    for threshold, rows in jobs.groupby("threshold"):
        row = table[(table["threshold"] == threshold) & (table["stage"] == "seeds")].set_index("split")
        for split, column in (("trainval", "miou"), ("test", "miou_test")):
            assert row.loc[split, "miou_mean"] == pytest.approx(rows[column].mean())
            assert row.loc[split, "miou_std"] == pytest.approx(rows[column].std())
            assert row.loc[split, "miou_low"] < row.loc[split, "miou_mean"] < row.loc[split, "miou_high"]
        assert f"{row.loc['trainval', 'miou_mean']:.4f} ± {row.loc['trainval', 'miou_std']:.4f}" in printed
    assert table["boundary_iou_mean"].between(0, 1).all()
    assert "best" not in printed and "next:" not in printed and not (here / "seeds/miou.png").exists()
    # What the table is made of is made again where it has gone.
    (here / "seeds/threshold=0.4,seed=0/per_image.npz").unlink()
    assert "4 jobs, 3 done before" in succeed(here, *command, "hydra.sweep.dir=seeds")
