"""Checkpoints: files of any form, and what is refused."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from seg.errors import SegError
from seg.nets.checkpoints import find_checkpoint, read_state_dict
from seg.nets.unet import UNet


def save(path: Path, content: Any) -> Path:
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def test_every_form_of_file(tmp_path: Path) -> None:
    state = UNet(width=2, depth=1).state_dict()
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    forms = {"plain.pth": state, "half.safetensors": half, "wrapped.pth": {"state_dict": state}}
    forms["module.pth"] = {"model": {f"module.{k}": v for k, v in state.items()}}
    for name, content in forms.items():
        found = read_state_dict(save(tmp_path / name, content))
        expected = half if "half" in name else state
        assert all(torch.equal(found[k], v.float() if v.is_floating_point() else v) for k, v in expected.items())


def test_a_folder_is_that_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(SegError, match=r"no such file, nor a run's folder with models/classifier\.safetensors"):
        find_checkpoint(tmp_path, "classifier")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/classifier.safetensors").touch()
    assert find_checkpoint(tmp_path, "classifier") == tmp_path / "models/classifier.safetensors"


class Run:
    """Leaves a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "was_run"
    torch.save({"a": torch.zeros(1), "b": [[Run(marker)]]}, path)
    with pytest.raises(SegError, match=rf"^weights={path}: cannot be read"):
        read_state_dict(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # it would have


def test_a_storage_that_claims_more_than_its_record(tmp_path: Path) -> None:
    path, large = tmp_path / "net.pth", save(tmp_path / "large.pth", {"a": torch.zeros(70_000)})
    with zipfile.ZipFile(large) as there, zipfile.ZipFile(path, "w") as out:
        for entry in there.infolist():
            content = there.read(entry)
            out.writestr(entry.filename, content[:64] if entry.filename.endswith("data/0") else content)
    with pytest.raises(SegError, match="cannot be read"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([torch.zeros(1)], "not a state dict of tensors by name"),
        ({"a": 1}, "not a state dict of tensors by name"),
        ({"a": torch.tensor([1.0, float("-inf")]).half()}, "a holds NaN or infinite numbers: the training had"),
    ],
)
def test_a_file_without_usable_weights(tmp_path: Path, state: Any, message: str) -> None:
    with pytest.raises(SegError, match=message):
        read_state_dict(save(tmp_path / "net.pth", state))
