"""Networks read back from their files: what they are, and what they are not."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seg.errors import SegError
from seg.masks import Threshold
from seg.models.load import find_model, load_model
from seg.nets.given import fit_into
from seg.segmenter.architectures import PlainUNet


def test_loading(saved: tuple[Path, dict[str, Threshold]], tmp_path: Path) -> None:
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


def test_a_file_alone_says_what_it_is(saved: tuple[Path, dict[str, Threshold]], tmp_path: Path) -> None:
    for role in ("segmenter", "classifier"):
        shutil.copyfile(saved[0] / f"{role}.safetensors", tmp_path / f"{role}.safetensors")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("seg.nets.recognise.recognise", lambda state: pytest.fail("nothing has to be guessed"))
        model = load_model(tmp_path / "segmenter.safetensors", "cpu")
        assert (model.working_size, model.input_size) == (64, 32) and "toy" in model.info["data"]
        with pytest.raises(SegError, match="it is of a classifier, not a segmenter"):
            load_model(tmp_path / "classifier.safetensors", "cpu")
        with pytest.raises(SegError, match="it is of a segmenter that fits segmenter=unet"):
            fit_into(PlainUNet(width=4).make(), load_file(model.path), model.path, "model")
    # A broken JSON beside it is not passed over.
    (tmp_path / "segmenter.json").write_text("{")
    with pytest.raises(SegError, match=r"segmenter\.json: does not describe a model"):
        load_model(tmp_path / "segmenter.safetensors", "cpu")


def test_what_is_no_segmenter(saved: tuple[Path, dict[str, Threshold]], tmp_path: Path) -> None:
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


def test_a_model_of_before_the_networks_had_another_place(
    saved: tuple[Path, dict[str, Threshold]], tmp_path: Path
) -> None:
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"m{suffix}").write_bytes((saved[0] / f"segmenter{suffix}").read_bytes())
    told = (tmp_path / "m.json").read_text()
    (tmp_path / "m.json").write_text(told.replace("seg.segmenter.architectures.", "seg.segmenter.networks."))
    assert "seg.segmenter.networks." in (tmp_path / "m.json").read_text()
    load_model(tmp_path / "m.safetensors", "cpu")


@pytest.mark.parametrize("target", ["os.system", "builtins.dict", "no.such.thing", "nothing"])
def test_a_json_names_a_network_and_nothing_else(
    saved: tuple[Path, dict[str, Threshold]], tmp_path: Path, target: str
) -> None:
    (tmp_path / "m.safetensors").write_bytes((saved[0] / "segmenter.safetensors").read_bytes())
    described = {"role": "segmenter", "architecture": {"_target_": target}, "input_size": 32}
    (tmp_path / "m.json").write_text(json.dumps(described))
    with pytest.raises(SegError, match=r"m\.(json|safetensors)"):
        load_model(tmp_path / "m.safetensors", "cpu")
