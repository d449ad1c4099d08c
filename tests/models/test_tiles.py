"""Large images in tiles: the same answer as in one piece, in bounded memory."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import nn

from seg.errors import SegError
from seg.models.load import Model, faster, load_model
from seg.models.predictor import predict
from seg.models.tiles import Tiles, windows
from seg.nets.augment import MEAN, STD

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("length", [5, 32, 33, 100, 257])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_the_weights_of_all_tiles_add_up_to_one(length, overlap):
    total, reached = np.zeros(length), []
    for start, weights in (found := windows(length, 32, overlap)):
        assert weights.dtype == np.float32 and weights.min() > 0
        total[start : start + len(weights)] += weights
        reached.append(start + len(weights))
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    starts = [start for start, _ in found]
    assert starts[0] == 0 and reached[-1] == length and starts == sorted({*starts})
    assert all(end - start >= int(32 * overlap) for end, start in zip(reached, starts[1:], strict=False))


def pointwise(outputs):
    """A network that looks at single pixels: no cut can change what it says."""
    network = nn.Conv2d(3, outputs, 1)
    with torch.no_grad():
        network.weight.copy_(torch.randn(network.weight.shape, generator=torch.Generator().manual_seed(0)))
        network.bias.zero_()
    return Model(network, torch.device("cpu"), 32, 32, MEAN, STD, {}, Path(), "", tuple("abcdefg"[: outputs - 1]))


@pytest.mark.parametrize("size", [(32, 32), (75, 101), (20, 90), (9, 7)])
@pytest.mark.parametrize("outputs", [1, 4])
def test_tiles_say_what_the_whole_image_says(size, outputs):
    model, image = pointwise(outputs), RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    pixels = (torch.from_numpy(image) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.inference_mode():
        found = model.network(pixels.float().permute(2, 0, 1)[None])[0]
    best, code = (found, None) if outputs == 1 else (found[1:] - found[:1]).max(0, keepdim=True)
    for overlap in (0.0, 0.3):
        (score,) = predict(model, image, scores=True, tiles=Tiles(overlap), batch_size=3)
        assert score.shape == size and score.dtype == np.float32
        np.testing.assert_allclose(score, best.sigmoid()[0].numpy(), atol=1e-3)
        (mask,) = predict(model, image, tiles=Tiles(overlap))
        expected = 1 if code is None else 1 + code[0].numpy()
        certain = abs(score - 0.5) > 1e-3
        assert (mask == np.where(score >= 0.5, expected, 0))[certain].mean() > 0.999  # ties of rounded scores


def test_scale_is_the_size_at_which_the_network_sees_the_image(saved):
    model = load_model(saved[0], "cpu", input_size=64)
    image = RNG.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    squashed = dataclasses.replace(model, working_size=64)
    (whole,) = predict(squashed, image, scores=True)
    (half,) = predict(model, image, scores=True, tiles=Tiles(scale=0.5))
    np.testing.assert_allclose(half, whole, atol=1e-3)
    (full,) = predict(model, image, scores=True, tiles=Tiles())
    assert full.shape == half.shape and abs(full - half).max() > 1e-2


def test_with_flip_a_mirrored_image_has_the_mirrored_scores(saved):
    model = load_model(saved[0], "cpu")
    side = model.working_size
    image = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    flipped, photos = dataclasses.replace(model, flip=True), (image, image[:, ::-1].copy())
    plain, both = ([predict(m, photo, scores=True)[0] for photo in photos] for m in (model, flipped))
    in_tiles = [predict(flipped, photo, scores=True, tiles=Tiles())[0] for photo in photos]
    np.testing.assert_allclose(in_tiles[0], in_tiles[1][:, ::-1], atol=1e-3)
    assert abs(plain[0] - plain[1][:, ::-1]).max() > 5e-3
    np.testing.assert_allclose(both[0], both[1][:, ::-1], atol=1e-5)
    logits = [np.log(s / (1 - s)) for s in (plain[0], plain[1][:, ::-1], both[0])]
    np.testing.assert_allclose(logits[2], (logits[0] + logits[1]) / 2, atol=2e-3)


def test_bf16_and_compiled_say_nearly_the_same(saved, monkeypatch):
    model = load_model(saved[0], "cpu")
    image = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    (exact,) = predict(model, image, scores=True)
    (rounded,) = predict(faster(model, bf16=True), image, scores=True)
    assert 0 < abs(exact - rounded).max() < 0.02
    compile_ = torch.compile
    # Without code generation, for which a test has no time and some machines no compiler.
    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend="eager"))
    np.testing.assert_allclose(predict(faster(model, compiled=True), image, scores=True)[0], exact, atol=1e-6)
    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend=lambda *_: 1 / 0))
    with pytest.raises(SegError, match="compile=true: impossible here"):
        faster(model, compiled=True)


PEAK = """
import resource, sys
from seg.predict import main
main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts in kB on Linux alone")
def test_memory_is_bounded(saved, tmp_path):
    """From 1 to 9 megapixels the peak grows by less than 22 bytes a pixel: 8,000 x 8,000 needs less than 2 GB."""
    peaks = {}
    for side in (1000, 3000):
        Pillow.new("RGB", (side, side), "green").save(tmp_path / f"{side}.png")
        options = ["tile=128", "scores=true", "overlays=true", "device=cpu", "threads=1", "workers=1"]
        where = [f"model={saved[0]}", f"images={tmp_path}/{side}.png", f"out={tmp_path}/{side}"]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *where, *options], capture_output=True, text=True, check=True
        )
        peaks[side] = 1024 * int(done.stdout.split()[-1])
    per_pixel = (peaks[3000] - peaks[1000]) / (3000**2 - 1000**2)
    assert per_pixel < 22
    assert peaks[1000] + per_pixel * (8000**2 - 1000**2) < 2e9
