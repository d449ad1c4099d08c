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

#: Backbones other than ResNet-18, by the name in the row.
OTHERS = {"ResNet-50": "resnet50", "ViT-S/14": "timm/vit_small_patch14_dinov2"}


def run(lab: Lab) -> Iterator[Row]:
    """The stage reads the prepared images, normalises them and writes the maps; the pass has its tensors ready."""
    yield from of_backbone(lab, "ResNet-18", Goal("speed", 0.9))
    for name, backbone in OTHERS.items():
        yield from of_backbone(lab, name, Goal("speed", 0.95), f"backbone={backbone}", "weights=null")


def of_backbone(lab: Lab, name: str, goal: Goal, *overrides: str) -> Iterator[Row]:
    """The rows of one backbone; in bfloat16 too where the processor has it and nothing is overridden."""
    sizes = lab.sizes
    cfg, store = lab.config(sizes.batch * sizes.batches, *overrides), lab.store()
    cam: CAM = make_objects(cfg, "supervision")
    plant(cam.design, store, 1)
    pool, model = store.get(cam.pool), store.get(cam.classifier)
    batches = [
        normalise(pool.data.images[pool.rows[i : i + sizes.batch]]) for i in range(0, len(pool.rows), sizes.batch)
    ]
    note = (
        f"{len(pool.rows)} images, batch {sizes.batch}, {pool.data.side} px, {name}, {lab.data_note()}; "
        "ours includes loading, folding batch norm, reading and normalising the images and writing the maps"
    )

    def ours(stage: CAM) -> Callable[[], None]:
        def call() -> None:
            stage.build(lab.empty("cam"), store)

        return call

    what = "CAM of the image's label" + (f", {name}" if overrides else "")
    model = model.to(memory_format=torch.channels_last)
    full, plain = interleaved([ours(cam), forward(model, batches)], sizes.repeats)
    yield Row(what, full, "bare forward pass, float32, channels-last", plain, goal, note=note)
    if overrides or not has_bfloat16():
        return
    half = dataclasses.replace(cam, precision="bf16-true")
    full, plain = interleaved([ours(half), forward(model, batches, half=True)], sizes.repeats)
    yield Row(
        f"{what}, bfloat16",
        full,
        "bare forward pass, bfloat16 autocast, channels-last",
        plain,
        goal,
        note="as above, with supervision.precision=bf16-true",
    )


def forward(model: nn.Module, batches: list[Tensor], half: bool = False) -> Callable[[], None]:
    """A pass over tensors in memory and nothing else."""

    def call() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            for batch in batches:
                model(batch)

    return call
