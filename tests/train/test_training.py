"""Networks as stages: what is one product, what is another, and networks that are given."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from line import make, same
from safetensors.torch import save_file

from seg.data.prepared import Pool, Prepared
from seg.errors import SegError
from seg.masks import Threshold
from seg.methods.affinity import AffinityNet
from seg.nets.backbones import make_classifier
from seg.refiner.affinity import Affinity
from seg.segmenter.architectures import BackboneUNet, PlainUNet
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.cam import CAM
from seg.supervision.classifier import Classifier
from seg.supervision.mask import TargetScores
from seg.train import NetworkStage, Pretrained


def test_what_enters_the_key() -> None:
    key = make().key
    assert make(epochs=9, epoch=4).key == key
    for changed in ({"seed": 1}, {"lr": 1e-3}, {"batch_size": 5}, {"flip": False}, {"precision": "bf16-mixed"}):
        assert make(**changed).key != key
    for schedule in ("poly", "cosine"):
        three, four = make(schedule=schedule), make(schedule=schedule, epochs=4)
        assert len({three.key, four.key, key}) == 3
        assert make(schedule=schedule, epoch=2).key == three.key

    # An epoch beyond a schedule is refused.
    assert make(epochs=3, epoch=5).wanted == 5
    with pytest.raises(SegError, match=r"epoch=5: the cosine schedule of Line ends at epochs=3"):
        make(schedule="cosine", epochs=3, epoch=5)
    with pytest.raises(SegError, match=r"Line.epoch=0: must lie in \[1, inf\)"):
        make(epoch=0)


def save(path: Path, model: torch.nn.Module) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return path


def segmenter(pool: Pool, file: Path, **changed: Any) -> NetworkStage:
    masks = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
    return Segmenter.from_config(
        str(file), **{"net": PlainUNet(width=2, depth=1), "epochs": 1, "masks": masks} | changed
    )


def affinity(pool: Pool, file: Path, **changed: Any) -> NetworkStage:
    seeds = Threshold(scores=TargetScores(pool=pool), threshold=0.5)
    return Affinity.from_config(str(file), **{"seeds": seeds, "epochs": 1, "strides": (4, 8), "channels": 4} | changed)


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    return save(tmp_path / "unet.safetensors", PlainUNet(width=2, depth=1).make())


def test_given_weights_are_known_by_their_content_wherever_they_lie(
    pool: Pool, unet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = segmenter(pool, unet).key
    shutil.copy(unet, tmp_path / "other.safetensors")
    assert segmenter(pool, tmp_path / "other.safetensors").key == key
    monkeypatch.chdir(tmp_path)
    assert segmenter(pool, Path(unet.name)).key == key
    save(tmp_path / "models/segmenter.safetensors", PlainUNet(width=2, depth=1).make())
    assert segmenter(pool, tmp_path).key != key  # a run's folder: the network in it
    shutil.copy(unet, tmp_path / "models/segmenter.safetensors")
    assert segmenter(pool, tmp_path).key == key


def test_only_how_it_is_used_counts_beside_the_weights(pool: Pool, unet: Path) -> None:
    key, others = segmenter(pool, unet).key, Threshold(scores=TargetScores(pool=pool), threshold=0.7)
    trained: list[dict[str, Any]] = [{"lr": 0.5}, {"seed": 3}, {"epochs": 7}, {"gamma": 1.0}, {"masks": others}]
    assert {segmenter(pool, unet, **changed).key for changed in trained} == {key}
    used: list[dict[str, Any]] = [{"input_size": 32}, {"net": PlainUNet(width=2, depth=2)}]
    assert len({key, *(segmenter(pool, unet, **changed).key for changed in used)}) == 3


def test_the_json_beside_the_weights_says_that_they_are_an_oracles(pool: Pool, unet: Path) -> None:
    assert not segmenter(pool, unet).is_oracle
    unet.with_suffix(".json").write_text(json.dumps({"oracle": True}))
    given = segmenter(pool, unet)
    assert given.is_oracle and Threshold(scores=Predicted(pool=pool, segmenter=given), threshold=0.5).is_oracle
    assert given.key == segmenter(pool, unet).key
    unet.with_suffix(".json").write_text("[")
    with pytest.raises(SegError, match=r"unet\.json: does not describe a model"):
        _ = segmenter(pool, unet).is_oracle


def test_a_network_of_another_kind_is_refused_where_it_stands(pool: Pool, unet: Path) -> None:
    with pytest.raises(SegError, match="is a Segmenter, not a classifier"):
        CAM(pool=pool, classifier=segmenter(pool, unet))
    with pytest.raises(SegError, match="is a Line, not a segmenter"):
        Predicted(pool=pool, segmenter=make())


def test_a_given_network_is_copied_and_not_trained(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    net = BackboneUNet(weights=None, width=2).make()
    path = save(tmp_path / "net.safetensors", net)
    stage = segmenter(pool, path, net=BackboneUNet(weights="/not/there.pth", width=2))  # which need not be there
    stage.check(new_store)
    found = new_store.get(stage)
    assert same(found.state_dict(), net.state_dict())
    assert isinstance(stage, Pretrained) and stage.role == "segmenter" and not found.training
    assert {p.name for p in new_store.folder(stage).iterdir()} == {"manifest.json", "weights.safetensors"}
    assert {p.name for p in new_store.root.iterdir() if p.is_dir()} == {"Pretrained", "Prepared", "ToyPets"}
    path.unlink()
    assert new_store.has(stage)


def test_a_given_affinity_net_needs_neither_seeds_nor_classifier(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    net = AffinityNet(make_classifier("resnet18", 2, None), strides=(4, 8), channels=4, radius=3)
    stage = affinity(pool, save(tmp_path / "affinity.safetensors", net), radius=3)
    assert stage.upstream() == {}
    found = new_store.get(stage)
    assert torch.equal(found.mix.weight, net.mix.weight) and found.offsets == net.offsets


def test_another_architecture_names_both(new_store: Store, pool: Pool, prepared: Prepared, tmp_path: Path) -> None:
    unet = save(tmp_path / "unet.safetensors", PlainUNet(width=3, depth=2).make())
    net = save(tmp_path / "net.safetensors", make_classifier("resnet18", 5, None))
    for stage, message in (
        (
            segmenter(pool, unet),
            r"unet\.safetensors: does not fit the segmenter of this config .*'width': 2.*: has an unknown",
        ),
        (Classifier.from_config(str(unet), data=prepared), r"checkpoints\.classifier=.*: does not fit the classifier"),
        (Classifier.from_config(str(net), data=prepared), r"fc\.weight is \(5, 512\), not \(2, 512\)"),
        (affinity(pool, net), r"checkpoints\.affinity=.*: does not fit the affinity.*strides=\(4, 8\)"),
    ):
        with pytest.raises(SegError, match=message) as refused:
            stage.check(new_store)
        assert "\n" not in str(refused.value)
