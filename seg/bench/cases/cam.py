"""CAM for the image's label, as the stage makes it, against the bare forward pass."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from seg.bench.lab import Lab, plant
from seg.bench.machine import has_bfloat16
from seg.bench.measure import interleaved
from seg.bench.rows import Goal, Row
from seg.data.augment import normalise
from seg.instantiate import instantiate


def run(lab: Lab) -> Iterator[Row]:
    """The stage reads the prepared images, normalises them and writes the maps; the pass has its tensors ready."""
    sizes = lab.sizes
    images = sizes.batch * sizes.batches
    cfg, store = lab.config(images), lab.store()
    cam: Any = instantiate(cfg, "supervision")
    plant(cam.classifier, store, 1)
    pool, model = store.get(cam.pool), store.get(cam.classifier)
    batches = [
        normalise(pool.data.images[pool.rows[i : i + sizes.batch]]) for i in range(0, len(pool.rows), sizes.batch)
    ]
    note = (
        f"{len(pool.rows)} images, batch {sizes.batch}, {pool.data.side} px, ResNet-18, {lab.data_note()}; "
        "ours includes reading and normalising the images and writing the maps"
    )

    def ours() -> None:
        cam.build(lab.empty("cam"), store)

    model = model.to(memory_format=torch.channels_last)
    full, plain = interleaved([ours, forward(model, batches)], sizes.repeats)
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
    half, base = interleaved([ours, forward(model, batches, half=True)], sizes.repeats)
    yield Row(
        "CAM of the image's label",
        half,
        "bare forward pass, bfloat16 autocast, channels-last",
        base,
        Goal("speed", 0.9),
        note=f"as above; ours computes in float32, where the bare pass takes {plain.median:.3g} s: that is the limit",
    )


def forward(model: nn.Module, batches: list[Tensor], half: bool = False) -> Callable[[], None]:
    """A pass over tensors in memory and nothing else."""

    def call() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            for batch in batches:
                model(batch)

    return call
