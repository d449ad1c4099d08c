"""One training epoch against the bare loop of forward, backward and step over tensors in memory."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from benchmark.lab import Lab, plant
from benchmark.measure import Sample
from benchmark.rows import Goal, Row
from seg.config.tree import make_objects
from seg.masks import Threshold
from seg.store import Runtime, Store
from seg.supervision.mask import TargetScores
from seg.train import Training
from seg.train.loop import Loop, epoch_batches

T = TypeVar("T")


class Turns:
    """Something else is run before every epoch of a training, and the two times are kept apart.

    Args:
        between: the thing to run.

    Attributes:
        ours: seconds of each epoch. theirs: of the other thing.
    """

    def __init__(self, between: Callable[[], None]) -> None:
        self.between = between
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self._since = 0.0

    def begin(self) -> None:
        """An epoch begins, and so the one before it has ended."""
        self.end()
        started = time.perf_counter()
        self.between()
        self.theirs.append(time.perf_counter() - started)
        self._since = time.perf_counter()

    def end(self) -> None:
        """An epoch of ours has ended."""
        if self._since:
            self.ours.append(time.perf_counter() - self._since)


class Interleaving(Runtime):
    """A runtime that tells of every epoch of a training.

    The one loop asks for a progress bar when an epoch begins. So an epoch of ours is everything from there to the
    next one: reading, augmentation, the steps, and saving.
    """

    def take(self, turns: Turns) -> None:
        """Tell these from now on."""
        self.__dict__["turns"] = turns  # parameters are frozen, and this is none

    def bar(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """The bar of an epoch; other bars (batch norm, held-out images) belong to the epoch that they are in."""
        if " epoch " in what:
            self.__dict__["turns"].begin()
        return iter(items)


def run(lab: Lab) -> Iterator[Row]:
    """The three networks with the recipe of their configs, all from random weights, nothing held out."""
    runtime = Interleaving(accelerator="cpu", progress=False, batch_size=lab.sizes.batch)
    store = Store(lab.scratch / "store", runtime)
    cfg = lab.config(
        lab.sizes.train_images,
        "supervision=mask",
        "refiner=affinity",
        "segmenter=unet",
        "classifier.hold_out=0",
        "runtime.batch_size=32",
    )
    classifier: Any = make_objects(cfg, "classifier")
    planted = dataclasses.replace(classifier, seed=1)
    plant(planted, store, 1)
    target = Threshold(scores=TargetScores(pool=make_objects(cfg, "data.pool")), threshold=0.5)
    affinity = make_objects(cfg, "refiner.scores.affinity")
    segmenter = make_objects(cfg, "segmenter")
    stages: dict[str, Training] = {
        "classifier": classifier,
        "AffinityNet": dataclasses.replace(affinity, seeds=target, classifier=planted),
        "U-Net": dataclasses.replace(segmenter, masks=target),
    }
    for name, stage in stages.items():
        yield epoch_of(name, stage, store, runtime, lab)
    yield frozen_epoch(classifier, store, runtime, lab)


def frozen_epoch(classifier: Any, store: Store, runtime: Interleaving, lab: Lab) -> Row:
    """The row of the classifier with its first stages frozen, against ours without."""
    epochs = lab.sizes.epochs + 1
    plain, frozen = (
        dataclasses.replace(classifier, epochs=epochs, epoch=None, precision="32-true", frozen_stages=n) for n in (0, 2)
    )
    quiet = Store(store.root, Runtime(accelerator="cpu", progress=False, batch_size=lab.sizes.batch))
    loop = Loop(dataclasses.replace(plain, epoch=1), lab.empty("training"), quiet)

    def one_more() -> None:
        loop.stage = dataclasses.replace(plain, epoch=loop.done + 1)
        loop.run()
        loop.done += 1

    turns = Turns(one_more)
    runtime.take(turns)
    frozen.build(lab.empty("training"), store)
    turns.end()
    return Row(
        "training epoch, classifier, two stages frozen",
        Sample(tuple(turns.ours[1:])),
        "training epoch, classifier",
        Sample(tuple(turns.theirs[1:])),
        Goal("cost", 0.6),
        note=f"{len(frozen.samples(store))} images, batch {frozen.batch_size}, float32, {lab.data_note()}",
    )


def epoch_of(name: str, stage: Training, store: Store, runtime: Interleaving, lab: Lab) -> Row:
    """The row of one network."""
    epochs = lab.sizes.epochs + 1  # the first one warms up
    stage = dataclasses.replace(stage, epochs=epochs, epoch=None, precision="32-true")
    for up in stage.upstream().values():
        store.get(up)
    rows = stage.samples(store)
    loop, images = bare_loop(stage, store)
    turns = Turns(loop)
    runtime.take(turns)
    stage.build(lab.empty("training"), store)
    turns.end()
    ours, base = Sample(tuple(turns.ours[1:])), Sample(tuple(turns.theirs[1:]))
    return Row(
        f"training epoch, {name}",
        ours,
        "bare forward, backward, step",
        base,
        Goal("cost", 1.1),
        note=f"{len(rows)} images at {images.shape[-1]} px, batch {stage.batch_size}, float32, {lab.data_note()}; "
        "ours also reads, augments and saves weights and optimizer, a fixed cost that weighs less with more images",
    )


def bare_loop(stage: Training, store: Store) -> tuple[Callable[[], None], torch.Tensor]:
    """An epoch over batches that are already augmented tensors, as fast as it goes; and a batch's images."""
    generator = torch.Generator().manual_seed(0)
    parts = epoch_batches(stage.samples(store), stage.batch_size, stage.seed, 1)
    batches = [stage.batch(part, generator, store) for part in parts]
    model = stage.network(store).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(stage.groups(model))

    def loop() -> None:
        model.train()
        for batch in batches:
            loss, _ = stage.loss(model, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return loop, batches[0][0]
