"""The entrypoint, as a newcomer uses it and as one mistypes it."""

import csv
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import within
from PIL import Image
from within import TOYS, succeed

from seg.store.__main__ import name_of, products
from seg.store.run_folders import remembered_runs

TINY = [*TOYS, "data.prepared.source.images=32", "epoch=1", "threshold=0.5", "evaluation.panel=2"]
Finished = tuple[Path, str]
AFFINITY = ["pipeline=cam_affinity", "refiner.scores.affinity.epochs=1", "refiner.scores.affinity.channels=8"]
UNET = ["segmenter=unet", "segmenter.epochs=1", "segmenter.net.width=4", "segmenter.net.depth=2"]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The entrypoint within this process, in an empty folder: exit status and all that it printed."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return partial(within.call, folder)


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder and the output of one run through every stage, from nothing."""
    folder = tmp_path_factory.mktemp("run")
    return folder, succeed(folder, *TINY, *AFFINITY, *UNET, "export.masks=true", "hydra.run.dir=out")


def test_the_figures(finished):
    folder, printed = finished
    with (folder / "out/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    stages = {(row["stage"], row["split"]) for row in rows}
    names = ["CAM (label) >= 0.5", "appearance >= 0.5", "seeds", "refined masks", "PlainUNet prediction"]
    assert stages == {(name, split) for name in names for split in ("trainval", "test")}
    assert all(0 <= float(row["miou"]) <= 1 and int(row["images"]) > 0 for row in rows)
    told = json.loads((folder / "out/metrics.json").read_text())["header"]["estimated_quality"]
    for row in rows:
        quality = told[row["stage"]][row["split"]]["quality"]
        assert row["estimated_quality"] == ("" if quality is None else str(quality))
    assert all(0 < told[name]["trainval"]["agreement"] <= 1 for name in names[:4])
    doubtful = [float(line.split("\t")[1]) for line in (folder / "out/doubtful.txt").read_text().splitlines()[1:]]
    assert doubtful == sorted(doubtful) and len(doubtful) > 10
    for name in names:  # and on the terminal
        assert name in printed
    assert "TOY" in printed.splitlines()[0]
    for picture in ("panel.png", "curves.png"):
        with Image.open(folder / "out" / picture) as image:
            assert min(image.size) > 200
    assert re.search(r"evaluation set: \d+ trainval \+ \d+ test \(border: ignore", printed)
    assert "out/panel.png" in printed


def test_a_second_run_builds_nothing_and_says_the_same(finished, call):
    folder = finished[0]
    store = folder / "outputs/store"
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.is_file()}
    status, said = call(*TINY, *AFFINITY, *UNET, f"store={store}", "hydra.run.dir=out")
    assert status == 0 and "building" not in said, said
    after = {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.is_file()}
    new = {p: t for p, t in after.items() if p.suffix != ".lock" and before.get(p) != t}
    assert {p.parent for p in new} == {store / "runs"} and len(new) == 1  # the record of another run
    assert {f for _, f, _ in remembered_runs(store)} == {folder / "out", Path("out").resolve()}
    stored = {name_of(product) for product in products(store)}
    assert all({needed.partition("@")[0] for needed in all_} == stored for _, _, all_ in remembered_runs(store))
    assert Path("out/metrics.csv").read_bytes() == (folder / "out/metrics.csv").read_bytes()


def test_a_dry_run_over_it_prints_what_is_built_and_what_is_not(finished, call):
    folder = finished[0]
    before = files(folder)
    same = [*TINY, *AFFINITY, *UNET, f"store={folder / 'outputs/store'}", "dry_run=true"]
    status, said = call(*same)
    assert status == 0 and "[built: " in said and "[build: " not in said
    status, said = call(*same, "refiner.scores.beta=4", "epoch=2")
    assert re.search(r"\+ +Walk \w+ +\[build: ", said)
    assert re.search(r"\+ +Classifier \w+@2 +\[extend: has 1 epochs, 2 wanted\]", said)
    assert re.search(r"= +Prepared \w+ +\[built: ", said)
    assert files(folder) == before and files(Path.cwd()) == set()


def test_networks_are_in_the_runs_folder_and_can_be_given_back(finished):
    folder = finished[0]
    roles = ("classifier", "affinity", "segmenter")
    named = {f"{role}.{end}" for role in roles for end in ("safetensors", "json")}
    assert files(folder / "out/models") == named | {"README.md"}
    info = json.loads((folder / "out/models/segmenter.json").read_text())
    assert info["command"].startswith("python -m seg.run ") and "segmenter=unet" in info["command"]
    assert {row["stage"] for row in info["metrics"]} == {"PlainUNet prediction"}
    given = [f"checkpoints.{role}=out" for role in roles]
    options = ["export.masks=true", "hydra.run.dir=given", "store=other"]
    printed = succeed(folder, *TINY, *AFFINITY, *UNET, *given, *options)
    for line in given:
        assert f"{line}: given, not trained" in printed
    assert "loss" not in printed
    assert f"next: python -m seg.predict model={folder}/given images=PHOTOS out=masks\n" in printed
    for path in (folder / "out/masks").rglob("*.png"):
        again = folder / "given/masks" / path.relative_to(folder / "out/masks")
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(again))), path
    again_info = json.loads((folder / "given/models/segmenter.json").read_text())
    assert again_info["given"] == "segmenter.safetensors" and again_info["data"] == info["data"]


def test_boxes_on_data_in_the_official_layout(call, official):
    root = official(without_target=("beagle_1",))
    options = ["data=oxford_pet", f"data.root={root}", "data.size=32", "runtime.accelerator=cpu"]
    status, said = call(*options, "pipeline=bbox", "evaluation.resolution=original", "hydra.run.dir=out")
    assert status == 0, said
    assert said.splitlines()[0].startswith("data: oxford_pet") and "HEAD" in said
    assert re.search(r"^data: .*: 1 \(beagle_1\)$", said, re.MULTILINE), said  # what was skipped, too
    with Path("out/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["split"], row["images"]) for row in rows} == {("trainval", "5")}


OWN = [
    "data=image_folder",
    "colocalise=none",
    "data.size=64",
    "runtime.accelerator=cpu",
    "runtime.threads=1",
    "hydra.run.dir=out",
]
CLASSIFIER = ["weights=null", "epoch=1", "classifier.train_size=64"]


def test_own_photos_without_any_target(call, photos):
    root = photos(images=4)
    status, said = call(*OWN, *CLASSIFIER, f"data.root={root}", *AFFINITY, "evaluation.panel=3", "export.format=png01")
    assert status == 0, said
    assert said.splitlines()[0].startswith("data: image_folder") and "no masks, no boxes" in said.splitlines()[0]
    assert re.search(r"nothing was measured: .* look at .*out/panel\.png", said)
    assert re.search(r"^refined masks +8 +-$", said, re.MULTILINE)
    assert json.loads(Path("out/metrics.json").read_text())["rows"] == []
    report = Path("out/report.html").read_text()
    assert "Nothing was measured" in report and ">ground truth</span>" not in report and ">seeds</span>" in report
    with Image.open("out/panel.png") as image:
        assert image.width > image.height  # photo, scores, seeds, refined masks, and no ground truth
    for product in Path("out/masks").iterdir():
        assert {p.stem for p in product.iterdir()} == {f"{c}{i}" for c in ("cat", "dog") for i in range(1, 5)}
        with Image.open(product / "cat1.png") as mask:
            assert mask.size == (60, 40) and set(np.unique(np.asarray(mask)).tolist()) <= {0, 1}


def test_own_photos_with_masks_and_boxes(call, photos):
    root = photos(classes=("cat",))
    target = np.zeros((40, 60), np.uint8)
    target[10:30, 20:45] = 255
    (root / "masks").mkdir()
    for number in range(1, 6):
        Image.fromarray(target).save(root / f"masks/cat{number}.png")
    lines = [f"cat{i}.png,20,10,45,30\n" for i in range(1, 6)]
    (root / "boxes.csv").write_text("".join(["file,xmin,ymin,xmax,ymax\n", *lines]))
    options = [*OWN, f"data.root={root}", "threshold=0.5", "evaluation.panel=1"]
    before = files(root)
    status, said = call(*options, "pipeline=bbox", "dry_run=true")
    assert status == 0 and f"({root}): 5 images of 1 class, mask files for 5 in {root}/masks, boxes for 5 in" in said
    assert files(Path.cwd()) == set() and files(root) == before
    status, said = call(*options, "pipeline=bbox", "supervision.scale=3", "export.format=coco")
    assert status == 0, said
    with Path("out/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    splits = (("trainval", "4"), ("test", "1"))
    assert [(row["stage"], row["split"], row["images"]) for row in rows] == [
        (stage, *split) for stage in ("Gaussian on boxes >= 0.5", "seeds") for split in splits
    ]
    # A wide Gaussian cut off at the box is the box, and the box is the ground truth.
    assert all(float(row["miou"]) > 0.85 and row["oracle"] == "False" for row in rows)
    document = json.loads(Path("out/masks/seeds/annotations/instances_default.json").read_text())
    assert {image["file_name"] for image in document["images"]} == {f"cat/cat{i}.png" for i in range(1, 6)}


def test_two_processes_share_one_run(tmp_path):
    """Started by ``python -m seg.run`` and Lightning Fabric."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "seg.run", *TINY, "runtime.devices=2", "figures=false", "hydra.run.dir=two"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stages = [row["stage"] for row in csv.DictReader((tmp_path / "two/metrics.csv").open())]
    assert stages[-1] == "seeds"
    assert done.stdout.count("Classifier epoch 1/1") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"outputs", "two"}
    # Again in one process, from the store alone.
    assert "building" not in succeed(tmp_path, *TINY, "figures=false", "hydra.run.dir=again")
    assert (tmp_path / "again/metrics.csv").read_bytes() == (tmp_path / "two/metrics.csv").read_bytes()
