"""The sweep over epochs and thresholds after training, through the real entrypoint."""

import csv
import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.cases import Skipped
from benchmark.cases.cam import forward
from benchmark.lab import Lab, plant
from benchmark.machine import has_bfloat16
from benchmark.measure import Sample
from benchmark.rows import Goal, Row
from benchmark.script_way import sweep, usable
from seg.config.tree import make_objects
from seg.nets.augment import normalise


def run(lab: Lab) -> Iterator[Row]:
    """Prepared images and classifiers are there; CAMs, masks and figures are not."""
    sizes, epochs = lab.sizes, lab.sizes.sweep_epochs
    store = lab.store()
    frozen = "classifier.frozen_stages=2"

    def planted(*more: str) -> Any:
        stage: Any = make_objects(lab.config(sizes.sweep_images, f"epoch={epochs}", *more), "classifier")
        plant(stage, store, epochs)
        return stage

    classifier = planted()
    data = store.get(classifier.data)
    count = len(data)
    lab.say(f"  {epochs} epochs x 9 thresholds x {count} images through the entrypoint")

    def timed(call: Any) -> Sample:
        started = time.perf_counter()
        call()
        return Sample((time.perf_counter() - started,))

    def grid(*more: str) -> Sample:
        folder = lab.empty("sweep")
        trained = planted(frozen) if frozen in more else classifier
        done = timed(
            lambda: lab.call(
                "seg.run",
                "-m",
                *lab.overrides(sizes.sweep_images),
                f"epoch=1..{epochs}",
                "threshold=0.1..0.9",
                f"hydra.sweep.dir='{folder}'",
                f"runtime.batch_size={sizes.batch}",
                *more,
            )
        )
        check(folder, 9 * epochs, store.folder(trained))
        return done

    ours = grid()

    model = store.get(classifier).to(memory_format=torch.channels_last).model  # torchvision's own
    # Copies: PyTorch warns of arrays that it may not write to.
    parts = [np.array(data.images[i : i + sizes.batch]) for i in range(0, count, sizes.batch)]
    batches = [normalise(part) for part in parts]

    def bare(half: bool) -> None:
        np.array(data.images)
        for _ in range(epochs):
            forward(model, batches, half)()

    small = "" if epochs == 20 and count >= 500 else "; SMALLER than the goal's 20 epochs and 500 images"
    note = (
        f"{epochs} epochs x 9 thresholds, {count} images, {lab.data_note()}; ours with the start of the process{small}"
    )
    what = f"sweep of {epochs} epochs x 9 thresholds after training"
    against = f"{epochs} bare forward passes and a read of the prepared images"
    base = timed(lambda: bare(False))
    yield Row(what, ours, against, base, Goal("cost", 1.15), note=note)
    timings = {what: ours}
    fewer = f"{note}; with {frozen}: the epochs share the features of the stem and two stages"
    yield Row(f"{what}, two stages frozen", grid(frozen), against, base, Goal("cost", 0.65), note=fewer)
    if has_bfloat16():
        half = timings[f"{what}, bfloat16"] = grid("supervision.precision=bf16-true")
        half_note = f"{note}; with supervision.precision=bf16-true"
        base = timed(lambda: bare(True))
        yield Row(f"{what}, bfloat16", half, f"{against}, bfloat16 autocast", base, Goal("cost", 1.15), note=half_note)
    if importlib.util.find_spec("cv2") is None:
        raise Skipped("the scripts' way needs OpenCV: pip install 'weakseg[bench]'")
    records = store.get(classifier.data.source).records
    photos, trimaps, labels = usable(data, records, sizes.script_images)
    model = model.to(memory_format=torch.contiguous_format)
    sweep(model, photos[:1], trimaps[:1], labels[:1], data.side, lab.empty("warm"))
    part = timed(lambda: sweep(model, photos, trimaps, labels, data.side, lab.empty("script")))
    slow = part.scaled(epochs * count / len(photos))
    note += (
        f"; the scripts' way was run for 1 epoch x {len(photos)} images ({part.median:.2f} s) and scaled; its time "
        "through that of the bare passes is what a sweep at no cost but these would reach"
    )
    for name, ours in timings.items():
        yield Row(name, ours, "the way of scripts, files between all steps", slow, Goal("speed", 12), note=note)


def check(folder: Path, rows: int, trained: Path) -> None:
    """A sweep that did not do its work, or did more than that, is not worth timing."""
    if (trained / "history.csv").exists():
        raise RuntimeError(f"{trained}: the sweep has trained a classifier instead of using those that are there")
    with (folder / "miou_results_all.csv").open() as file:
        table = list(csv.DictReader(file))
    if len(table) != rows or any(row["status"] != "ok" for row in table):
        raise RuntimeError(f"{folder}: {len(table)} rows, {rows} expected, all of them ok")
