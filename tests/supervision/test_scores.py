"""Score maps: what is written is read, and upsampled by one rule."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seg.data.prepared import PreparedData
from seg.errors import SegError
from seg.nets.augment import normalise
from seg.nets.resize import upsample
from seg.store import Runtime
from seg.supervision.scores import ClassScores, ScoreStage, StoredScores, WinnerScores, infer


def random_maps(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, *shape), np.float32)


def test_upsampling_is_bilinear_without_aligned_corners() -> None:
    values = random_maps(3, 5, 4)
    expected = F.interpolate(torch.from_numpy(values)[:, None], (17, 30), mode="bilinear", align_corners=False)
    np.testing.assert_array_equal(upsample(values, (17, 30)), expected[:, 0].numpy())
    assert upsample(values, (5, 4)) is values
    # By hand: half of a step is half of the difference.
    np.testing.assert_allclose(upsample(np.asarray([[[0, 1]]], np.float32), (1, 4)), [[[0, 0.25, 0.75, 1]]], atol=1e-6)


def test_what_is_saved_is_read(tmp_path: Path, data: PreparedData) -> None:
    stage, rows, values = ScoreStage(), np.asarray([4, 7]), random_maps(2, 3, 3)
    assert stage.save(tmp_path, data, rows, values) == {"images": 2, "resolution": [3, 3]}
    scores = stage.read(tmp_path, data)
    assert scores.values.dtype == np.float16 and isinstance(scores.values, np.memmap)
    np.testing.assert_array_equal(scores.values, values.astype(np.float16))
    assert scores.rows.tolist() == [4, 7]
    assert (tmp_path / "ids.txt").read_text() == f"{data.ids[4]}\n{data.ids[7]}\n"


def test_scores_at_positions(data: PreparedData) -> None:
    scores = StoredScores(data, np.arange(4), random_maps(4, 2, 2).astype(np.float16))
    made = scores.at(np.asarray([2, 0]))
    assert made.dtype == np.float32 and made.shape == (2, 64, 64)
    np.testing.assert_array_equal(made[1], upsample(scores.values[:1].astype(np.float32), (64, 64))[0])
    assert scores.at(np.asarray([1]), (30, 41)).shape == (1, 30, 41)
    assert [b.tolist() for b in scores.batches(3)] == [[0, 1, 2], [3]]


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


def test_inference_is_on_the_runtimes_device(data: PreparedData) -> None:
    runtime = Runtime(accelerator="cpu", progress=False)
    vars(runtime)["device"] = torch.device("meta")  # the only other one that every machine has
    devices = []

    def compute(images: torch.Tensor, _: np.ndarray) -> torch.Tensor:
        devices.append(images.device.type)
        return torch.zeros(len(images))

    assert [len(b) for b in infer(compute, data, np.arange(4), runtime, "looking")] == [4] and devices == ["meta"]


def test_a_map_for_each_class_of_an_image(tmp_path: Path, classes: PreparedData) -> None:
    rows = np.asarray([0, 1, 5])  # of classes 0 and 1, of none, of 2
    values = random_maps(3, 4, 4)
    ScoreStage().save(tmp_path, classes, rows, [values[:2], values[2:]])
    scores = ScoreStage().read(tmp_path, classes)
    assert isinstance(scores, ClassScores) and len(scores) == 3
    assert scores.codes(np.arange(3)) == [[1, 2], [], [3]]
    kept = values.astype(np.float16).astype(np.float32)
    maps, image, codes = scores.channels(np.asarray([2, 0]), (4, 4))
    np.testing.assert_array_equal(maps, kept[[2, 0, 1]])
    assert (image.tolist(), codes.tolist()) == ([0, 1, 1], [3, 1, 2])
    best, which = scores.winner(np.arange(3), (9, 7))
    up = upsample(kept, (9, 7))
    np.testing.assert_array_equal(best, [np.maximum(up[0], up[1]), np.zeros((9, 7)), up[2]])
    np.testing.assert_array_equal(which[0], np.where(up[1] > up[0], 2, 1))
    assert (which[2] == 3).all()
    np.testing.assert_array_equal(scores.at(np.arange(3), (9, 7)), best)
    ScoreStage().save(tmp_path, classes, rows, values[:1])
    with pytest.raises(SegError, match="1 score maps for 3 classes of 3 images"):
        ScoreStage().read(tmp_path, classes)


def test_the_known_wins_over_the_unknown(classes: PreparedData) -> None:
    values = np.asarray([[[np.nan, 0.2, np.nan]], [[0.1, np.nan, np.nan]]], np.float16)
    scores = ClassScores(classes, np.asarray([0]), values, np.asarray([0, 2]), np.asarray([1, 2], np.uint8))
    best, which = scores.winner(np.asarray([0]), (1, 3))
    np.testing.assert_allclose(best[0, 0], [0.1, 0.2, np.nan], atol=1e-3)
    assert which[0, 0, :2].tolist() == [2, 1]


def test_the_best_class_of_all(classes: PreparedData) -> None:
    values = np.asarray([[[0.2, 0.9], [0.4, 0.6]]], np.float16)
    which = np.asarray([[[1, 3], [1, 1]]], np.uint8)
    scores = WinnerScores(classes, np.asarray([7]), values, which)
    np.testing.assert_array_equal(scores.winner(np.asarray([0]), (4, 4))[1], which.repeat(2, 1).repeat(2, 2))
    assert scores.codes(np.asarray([0])) == [[1, 3]]
    maps, _, codes = scores.channels(np.asarray([0]), (2, 2))
    np.testing.assert_allclose(maps, [[[0.2, 0], [0.4, 0.6]], [[0, 0.9], [0, 0]]], atol=1e-3)
    assert codes.tolist() == [1, 3]


def test_a_refiner_that_knows_no_classes_keeps_them(tmp_path: Path, classes: PreparedData) -> None:
    rows, values = np.asarray([0, 5]), random_maps(3, 4, 4)
    ScoreStage().save(tmp_path, classes, rows, values)
    before = ScoreStage().read(tmp_path, classes)
    ScoreStage().save(tmp_path, classes, rows, 1 - values[:2])
    scores = ScoreStage().read(tmp_path, classes, before)
    best, which = scores.winner(np.asarray([1, 0]), (4, 4))
    np.testing.assert_allclose(best, 1 - values[[1, 0]], atol=1e-3)
    np.testing.assert_array_equal(which, before.winner(np.asarray([1, 0]), (4, 4))[1])
    assert scores.codes(np.asarray([0, 1])) == [[1, 2], [3]]
