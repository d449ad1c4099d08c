"""Networks in the run's folder, and the way back."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from seg.data.prepared import Pool, Prepared
from seg.errors import SegError
from seg.masks import Seeds
from seg.models.load import find_model, load_model
from seg.models.save import config_that_fits, save_models
from seg.segmenter.architectures import PlainUNet, TorchvisionNetwork
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.bbox import BoxScores
from seg.supervision.cam import CAM
from seg.supervision.classifier import Classifier


def prediction(masks: Seeds, pool: Pool, **changed: Any) -> Seeds:
    options: dict[str, Any] = {"net": PlainUNet(width=2, depth=1), "epochs": 1, "batch_size": 8, "input_size": 32}
    return Seeds(scores=Predicted(pool=pool, segmenter=Segmenter(masks=masks, **options | changed)), threshold=0.5)


@pytest.fixture(scope="module")
def saved(
    store: Store, pool: Pool, prepared: Prepared, classifier: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Seeds]]:
    folder = tmp_path_factory.mktemp("run") / "models"
    seeds = Seeds(scores=CAM(pool=pool, classifier=classifier), threshold=0.5)
    products = {"seeds": seeds, "prediction": prediction(seeds, pool)}
    rows = [{"stage": name, "split": "test", "miou": 0.25, "coverage": float("nan")} for name in products]
    for product in products.values():
        store.ensure(product)
    save_models(folder, products, rows, prepared, store)
    return folder, products


def test_weights_and_what_they_are(store: Store, saved: tuple[Path, dict[str, Seeds]], classifier: Classifier) -> None:
    folder = saved[0]
    assert {p.name for p in folder.iterdir()} == {
        f"{role}.{end}" for role in ("classifier", "segmenter") for end in ("safetensors", "json")
    }
    info = {role: json.loads((folder / f"{role}.json").read_text()) for role in ("classifier", "segmenter")}
    # Each has the rows of its own product, in JSON that others can read.
    assert [row["stage"] for row in info["classifier"]["metrics"]] == ["seeds"]
    assert info["segmenter"]["metrics"] == [
        {"stage": "prediction", "split": "test", "miou": 0.25, "coverage": None},
    ]
    assert info["classifier"]["classes"] == list(store.get(classifier.data).classes)
    assert (info["segmenter"]["working_size"], info["segmenter"]["input_size"]) == (64, 32)
    assert info["segmenter"]["architecture"]["width"] == 2 and "toy" in info["segmenter"]["data"]
    assert info["segmenter"]["licence"] and not info["segmenter"]["oracle"]
    # torchvision's own names
    state = load_file(folder / "classifier.safetensors")
    assert {"conv1.weight", "layer3.1.bn2.running_var", "fc.bias"} <= state.keys()
    assert os.stat(folder / "classifier.safetensors").st_nlink >= 2 or os.name == "nt"


def test_given_back_the_masks_are_the_same(
    saved: tuple[Path, dict[str, Seeds]], new_store: Store, pool: Pool, classifier: Classifier, store: Store
) -> None:
    folder, products = saved
    given = Classifier(
        data=classifier.data, stages=3, output_stride=16, epochs=2, checkpoint=str(folder / "classifier.safetensors")
    )
    seeds = Seeds(scores=CAM(pool=pool, classifier=given), threshold=0.5)
    back = {"seeds": seeds, "prediction": prediction(seeds, pool, checkpoint=str(folder.parent))}
    everywhere = np.arange(len(store.get(products["seeds"])))
    for name, product in products.items():
        old, new = store.get(product).at(everywhere), new_store.get(back[name]).at(everywhere)
        assert 0 < old.mean() < 1 or name == "prediction"
        np.testing.assert_array_equal(old, new, err_msg=name)
    info = json.loads((folder / "segmenter.json").read_text())
    save_models(new_store.root / "again", back, [], classifier.data, new_store)
    again = json.loads((new_store.root / "again/segmenter.json").read_text())
    assert again["given"] == str(folder.parent) and again["data"] == info["data"]


def test_a_segmenter_that_learnt_from_an_oracle_stays_marked(
    store: Store, pool: Pool, prepared: Prepared, tmp_path: Path
) -> None:
    seeds = Seeds(scores=BoxScores(pool=pool, box_source="trimap"), threshold=0.5)
    product = prediction(seeds, pool)
    store.ensure(product)
    save_models(tmp_path, {"p": product}, [], prepared, store)
    assert product.is_oracle
    honest = Seeds(scores=BoxScores(pool=pool), threshold=0.5)
    assert not prediction(honest, pool).is_oracle
    assert prediction(honest, pool, checkpoint=str(tmp_path)).is_oracle


def test_torchvisions_segmenter_has_torchvisions_names(
    store: Store, pool: Pool, prepared: Prepared, tmp_path: Path
) -> None:
    seeds = Seeds(scores=BoxScores(pool=pool), threshold=0.5)
    net = TorchvisionNetwork(name="lraspp_mobilenet_v3_large")
    start = tmp_path / "start.pth"
    torch.save(net.load(Path(), store).state_dict(), start)
    product = prediction(seeds, pool, net=net, checkpoint=str(start))
    store.ensure(product)
    save_models(tmp_path, {"p": product}, [], prepared, store)
    assert "backbone.0.0.weight" in load_file(tmp_path / "segmenter.safetensors")
    model = load_model(tmp_path, "cpu")
    with torch.inference_mode():
        assert model.network(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_the_config_that_fits(pool: Pool, classifier: Classifier) -> None:
    assert config_that_fits(classifier) == [
        "backbone=resnet18",
        "classifier.stages=3",
        "classifier.output_stride=16",
    ]
    segmenter = prediction(Seeds(scores=BoxScores(pool=pool), threshold=0.5), pool).scores.segmenter  # type: ignore[attr-defined]
    assert config_that_fits(segmenter) == [
        "segmenter=unet",
        "segmenter.net.width=2",
        "segmenter.net.depth=1",
        "segmenter.input_size=32",
    ]


def test_loading(saved: tuple[Path, dict[str, Seeds]], tmp_path: Path) -> None:
    folder = saved[0]
    for path in (folder.parent, folder, folder / "segmenter.safetensors"):
        model = load_model(path, "cpu")
        assert (model.working_size, model.input_size, model.network.training) == (64, 32, False)
    # Without the JSON it is recognised, but nobody knows its size.
    bare = tmp_path / "bare.pth"
    torch.save({"state_dict": load_file(folder / "segmenter.safetensors")}, bare)
    with pytest.raises(SegError, match="add input_size="):
        load_model(bare, "cpu")
    assert load_model(bare, "cpu", input_size=32).input_size == 32


def test_what_is_no_segmenter(saved: tuple[Path, dict[str, Seeds]], tmp_path: Path) -> None:
    folder = saved[0]
    with pytest.raises(SegError, match="it is of a classifier, not a segmenter"):
        load_model(folder / "classifier.safetensors", "cpu")
    with pytest.raises(SegError, match="no such file or folder"):
        load_model(tmp_path / "none")
    with pytest.raises(SegError, match="no networks in it"):
        load_model(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/classifier.safetensors").touch()
    with pytest.raises(SegError, match=r"has classifier but no segmenter.*segmenter=unet"):
        find_model(tmp_path)


@pytest.mark.parametrize("target", ["os.system", "builtins.dict", "no.such.thing", "nothing"])
def test_a_json_names_a_network_and_nothing_else(
    saved: tuple[Path, dict[str, Seeds]], tmp_path: Path, target: str
) -> None:
    (tmp_path / "m.safetensors").write_bytes((saved[0] / "segmenter.safetensors").read_bytes())
    described = {"role": "segmenter", "architecture": {"_target_": target}, "input_size": 32}
    (tmp_path / "m.json").write_text(json.dumps(described))
    with pytest.raises(SegError, match=r"m\.(json|safetensors)"):
        load_model(tmp_path / "m.safetensors", "cpu")
