"""Checkpoints: what is read, what is refused, what is not trained."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from seg.data.prepared import Pool, Prepared
from seg.errors import SegError
from seg.masks import Threshold
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
    state: dict[str, torch.Tensor] = net.make().state_dict()
    return state


def segmenter(pool: Pool, checkpoint: Path, net: Any = None) -> NetworkStage:
    masks = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
    return Segmenter.from_config(str(checkpoint), masks=masks, net=net or PlainUNet(width=2, depth=1), epochs=1)


def affinity(pool: Pool, checkpoint: Path, **changed: Any) -> NetworkStage:
    seeds = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
    options: dict[str, Any] = {"strides": (4, 8), "channels": 4} | changed
    return Affinity.from_config(str(checkpoint), seeds=seeds, epochs=1, **options)


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("form", "half"), [("plain.pth", False), ("plain.safetensors", True), ("wrapped.pth", True), ("module.pth", False)]
)
def test_every_form_of_file(new_store: Store, pool: Pool, tmp_path: Path, form: str, half: bool) -> None:
    state = {
        k: v.half() if half and v.is_floating_point() else v for k, v in state_of(PlainUNet(width=2, depth=1)).items()
    }
    given: Any = {f"module.{k}": v for k, v in state.items()} if "module" in form else state
    path = save(tmp_path / form, {"state_dict": given} if "wrapped" in form else given)
    stage = segmenter(pool, path)
    stage.check(new_store)
    found = new_store.get(stage).state_dict()
    assert all(torch.equal(found[k].float(), v.float()) for k, v in state.items())
    # It is taken over, not trained: there is no history, and nothing that a training needs is made.
    assert isinstance(stage, Pretrained) and stage.role == "segmenter" and not new_store.get(stage).training
    assert {p.name for p in new_store.folder(stage).iterdir()} == {"manifest.json", "weights.safetensors"}
    assert {p.name for p in new_store.root.iterdir() if p.is_dir()} == {"Pretrained", "Prepared", "ToyPets"}
    path.unlink()  # it is a copy, known by its key
    assert new_store.has(stage)


def test_another_architecture_names_both(new_store: Store, pool: Pool, prepared: Prepared, tmp_path: Path) -> None:
    unet = save(tmp_path / "unet.pth", state_of(PlainUNet(width=3, depth=2)))
    with pytest.raises(
        SegError, match=r"unet\.pth: does not fit the segmenter of this config .*: has an unknown down"
    ) as refused:
        segmenter(pool, unet).check(new_store)
    assert "'width': 2" in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(SegError, match=r"checkpoints\.classifier=.*: does not fit the classifier .*backbone=resnet18"):
        Classifier.from_config(str(unet), data=prepared).check(new_store)
    net = save(tmp_path / "net.pth", make_classifier("resnet18", 5, None).state_dict())
    with pytest.raises(SegError, match=r"fc\.weight is \(5, 512\), not \(2, 512\)"):
        Classifier.from_config(str(net), data=prepared).check(new_store)
    with pytest.raises(SegError, match=r"checkpoints\.affinity=.*: does not fit the affinity"):
        affinity(pool, net).check(new_store)


def test_an_affinity_net_and_its_wrong_strides(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    from seg.methods.affinity import AffinityNet

    net = AffinityNet(make_classifier("resnet18", 2, None), strides=(4, 8), channels=4, radius=3)
    path = save(tmp_path / "affinity.safetensors", net.state_dict())
    stage = affinity(pool, path, radius=3)
    assert stage.upstream() == {}  # no seeds, and no classifier to start from
    found = new_store.get(stage)
    assert torch.equal(found.mix.weight, net.mix.weight) and found.offsets == net.offsets
    assert {p.name for p in new_store.root.iterdir() if p.is_dir()} == {"Pretrained"}
    with pytest.raises(SegError, match=r"strides=\(8, 16\).*: lacks backbone\.layer3"):
        affinity(pool, path, strides=(8, 16)).check(new_store)


def test_a_given_network_needs_no_weights_to_start_from(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    encoder = save(tmp_path / "unet.pth", state_of(BackboneUNet(weights=None, width=2)))
    segmenter(pool, encoder, BackboneUNet(weights="/not/there.pth", width=2)).check(new_store)


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
    with pytest.raises(SegError, match="cannot be read") as caught:
        read_state_dict(path)
    assert str(caught.value).startswith(f"weights={path}: ") and "\n" not in str(caught.value)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # it would have


def test_a_storage_that_claims_more_than_its_record(tmp_path: Path) -> None:
    path, large = tmp_path / "net.pth", tmp_path / "large.pth"
    torch.save({"a": torch.zeros(70_000)}, large)
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
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(SegError, match=message):
        read_state_dict(tmp_path / "net.pth")
