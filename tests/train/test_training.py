"""Networks as stages: what is one product, what is another, and networks that are given."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from line import make
from safetensors.torch import save_file

from seg.data.prepared import Pool
from seg.errors import SegError
from seg.masks import Threshold
from seg.segmenter.architectures import PlainUNet
from seg.segmenter.predicted import Predicted
from seg.segmenter.segmenter import Segmenter
from seg.supervision.cam import CAM
from seg.supervision.mask import TargetScores
from seg.train import NetworkStage


def test_what_enters_the_key() -> None:
    key = make().key
    assert make(epochs=9, epoch=4).key == key
    for changed in ({"seed": 1}, {"lr": 1e-3}, {"batch_size": 5}, {"flip": False}, {"precision": "bf16-mixed"}):
        assert make(**changed).key != key
    for schedule in ("poly", "cosine"):
        three, four = make(schedule=schedule), make(schedule=schedule, epochs=4)
        assert len({three.key, four.key, key}) == 3
        assert make(schedule=schedule, epoch=2).key == three.key


def test_an_epoch_beyond_a_schedule_is_refused() -> None:
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
    options: dict[str, Any] = {"net": PlainUNet(width=2, depth=1), "epochs": 1} | changed
    options.setdefault("masks", Threshold(scores=TargetScores(pool=pool), threshold=0.5))
    return Segmenter.from_config(str(file), **options)


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
