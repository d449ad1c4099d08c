"""Score maps: what is written is read, and upsampled by one rule."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seg.data.prepared import PoolRows, PreparedData
from seg.errors import SegError
from seg.nets.augment import normalise
from seg.nets.resize import upsample
from seg.store import Runtime
from seg.supervision.scores import ScoreMaps, ScoreStage, infer


def random_maps(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, *shape), np.float32)


def test_upsampling_is_bilinear_without_aligned_corners() -> None:
    values = random_maps(3, 5, 4)
    expected = F.interpolate(torch.from_numpy(values)[:, None], (17, 30), mode="bilinear", align_corners=False)
    np.testing.assert_array_equal(upsample(values, (17, 30)), expected[:, 0].numpy())
    assert upsample(values, (5, 4)) is values


def saved(path: Path, data: PreparedData, rows: list[int], values: Any, ids: Any = None) -> ScoreMaps:
    """Through the files and back."""

    class Saved(ScoreStage):
        def upstream(self) -> dict[str, Any]:
            return {"pool": None}

    class Rows:
        def get(self, _: object) -> PoolRows:
            return PoolRows(data, np.asarray(rows))

    Saved().save(path, data, np.asarray(rows), values, ids)
    return Saved().load(path, Rows())  # type: ignore[arg-type]


def test_what_is_saved_is_read(tmp_path: Path, data: PreparedData) -> None:
    values = random_maps(2, 3, 3)
    scores = saved(tmp_path, data.merged(), [4, 7], values)
    assert scores.values.dtype == np.float16 and isinstance(scores.values, np.memmap)
    np.testing.assert_array_equal(scores.values, values.astype(np.float16))
    assert scores.rows.tolist() == [4, 7] and scores.ids == [[1], [1]]
    assert (tmp_path / "ids.txt").read_text() == f"{data.ids[4]}\n{data.ids[7]}\n"
    made, class_ids = scores.argmax(np.asarray([1, 0]))
    assert made.dtype == np.float32 and made.shape == class_ids.shape == (2, 64, 64) and (class_ids == 1).all()
    np.testing.assert_array_equal(made[1], upsample(scores.values[:1].astype(np.float32), (64, 64))[0])
    assert [b.tolist() for b in scores.batches(1)] == [[0], [1]]


def test_the_loop_of_inference(data: PreparedData) -> None:
    rows = np.asarray([9, 2, 30, 5, 7])
    runtime = Runtime(accelerator="cpu", batch_size=3, progress=False)
    seen: list[tuple[list[int], torch.device, bool]] = []

    def compute(images: torch.Tensor, part: np.ndarray) -> torch.Tensor:
        seen.append((part.tolist(), images.device, torch.is_inference_mode_enabled()))
        assert torch.equal(images, normalise(data.images[rows[part]]))
        return images.mean((1, 2, 3)) * torch.ones(len(part), requires_grad=True)

    batches = infer(compute, data, rows, runtime, "looking")
    first = next(batches)
    assert isinstance(first, np.ndarray) and len(seen) == 1  # a batch is computed when it is asked for
    assert not torch.is_inference_mode_enabled()  # and between two of them the caller is as it was
    found = np.concatenate([first, *batches])
    np.testing.assert_allclose(found, normalise(data.images[rows]).mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
    assert seen == [(part, torch.device("cpu"), True) for part in ([0, 1, 2], [3, 4])]
    assert [len(b) for b in infer(lambda x, _: x[:, 0, 0, 0], data, rows, runtime, "looking", most=2)] == [2, 2, 1]
    assert list(infer(compute, data, rows[:0], runtime, "looking")) == []


def test_a_map_for_each_class_of_an_image(tmp_path: Path, classes: PreparedData) -> None:
    rows, ids = [0, 1, 5], [[1, 2], [], [3]]
    values = random_maps(3, 4, 4)
    scores = saved(tmp_path, classes, rows, [values[:2], values[2:]], ids)
    assert len(scores) == 3 and scores.ids == ids and scores.has_map.tolist() == [True, False, True]
    kept = values.astype(np.float16).astype(np.float32)
    maps = scores.per_class(np.asarray([2, 0]), (4, 4))
    np.testing.assert_array_equal(maps.values, kept[[2, 0, 1]])
    assert (maps.image.tolist(), maps.class_ids.tolist(), maps.place.tolist()) == ([0, 1, 1], [3, 1, 2], [0, 0, 1])
    np.testing.assert_array_equal(maps.stacked(2), [[kept[2], np.zeros((4, 4))], kept[:2]])
    best, class_ids = scores.argmax(np.arange(3), (9, 7))
    up = upsample(kept, (9, 7))
    np.testing.assert_array_equal(best, [np.maximum(up[0], up[1]), np.zeros((9, 7)), up[2]])
    np.testing.assert_array_equal(class_ids[0], np.where(up[1] > up[0], 2, 1))
    assert (class_ids[2] == 3).all()
    assert not scores.argmax(np.asarray([1]))[0].any()


def test_one_map_an_image_is_of_its_class(tmp_path: Path, classes: PreparedData) -> None:
    assert saved(tmp_path, classes, [5], iter(random_maps(1, 4, 4)[:, None])).ids == [[3]]
    for row in (0, 1):  # of several classes, of none
        with pytest.raises(SegError, match="images of several classes need a map for each, of none none; give save"):
            saved(tmp_path, classes, [row], random_maps(1, 4, 4))
    with pytest.raises(SegError, match="1 score maps for 3 classes of 3 images"):
        saved(tmp_path, classes, [0, 1, 5], random_maps(1, 4, 4), [[1, 2], [], [3]])
