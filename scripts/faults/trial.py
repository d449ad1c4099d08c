"""What is tried: small runs and sweeps, each in a process of its own that is forked off one which is warm.

A fresh interpreter would import PyTorch for longer than a trial takes. Networks are a ResNet-18 of an eighth of the
width with one block a stage: what is tried is what is written, and when.
"""

import contextlib
import csv
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from faults.tracing import forked

#: Of the warm process and so of all trials: threads do not survive a fork.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SMALL = [
    "data.size=32",
    "data.prepared.source.images=20",
    "data.prepared.source.breeds=2",
    "data.prepared.source.size=48",
    "runtime.accelerator=cpu",
    "runtime.threads=1",
    "runtime.workers=1",
    "runtime.progress=false",
    "classifier.stages=3",
    "classifier.output_stride=16",
    "seed=0",
    "data.refine.epochs=1",
    "segmenter.net.width=4",
    "segmenter.net.depth=2",
    "segmenter.input_size=32",
    "store=store",
]

#: What is run: a chain with three trainings, one of them of an epoch, its folder, page and networks.
CHAIN = ["pipeline=cam_affinity", "segmenter=unet", "epoch=2", "segmenter.epochs=2", *SMALL]
CHAIN += ["hydra.run.dir=run", "figures=false"]

#: Model 0, small: two epochs by three thresholds.
SWEEP = [
    "-m",
    "pipeline=cam",
    "epoch=1,2",
    "threshold=0.3,0.5,0.7",
    *[x for x in SMALL if not x.startswith(("seg", "data.refine"))],
]
SWEEP += ["hydra.sweep.dir=sweep", "figures=false"]

#: Seconds after which a trial counts as hanging. Machines may be busy, and what runs on them stopped for minutes.
HANGS_AFTER = 900


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: its exit status, negative for a signal. said: what it printed. work: what it began to build and to
            train, a line each.
    """

    status: int
    said: str
    work: tuple[str, ...] = ()

    @property
    def traceback(self) -> bool:
        """Whether it printed Python's or Hydra's long story."""
        return (
            "Traceback (most recent call last)" in self.said or "Set the environment variable HYDRA_FULL" in self.said
        )

    @property
    def last_line(self) -> str:
        """The line that says why it ended."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or [""])[-1]


@dataclass
class Workplace:
    """Folders of trials, and the processes in them.

    Attributes:
        root: below it everything lies; on memory where there is some, for copies are many.
    """

    root: Path
    _count: int = 0

    def folder(self, like: Path | None = None) -> Path:
        """A new folder to work in: a copy of another, or empty."""
        self._count += 1
        out = self.root / f"trial{self._count}"
        if like is None:
            out.mkdir()
        else:
            shutil.copytree(like, out, symlinks=True)
        return out

    def command(self, folder: Path, arguments: list[str]) -> Callable[[], int]:
        """A whole command: ``python -m seg.run ARGUMENTS``, of equal keys the last."""
        last = {x.partition("=")[0]: x for x in arguments}

        def work() -> int:
            from seg.run import main

            self._enter(folder)
            try:
                main([*last.values()])
            except SystemExit as stop:
                if isinstance(stop.code, str):
                    print(stop.code, file=sys.stderr)
                    return 1
                return int(stop.code or 0)
            return 0

        return work

    def run(self, work: Callable[[], int], seconds: int = HANGS_AFTER) -> Ended:
        """Do it in a process of its own."""

        def bounded() -> int:
            signal.alarm(seconds)
            return work()

        _, status = os.waitpid(forked(bounded), 0)
        return self.ended(os.waitstatus_to_exitcode(status))

    def ended(self, status: int) -> Ended:
        """What the last process has left beside its folder."""
        said, work = self.root / "said.txt", self.root / "work.txt"
        out = Ended(
            status,
            said.read_text(errors="replace") if said.exists() else "",
            tuple(line.partition(" by ")[0] for line in work.read_text().splitlines()) if work.exists() else (),
        )
        said.unlink(missing_ok=True)
        work.unlink(missing_ok=True)
        return out

    def _enter(self, folder: Path) -> None:
        said = os.open(self.root / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1, closefd=False), os.fdopen(2, "w", 1, closefd=False)
        os.chdir(folder)
        _count_work(os.open(self.root / "work.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))


@contextlib.contextmanager
def workplace() -> Iterator[Workplace]:
    """Warm this process up, and give room for trials."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30 else None
    root = Path(tempfile.mkdtemp(prefix="faults", dir=place)).resolve()
    try:
        _small_networks()
        out = Workplace(root)
        _warm_up(out)
        yield out
    finally:
        shutil.rmtree(root, ignore_errors=True)


def figures(folder: Path) -> Any:
    """The figures of a run, or of a sweep's jobs, in ``folder``; None where there are none, or no whole ones."""
    try:
        if (folder / "sweep").is_dir():
            with (folder / "sweep" / "miou_results_all.csv").open(newline="") as file:
                return [{k: v for k, v in row.items() if k not in ("seconds", "error")} for row in csv.DictReader(file)]
        return json.loads((folder / "run" / "metrics.json").read_text())["rows"]
    except (OSError, ValueError, KeyError):
        return None


def product_files(folder: Path) -> dict[str, str]:
    """A digest of each file of the store in ``folder`` by its name; of a manifest without what tells of time."""
    out = {}
    for path in sorted((folder / "store").glob("*/*/**/*")):
        if path.is_file():
            data = path.read_bytes()
            if path.name == "manifest.json":
                data = json.dumps(_timeless(json.loads(data)), sort_keys=True).encode()
            if path.name == "history.csv":
                rows = list(csv.DictReader(data.decode().splitlines()))
                data = repr([{k: v for k, v in row.items() if k != "seconds"} for row in rows]).encode()
            out[path.relative_to(folder / "store").as_posix()] = hashlib.sha256(data).hexdigest()
    return out


def kind_of(name: str) -> str:
    """``CAM/0123456789abcdef/scores.npy`` to ``CAM/scores.npy``; numbers become ``#``."""
    parts = name.split("/")
    plain = [part for part in parts if not (len(part.partition(".")[0]) == 16 and part[:1] in "0123456789abcdef")]
    last = "".join("#" if c.isdigit() else c for c in plain[-1]) if plain else ""
    while "##" in last:
        last = last.replace("##", "#")
    return "/".join([plain[0], last]) if len(plain) > 1 else last


def _timeless(manifest: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in manifest.items() if k in ("stage", "key", "params", "upstream", "epochs_done", "notes")}


def _count_work(to: int) -> None:
    """Write down what is begun: a build of a stage, an epoch of a training."""
    from seg.store.store import Store
    from seg.train.loop import Loop

    build, epoch = Store._build, Loop._epoch

    def building(self: Any, stage: Any, *rest: Any, **named: Any) -> Any:
        if not stage.in_place:
            os.write(to, f"{type(stage).__name__} {stage.key} by {os.getpid()}\n".encode())
        return build(self, stage, *rest, **named)

    def training(self: Any, number: int) -> Any:
        os.write(to, f"{type(self.stage).__name__} {self.stage.key} epoch {number} by {os.getpid()}\n".encode())
        return epoch(self, number)

    Store._build, Loop._epoch = building, training  # type: ignore[method-assign]


def _small_networks() -> None:
    from torch import nn
    from torchvision import models
    from torchvision.models import _api, resnet

    class Narrow(models.ResNet):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.fc = nn.Linear(512 // 8, self.fc.out_features)

        def _make_layer(self, block: Any, planes: int, *rest: Any, **named: Any) -> Any:
            return super()._make_layer(block, planes // 8, *rest, **named)

    @wraps(resnet.resnet18)
    def resnet18(*, weights: Any = None, progress: bool = True, **named: Any) -> models.ResNet:
        return Narrow(resnet.BasicBlock, [1, 1, 1, 1], **named)

    _api.BUILTIN_MODELS["resnet18"] = resnet18


def _warm_up(place: Workplace) -> None:
    """Import here what a run and a sweep import, and let them find it in their forks."""
    folder = place.folder()
    names = place.root / "modules.txt"

    def noting(work: Callable[[], int]) -> Callable[[], int]:
        def noted() -> int:
            status = work()
            with names.open("a") as file:
                file.write("".join(f"{name}\n" for name in list(sys.modules)))
            return status

        return noted

    for work in (place.command(folder, CHAIN), place.command(folder, SWEEP)):
        ended = place.run(noting(work), 600)
        if ended.status:
            raise RuntimeError(f"the run that is to be disturbed fails by itself:\n{ended.said}")
    for name in dict.fromkeys(names.read_text().split()):
        if not name.startswith("__"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    shutil.rmtree(folder)
