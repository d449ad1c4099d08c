"""Checkpoints: files of any form, and what is refused."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from seg.data.prepared import Pool, Prepared
from seg.errors import SegError
from seg.masks import Threshold
from seg.methods.affinity import AffinityNet
from seg.nets.backbones import make_classifier
from seg.nets.checkpoints import find_checkpoint, read_state_dict
from seg.refiner.affinity import Affinity
from seg.segmenter.architectures import BackboneUNet, PlainUNet
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.classifier import Classifier
from seg.supervision.mask import TargetScores
from seg.train import NetworkStage, Pretrained


def state_of(net: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return net.make().state_dict()


def segmenter(pool: Pool, checkpoint: Path, net: Any = None) -> NetworkStage:
    masks = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
    return Segmenter.from_config(str(checkpoint), masks=masks, net=net or PlainUNet(width=2, depth=1), epochs=1)


def affinity(pool: Pool, checkpoint: Path, **changed: Any) -> NetworkStage:
    seeds = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
    options: dict[str, Any] = {"strides": (4, 8), "channels": 4} | changed
    return Affinity.from_config(str(checkpoint), seeds=seeds, epochs=1, **options)


def save(path: Path, content: Any) -> Path:
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def test_every_form_of_file(tmp_path: Path) -> None:
    state = state_of(PlainUNet(width=2, depth=1))
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    forms = {"plain.pth": state, "half.safetensors": half, "wrapped.pth": {"state_dict": state}}
    forms["module.pth"] = {"model": {f"module.{k}": v for k, v in state.items()}}
    for name, content in forms.items():
        found = read_state_dict(save(tmp_path / name, content))
        expected = half if "half" in name else state
        assert all(torch.equal(found[k], v.float() if v.is_floating_point() else v) for k, v in expected.items())


def test_a_given_network_is_copied_and_not_trained(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    net = BackboneUNet(weights=None, width=2)
    path = save(tmp_path / "net.pth", state_of(net))
    stage = segmenter(pool, path, BackboneUNet(weights="/not/there.pth", width=2))  # needs no weights to start from
    stage.check(new_store)
    found = new_store.get(stage)
    assert all(torch.equal(found.state_dict()[k], v) for k, v in state_of(net).items())
    assert isinstance(stage, Pretrained) and stage.role == "segmenter" and not found.training
    assert {p.name for p in new_store.folder(stage).iterdir()} == {"manifest.json", "weights.safetensors"}
    assert {p.name for p in new_store.root.iterdir() if p.is_dir()} == {"Pretrained", "Prepared", "ToyPets"}
    path.unlink()
    assert new_store.has(stage)


def test_a_given_affinity_net_needs_neither_seeds_nor_classifier(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    net = AffinityNet(make_classifier("resnet18", 2, None), strides=(4, 8), channels=4, radius=3)
    stage = affinity(pool, save(tmp_path / "affinity.safetensors", net.state_dict()), radius=3)
    assert stage.upstream() == {}
    found = new_store.get(stage)
    assert torch.equal(found.mix.weight, net.mix.weight) and found.offsets == net.offsets


def test_another_architecture_names_both(new_store: Store, pool: Pool, prepared: Prepared, tmp_path: Path) -> None:
    unet = save(tmp_path / "unet.pth", state_of(PlainUNet(width=3, depth=2)))
    net = save(tmp_path / "net.pth", make_classifier("resnet18", 5, None).state_dict())
    for stage, message in (
        (segmenter(pool, unet), r"unet\.pth: does not fit the segmenter of this config .*'width': 2.*: has an unknown"),
        (Classifier.from_config(str(unet), data=prepared), r"checkpoints\.classifier=.*: does not fit the classifier"),
        (Classifier.from_config(str(net), data=prepared), r"fc\.weight is \(5, 512\), not \(2, 512\)"),
        (affinity(pool, net), r"checkpoints\.affinity=.*: does not fit the affinity.*strides=\(4, 8\)"),
    ):
        with pytest.raises(SegError, match=message) as refused:
            stage.check(new_store)
        assert "\n" not in str(refused.value)


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
