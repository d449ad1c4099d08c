"""Networks read back from their files: what they are, and what they are not."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from seg.errors import SegError
from seg.models.load import load_model
from seg.segmenter.architectures import PlainUNet


def test_loading(saved, tmp_path):
    folder = saved[0]
    for path in (folder.parent, folder, folder / "segmenter.safetensors"):
        model = load_model(path, "cpu")
        assert (model.working_size, model.input_size, model.network.training) == (64, 32, False)
    for role in ("segmenter", "classifier"):  # a file alone says what it is
        shutil.copyfile(folder / f"{role}.safetensors", tmp_path / f"{role}.safetensors")
    model = load_model(tmp_path / "segmenter.safetensors", "cpu")
    assert (model.working_size, model.input_size) == (64, 32) and "toy" in model.info["data"]
    with pytest.raises(SegError, match="its role is 'classifier': must be segmenter"):
        load_model(tmp_path / "classifier.safetensors", "cpu")
    # Of bare weights somebody has to say the size and the network.
    bare = tmp_path / "bare.pth"
    torch.save({"state_dict": PlainUNet().make().state_dict()}, bare)
    for options, says in (
        ({}, "add input_size="),
        ({"input_size": 32}, "architecture: None is no network of weakseg.* network= one of"),
    ):
        with pytest.raises(SegError, match=says):
            load_model(bare, "cpu", **options)
    assert load_model(bare, "cpu", input_size=32, network="PlainUNet").names == ("background", "foreground")
    with pytest.raises(SegError, match=r"bare\.pth: does not fit BackboneUNet\(.*\): lacks .*; lacks .*, and \d+ more"):
        load_model(bare, "cpu", input_size=32, network="BackboneUNet")


def test_a_model_of_classes(run_of_classes, data, tmp_path):
    model = load_model(run_of_classes[0], "cpu")
    assert model.classes == data.classes and model.names == ("background", *data.classes)
    with torch.inference_mode():
        assert model.network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    file = tmp_path / "m.safetensors"
    save_file(load_file(run_of_classes[0] / "models/segmenter.safetensors"), file)
    described = json.loads((run_of_classes[0] / "models/segmenter.json").read_text())
    for changed, says in (
        ({"classes": ["background"]}, "description cannot be used .1 classes"),
        ({"task": "foreground"}, r"does not fit PlainUNet.*: head\.\w+ is \(3,"),
    ):
        file.with_suffix(".json").write_text(json.dumps(described | changed))
        with pytest.raises(SegError, match=says) as refused:
            load_model(file, "cpu")
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


def test_what_is_no_segmenter(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SegError, match=r"no such file, or no segmenter in that folder; .* segmenter=unet"):
            load_model(path)
    (tmp_path / ".hydra").mkdir()
    with pytest.raises(SegError, match="this run has not finished; the same command again resumes it"):
        load_model(tmp_path)


@pytest.fixture
def foreign(saved, tmp_path):
    """A segmenter's folder with a JSON in which something is other than it was."""

    def write(**changed):
        for suffix in (".safetensors", ".json"):
            shutil.copyfile(saved[0] / f"segmenter{suffix}", tmp_path / f"m{suffix}")
        told = json.loads((tmp_path / "m.json").read_text())
        told["architecture"] |= changed.pop("architecture", {})
        (tmp_path / "m.json").write_text(json.dumps(told | changed))
        return tmp_path / "m.safetensors"

    return write


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module in the folder where one stands, which leaves a file when it is imported."""
    (tmp_path / "own_net.py").write_text(
        f"open({str(tmp_path / 'was_run')!r}, 'w')\n"
        "from seg.segmenter.architectures import PlainUNet\n"
        "class OwnNet(PlainUNet):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "was_run"
    sys.modules.pop("own_net", None)


def test_a_module_that_a_json_names_is_not_imported(foreign, own_module):
    file = foreign(architecture={"class": "own_net.OwnNet"})
    with pytest.raises(SegError, match=r"no module is imported because a file names it.* my_module\.MyNet"):
        load_model(file, "cpu")
    assert not own_module.exists() and "own_net" not in sys.modules
    # Only what is typed is.
    assert load_model(file, "cpu", network="own_net.OwnNet").input_size == 32
    assert own_module.exists()
    load_model(file, "cpu")  # as it is in this process now, by somebody's own import
    for wrong in ("own_net.Nothing", "os.system", "nothing"):
        with pytest.raises(SegError, match=f"network={wrong}: "):
            load_model(file, "cpu", network=wrong)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_size": 10**30}, r"cannot be used \(input_size=1000.* sides: 2 to 8192"),
        ({"role": ["segmenter"]}, r"its role is \['segmenter'\]: must be segmenter"),
        ({"architecture": {"class": "os.system"}}, "architecture: 'os.system' is no network of weakseg"),
        ({"architecture": {"width": "a"}}, "architecture: PlainUNet.width='a': must be"),
    ],
    ids=str,
)
def test_a_wrong_description(foreign, changed, message):
    with pytest.raises(SegError, match=message) as caught:
        load_model(foreign(**changed), "cpu")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
