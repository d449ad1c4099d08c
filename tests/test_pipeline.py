"""One run from start to end: in which order, and what it leaves where."""

import importlib.util
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torchvision.models import resnet18
from within import succeed

from seg import pipeline
from seg.config import schema
from seg.config.paths import CONF
from seg.errors import SegError
from seg.experiment import Experiment
from seg.store import Store
from seg.store.run_folders import remembered_runs

schema.register()

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))

SMALL = ["data.size=64", "runtime.accelerator=cpu", "runtime.threads=1", "runtime.progress=false"]
TOY = ["data.prepared.source.images=24", "data.prepared.source.breeds=2", "data.prepared.source.size=48"]


def config(store, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*SMALL, *TOY, f"store={store}", *overrides])


def test_a_run_records_what_it_refers_to_before_it_builds(tmp_path, monkeypatch):
    folder, store = tmp_path / "run", tmp_path / "store"
    seen: dict[str, Any] = {}

    def fail(self):
        seen["records"] = [(place, products) for _, place, products in remembered_runs(store)]
        seen["expected"] = [(folder, set(self.stored()))]
        raise RuntimeError("the machine goes down")

    monkeypatch.setattr(Experiment, "build", fail)
    folder.mkdir()
    with pytest.raises(RuntimeError, match="goes down"):
        pipeline.run(config(store), folder)
    assert seen["records"] == seen["expected"] and [path.name for path in store.iterdir()] == ["runs"]


def test_a_refused_run_leaves_nothing(tmp_path):
    with pytest.raises(SegError, match=r"checkpoints\.classifier=none\.pth: no such file"):
        pipeline.run(config(tmp_path / "store", "checkpoints.classifier=none.pth"), tmp_path / "run")
    assert not (tmp_path / "store").exists()


def test_only_the_building_is_done_together(tmp_path, monkeypatch):
    real, views, used = Store.alone, [], {}

    def alone(self):
        views.append(real(self))
        return views[-1]

    monkeypatch.setattr(Store, "alone", alone)
    monkeypatch.setattr(Experiment, "build", lambda self: used.update(build=self.store))
    monkeypatch.setattr(Experiment, "measure", lambda self: used.update(measure=self.store))
    monkeypatch.setattr(pipeline, "write_report", lambda experiment, *_: used.update(report=experiment.store))
    folder = tmp_path / "run"
    folder.mkdir()
    done = pipeline.run(config(tmp_path / "store"), folder)
    assert list(used) == ["build", "measure", "report"]
    assert used["build"] not in views
    assert used["measure"] is used["report"] is done.store is views[-1]


@pytest.mark.slow
def test_no_path_of_this_machine_is_in_what_others_get(official, tmp_path):
    telling = "telling-name"
    data = official(f"{telling}/pets")
    weights = tmp_path / telling / "start.pth"
    torch.save(resnet18(weights=None).state_dict(), weights)
    common = ["data=oxford_pet", f"data.root={data}", *SMALL, "epoch=1", f"store={tmp_path / telling}/store"]
    common += [f"weights={weights}", "segmenter=unet", "segmenter.net.width=2", "segmenter.epochs=1"]
    first, second = tmp_path / telling / "first", tmp_path / "second"
    succeed(tmp_path, *common, "figures=false", f"hydra.run.dir={first}")
    given = [f"checkpoints.classifier={first}", f"checkpoints.segmenter={first}/models/segmenter.safetensors"]
    more = ["refiner=affinity", "data.refine.epochs=1", f"export.onnx={str(HAS_ONNX).lower()}"]
    succeed(tmp_path, *common, *given, *more, f"hydra.run.dir={second}")
    # What Hydra and the log keep is for whoever ran it.
    files = [path for path in second.rglob("*") if path.is_file() and ".hydra" not in path.parts]
    files = [path for path in files if path.suffix != ".log"]
    names = {path.relative_to(second).as_posix() for path in files}
    assert {"report.html", "metrics.json", "models/affinity.json", "models/segmenter.safetensors"} <= names
    assert not HAS_ONNX or "models/segmenter.onnx" in names
    assert [path.name for path in files if telling.encode() in path.read_bytes()] == []
    for path in (second / "report.html", second / "models/affinity.json"):
        for shown in ("data.root=DIR/pets", "weights=DIR/start.pth", "checkpoints.classifier=DIR/first"):
            assert shown in path.read_text()
