"""Networks in the run's folder, and the way back."""

import json
import re

import yaml
from PIL import Image as Pillow
from safetensors import safe_open
from safetensors.torch import load_file

from seg.masks import Threshold
from seg.models.save import save_models
from seg.supervision.bbox import BoxScores


def test_weights_and_what_they_are(store, saved, classifier):
    folder = saved[0]
    assert {p.name for p in folder.iterdir()} == {
        *(f"{role}.{end}" for role in ("classifier", "segmenter") for end in ("safetensors", "json")),
        "README.md",
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


def test_the_file_itself_says_what_its_network_is(store, saved, prepared, tmp_path):
    folder, products = saved
    rows = [{"stage": "prediction", "split": "test", "miou": 0.75}]
    save_models(tmp_path, products, rows, prepared, store)
    for role in ("classifier", "segmenter"):
        described = json.loads((folder / f"{role}.json").read_text())
        with safe_open(folder / f"{role}.safetensors", "np") as file:
            own = json.loads(file.metadata()["weakseg"])
        assert own["role"] == role and own["architecture"]
        assert {k: described[k] for k in own} == own
        assert described.keys() - own.keys() == {"weakseg", "given", "metrics", "command", "sha256"}
        # Equal networks are equal files, whatever the run measured: their keys in a store are those of their bytes.
        assert (tmp_path / f"{role}.safetensors").read_bytes() == (folder / f"{role}.safetensors").read_bytes()


def test_the_model_card(saved):
    text = (saved[0] / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "other" and yaml.safe_load(front)["library_name"] == "weakseg"
    info = json.loads((saved[0] / "segmenter.json").read_text())
    assert f"* **Data:** {info['data']}\n* **Their licence:** {info['licence']}\n" in body
    assert "| `segmenter.safetensors` | segmenter: PlainUNet | 32 px | background, foreground |" in body
    assert "| `classifier.safetensors` | classifier: resnet18 | 64 px | " in body
    assert "| prediction | test | - | 0.2500 | - |" in body and "| seeds |" not in body
    code = re.search(r"```python\n(.*?)```", body, re.DOTALL)
    Pillow.new("RGB", (40, 30)).save(saved[0].parent / "photo.jpg")
    used = code[1].replace("FOLDER", str(saved[0])).replace("photo.jpg", f"{saved[0].parent}/photo.jpg") if code else ""
    exec(used, found := {})
    assert [mask.shape for mask in found["masks"]] == [(30, 40)]


def test_a_segmenter_that_learnt_from_an_oracle_stays_marked(store, pool, prepared, prediction, tmp_path):
    seeds = Threshold(scores=BoxScores(pool=pool, box_source="trimap"), threshold=0.5)
    product = prediction(seeds)
    store.ensure(product)
    save_models(tmp_path, {"p": product}, [], prepared, store)
    assert product.is_oracle
    honest = Threshold(scores=BoxScores(pool=pool), threshold=0.5)
    assert not prediction(honest).is_oracle
    assert prediction(honest, tmp_path).is_oracle
