"""CAM for the image's label, as the stage makes it, against the bare forward pass."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from benchmark.lab import Lab, plant
from benchmark.machine import has_bfloat16
from benchmark.measure import interleaved
from benchmark.rows import Goal, Row
from seg.config.tree import make_objects
from seg.nets.augment import normalise
from seg.supervision.cam import CAM


def run(lab: Lab) -> Iterator[Row]:
    """The stage reads the prepared images, normalises them and writes the maps; the pass has its tensors ready."""
    sizes = lab.sizes
    images = sizes.batch * sizes.batches
    cfg, store = lab.config(images), lab.store()
    cam: CAM = make_objects(cfg, "supervision")
    plant(cam.design, store, 1)
    pool, model = store.get(cam.pool), store.get(cam.classifier)
    batches = [
        normalise(pool.data.images[pool.rows[i : i + sizes.batch]]) for i in range(0, len(pool.rows), sizes.batch)
    ]
    note = (
        f"{len(pool.rows)} images, batch {sizes.batch}, {pool.data.side} px, ResNet-18, {lab.data_note()}; "
        "ours includes loading, folding batch norm, reading and normalising the images and writing the maps"
    )

    def ours(stage: CAM) -> Callable[[], None]:
        def call() -> None:
            stage.build(lab.empty("cam"), store)

        return call

    model = model.to(memory_format=torch.channels_last)
    full, plain = interleaved([ours(cam), forward(model, batches)], sizes.repeats)
    yield Row(
        "CAM of the image's label",
        full,
        "bare forward pass, float32, channels-last",
        plain,
        Goal("speed", 0.9),
        note=note,
    )
    if not has_bfloat16():
        return
    half = dataclasses.replace(cam, precision="bf16-true")
    full, plain = interleaved([ours(half), forward(model, batches, half=True)], sizes.repeats)
    yield Row(
        "CAM of the image's label, bfloat16",
        full,
        "bare forward pass, bfloat16 autocast, channels-last",
        plain,
        Goal("speed", 0.9),
        note="as above, with supervision.precision=bf16-true",
    )


def forward(model: nn.Module, batches: list[Tensor], half: bool = False) -> Callable[[], None]:
    """A pass over tensors in memory and nothing else."""

    def call() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            for batch in batches:
                model(batch)

    return call
