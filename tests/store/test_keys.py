"""Keys of the package's own stages: equal keys, equal products; no path in any of them."""

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torchvision.models import ResNet18_Weights, ResNet50_Weights

from seg.config import schema
from seg.config.paths import CONF
from seg.data.prepared import Pool
from seg.errors import SegError
from seg.experiment import Experiment
from seg.masks import Threshold
from seg.nets.smp import known_encoder
from seg.refiner.affinity import Affinity, FrozenAffinity
from seg.segmenter.architectures import BackboneUNet
from seg.segmenter.segmenter import Segmenter
from seg.store import Stage
from seg.supervision.classifier import Classifier
from seg.supervision.colocalise import Colocalised
from seg.supervision.mask import TargetScores


def keys(*overrides):
    """The ids of all stages of a run, the evaluated ones among them."""
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        made = Experiment.from_config(compose("config", list(overrides)))
    return {type(s).__name__: s.id for s in made.stages()} | {"figures": ",".join(made.figures())}


WEIGHTS: dict[str, Callable[[Pool, str | None, str], Stage]] = {
    "classifier": lambda pool, w, net: Classifier(data=pool.data, backbone=net, weights=w),
    "affinity": lambda pool, w, net: Affinity(
        seeds=Threshold(scores=TargetScores(pool=pool), threshold=0.5), backbone=net, weights=w
    ),
    "co-localisation": lambda pool, w, net: Colocalised(scores=TargetScores(pool=pool), backbone=net, weights=w),
    "frozen": lambda pool, w, net: FrozenAffinity(backbone=net, weights=w),
    "segmenter": lambda pool, w, net: Segmenter(
        masks=Threshold(scores=TargetScores(pool=pool), threshold=0.5), net=BackboneUNet(encoder=net, weights=w)
    ),
}


@pytest.mark.parametrize(("what", "net"), [*((what, "resnet18") for what in WEIGHTS), ("segmenter", "resnet50")])
def test_default_weights_are_the_member_that_they_stand_for(pool, what, net):
    """So that torchvision may choose another default."""
    default = {"resnet18": ResNet18_Weights, "resnet50": ResNet50_Weights}[net].DEFAULT.name
    make = WEIGHTS[what]
    assert make(pool, "DEFAULT", net).key == make(pool, default, net).key
    assert make(pool, "DEFAULT", net).key != make(pool, None, net).key


@pytest.mark.parametrize(("what", "section"), [("classifier", ""), ("segmenter", r"segmenter\.net\.")])
def test_a_file_of_weights_is_its_bytes(pool, tmp_path, monkeypatch, what, section):
    make = WEIGHTS[what]
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.pth").write_bytes(b"weights")
    (tmp_path / "sub/b.pth").write_bytes(b"weights")
    (tmp_path / "c.pth").write_bytes(b"others")
    monkeypatch.chdir(tmp_path)
    places = ["a.pth", "sub/b.pth", str(tmp_path / "a.pth")]
    (key,) = {make(pool, place, "resnet18").key for place in places}
    assert make(pool, "c.pth", "resnet18").key != key
    with pytest.raises(SegError, match=rf"^{section}weights=d\.pth: no such file; torchvision has IMAGENET1K_V1, "):
        _ = make(pool, "d.pth", "resnet18").key
    # A file that is called like one of torchvision's is the file.
    (tmp_path / "IMAGENET1K_V1").write_bytes(b"weights")
    assert make(pool, "IMAGENET1K_V1", "resnet18").key == key


OWN = """import timm
from torch import nn

@timm.models.register_model
def net_of_keys(**options):
    return nn.Conv2d(3, {channels}, 3)  # {words}
"""


@pytest.mark.filterwarnings("ignore:Overwriting net_of_keys")
def test_an_edit_of_an_own_backbone_changes_the_keys_of_all_that_uses_it(pool, tmp_path, monkeypatch):
    def imported(channels, words):
        folder = tmp_path / f"{channels}{words}"
        folder.mkdir()
        (folder / "net_of_keys.py").write_text(OWN.format(channels=channels, words=words))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "net_of_keys", raising=False)
        importlib.import_module("net_of_keys")
        found = {what: make(pool, None, "timm/net_of_keys").key for what, make in WEIGHTS.items()}
        if find_spec("segmentation_models_pytorch"):
            found["smp"] = known_encoder(None, "tu-net_of_keys")
        return found

    before, commented, edited = imported(4, "few"), imported(4, "some"), imported(8, "few")
    assert commented == before
    assert not {*edited.items()} & {*before.items()}


@pytest.mark.parametrize("data", ["oxford_pet", "image_folder"])
def test_no_place_of_the_data_enters_a_key(data, official, photos, tmp_path, monkeypatch):
    """Nor the working folder, nor the store."""
    root = {"oxford_pet": official, "image_folder": photos}[data]()
    shutil.copytree(root, tmp_path / "elsewhere/copy")
    monkeypatch.chdir(tmp_path)
    options = [f"data={data}", "pipeline=bbox" if data == "oxford_pet" else "pipeline=cam", "refiner=affinity"]
    options += ["segmenter=unet"]
    first = keys(*options, f"data.root={root}", f"store={tmp_path}/store")
    assert {"Affinity", "Segmenter", "Prepared", "Threshold"} <= set(first) and "Evaluated/" in first["figures"]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert keys(*options, "data.root=copy", "store=other") == first
    for file in (tmp_path / "elsewhere/copy").rglob("*.*"):
        os.utime(file, (1, 1))
    assert keys(*options, "data.root=../elsewhere/copy") == first
    assert str(tmp_path) not in str(first)
