"""Given networks: what is read, what is refused, what is not trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from seg.data.prepared import Pool, Prepared
from seg.errors import SegError
from seg.masks import Threshold
from seg.nets.backbones import make_classifier
from seg.nets.given import find_checkpoint
from seg.refiner.affinity import Affinity
from seg.segmenter.architectures import BackboneUNet, PlainUNet, TorchvisionNetwork
from seg.segmenter.segmenter import Segmenter
from seg.store import Store
from seg.supervision.classifier import Classifier
from seg.supervision.mask import TruthScores
from seg.train import Given, NetworkStage


def state_of(net: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = net.make().state_dict()
    return state


def segmenter(pool: Pool, checkpoint: Path | str | None, net: Any = None) -> NetworkStage:
    masks = Threshold(scores=TruthScores(pool=pool), threshold=0.5)
    given = None if checkpoint is None else str(checkpoint)
    return Segmenter.from_config(given, masks=masks, net=net or PlainUNet(width=2, depth=1), epochs=1)


def affinity(pool: Pool, checkpoint: Path, **changed: Any) -> NetworkStage:
    seeds = Threshold(scores=TruthScores(pool=pool), threshold=0.5)
    options: dict[str, Any] = {"strides": (4, 8), "channels": 4} | changed
    return Affinity.from_config(str(checkpoint), seeds=seeds, epochs=1, **options)


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("form", ["plain.pth", "plain.safetensors", "wrapped.pth", "module.pth"])
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
    assert isinstance(stage, Given) and stage.role == "segmenter"
    assert {p.name for p in new_store.folder(stage).iterdir()} == {"manifest.json", "weights.safetensors"}
    assert {p.name for p in new_store.root.iterdir()} == {"Given"}


def test_the_content_is_the_key(pool: Pool, tmp_path: Path) -> None:
    state = state_of(PlainUNet(width=2, depth=1))
    one = segmenter(pool, save(tmp_path / "a.pth", state))
    other = segmenter(pool, save(tmp_path / "c.pth", {k: v + 1 for k, v in state.items()}))
    trained = segmenter(pool, None)
    assert (tmp_path / "a.pth").read_bytes() != (tmp_path / "c.pth").read_bytes()
    assert one.key != other.key and one.key != trained.key
    (tmp_path / "d.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    assert segmenter(pool, tmp_path / "d.pth").key == one.key


def test_how_one_would_have_trained_plays_no_part(pool: Pool, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", state_of(PlainUNet(width=2, depth=1)))
    masks = Threshold(scores=TruthScores(pool=pool), threshold=0.7)
    net = PlainUNet(width=2, depth=1)
    other = Segmenter.from_config(str(path), masks=masks, net=net, epochs=1, lr=0.5, gamma=1, seed=3)
    assert other.key == segmenter(pool, path).key


@pytest.mark.parametrize(
    ("what", "missing"), [("classifier", "none.pth"), ("affinity", "none.pth"), ("segmenter", "none.pth")]
)
def test_a_file_that_is_not_there(new_store: Store, pool: Pool, prepared: Prepared, what: str, missing: str) -> None:
    stages: dict[str, NetworkStage] = {
        "classifier": Classifier.from_config(missing, data=prepared),
        "affinity": affinity(pool, Path(missing)),
        "segmenter": segmenter(pool, missing),
    }
    with pytest.raises(SegError, match=rf"checkpoints\.{what}=none\.pth: no such file or folder"):
        stages[what].check(new_store)


def test_another_architecture_says_what_would_fit(
    new_store: Store, pool: Pool, prepared: Prepared, tmp_path: Path
) -> None:
    unet = save(tmp_path / "unet.pth", state_of(PlainUNet(width=3, depth=2)))
    with pytest.raises(SegError, match=r"lacks|has an unknown|is \(3, 3, 3, 3\)") as refused:
        segmenter(pool, unet).check(new_store)
    assert "segmenter.net.width=3 segmenter.net.depth=2" in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(SegError, match=r"checkpoints\.classifier=.*segmenter=unet"):
        Classifier.from_config(str(unet), data=prepared).check(new_store)
    net = save(tmp_path / "net.pth", make_classifier("resnet18", 2, None, stages=3).state_dict())
    with pytest.raises(SegError, match=r"lacks layer4.*backbone=resnet18 classifier\.stages=3"):
        Classifier.from_config(str(net), data=prepared).check(new_store)
    with pytest.raises(SegError, match=r"checkpoints\.affinity=.*a classifier of 2 classes \(backbone=resnet18"):
        affinity(pool, net).check(new_store)
    assert {p.name for p in new_store.root.iterdir()} == {"ToyPets"}


def test_another_number_of_classes(store: Store, prepared: Prepared, tmp_path: Path) -> None:
    net = save(tmp_path / "net.pth", make_classifier("resnet18", 5, None).state_dict())
    with pytest.raises(SegError, match="5 classes, but the data has 2 classes"):
        Classifier.from_config(str(net), data=prepared).check(store)


def test_an_affinity_net_and_its_wrong_strides(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    from seg.nets.affinity_net import AffinityNet

    net = AffinityNet(make_classifier("resnet18", 2, None), strides=(4, 8), channels=4, radius=3)
    path = save(tmp_path / "affinity.safetensors", net.state_dict())
    stage = affinity(pool, path, radius=3)
    assert stage.upstream() == {}  # no seeds, and no classifier to start from
    found = new_store.get(stage)
    assert torch.equal(found.mix.weight, net.mix.weight) and found.offsets == net.offsets
    assert {p.name for p in new_store.root.iterdir()} == {"Given"}
    with pytest.raises(SegError, match=r"reduce\.0\.weight|strides=\[4,8\]"):
        affinity(pool, path, strides=(8, 16)).check(new_store)


def test_torchvisions_names_and_no_weights_to_start_from(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    """A given network fetches no backbone's weights, and torchvision's auxiliary head is left out."""
    bare = TorchvisionNetwork(name="lraspp_mobilenet_v3_large")
    plain = {k.removeprefix("model."): v for k, v in state_of(bare).items()}
    assert "backbone.0.0.weight" in plain
    path = save(tmp_path / "net.pth", plain | {"aux_classifier.0.weight": torch.zeros(1)})
    net = TorchvisionNetwork(name="lraspp_mobilenet_v3_large", weights_backbone="NOT_TO_BE_HAD")
    stage = segmenter(pool, path, net)
    stage.check(new_store)
    assert segmenter(pool, path, bare).key == stage.key
    encoder = save(tmp_path / "unet.pth", state_of(BackboneUNet(weights=None, width=2)))
    segmenter(pool, encoder, BackboneUNet(weights="/not/there.pth", width=2)).check(new_store)


def test_a_folder_is_of_epochs_or_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "net_epoch7.pth").touch()
    assert find_checkpoint(tmp_path, "classifier", 7).name == "net_epoch7.pth"
    with pytest.raises(SegError, match="it has epochs: 7"):
        find_checkpoint(tmp_path, "classifier", 8)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/classifier.safetensors").touch()
    assert find_checkpoint(tmp_path, "classifier", 8) == tmp_path / "models/classifier.safetensors"
