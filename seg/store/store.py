"""The stage store: every product once, under its key, whole or not at all."""

import copy
import logging
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from seg.files import file_sha256, read_json, write_json
from seg.store.inventory import locked
from seg.store.runtime import Runtime
from seg.store.stage import Stage
from seg.store.trouble import out_of
from seg.version import __version__

log = logging.getLogger(__name__)

#: Loaded products of one kind of stage that a process keeps open: of two products on two splits, say. A sweep
#: goes through many epochs; networks and histograms of all of them would not fit.
_OPEN_PRODUCTS = 4

#: Seconds between two marks that a product was used.
_USED_EVERY = 3600


@dataclass(frozen=True)
class Planned:
    """One line of a dry run: a stage, its depth in the tree, and what would happen to it."""

    stage: Stage
    depth: int
    status: str
    why: str


class Store:
    """Products of stages under ``root/<Stage>/<key>/``, built on demand.

    A build goes to ``<key>.part`` and is renamed when whole; a training grows in place, epoch by epoch.
    A lock per key lets several processes share a store: one builds, the others wait for it.

    Args:
        root: folder of the store; made when first written to.
        runtime: device, workers and progress for the builds.

    Attributes:
        builds: the stages that this process has begun to build, by id.
        on_epoch: told of a training at each of its epochs, once that is saved; by the process that writes.
    """

    def __init__(self, root: Path, runtime: Runtime | None = None) -> None:
        self.root = Path(root)
        self.runtime = runtime or Runtime()
        self.builds: list[str] = []
        self.on_epoch: Callable[[Any], None] | None = None
        self._open: dict[str, OrderedDict[str, Any]] = {}
        self._together = self.runtime.processes > 1
        self._settled: set[str] = set()
        self._compared: set[str] = set()
        self._allowed: list[set[str]] = []

    def alone(self) -> "Store":
        """The same store for what the first of several processes does by itself: checks before, reports after."""
        out = copy.copy(self)
        out._together = False
        return out

    def telling(self, on_epoch: Callable[[Any], None]) -> "Store":
        """The same store, whose trainings tell of their epochs."""
        out = copy.copy(self)
        out.on_epoch = on_epoch
        return out

    def folder(self, stage: Stage) -> Path:
        """Where the product of ``stage`` is or would be."""
        return self.root / type(stage).__name__ / stage.key

    def has(self, stage: Stage) -> bool:
        """Whether the product can be loaded without computing a stored stage."""
        if not stage.stored:
            return all(self.has(up) for up in stage.upstream().values())
        return stage.is_complete(self.folder(stage))

    def get(self, stage: Stage) -> Any:
        """The product of ``stage``, building it and first what it needs if it is not there.

        Raises:
            SegError: bad input met while building; what was already built stays.
        """
        self.ensure(stage)
        products = self._open.setdefault(type(stage).__name__, OrderedDict())
        if stage.id not in products:
            products[stage.id] = stage.load(self.folder(stage), self)
            if stage.stored:
                self._compare(stage)
                self._mark_used(stage)
            while len(products) > _OPEN_PRODUCTS:
                products.popitem(last=False)
        products.move_to_end(stage.id)
        return products[stage.id]

    def ensure(self, stage: Stage) -> None:
        """Build ``stage`` and what it needs, as far as they are not there.

        Where several processes train together, all of them have to ask for the same stages in the same order.

        Raises:
            TypeError: a build asked for a stage that is not upstream, so that its key does not tell of it.
        """
        if self._allowed and stage.id not in self._allowed[-1]:
            raise TypeError(f"a build asked for {stage.id}, which is not upstream of it, so its key would lie")
        if not stage.stored:
            for up in stage.upstream().values():
                self.ensure(up)
            return
        folder = self.folder(stage)
        if self._together:
            self._ensure_together(stage, folder)
            return
        if stage.is_complete(folder):
            return
        for up in stage.upstream().values():
            self.ensure(up)
        with locked(folder, wait=True):
            if not stage.is_complete(folder):
                self._build(stage, folder)

    def _ensure_together(self, stage: Stage, folder: Path) -> None:
        # All processes come here for the same stages in the same order. The first one decides for all: what each
        # saw on the disk could differ. A stage is asked for once: some are needed again where only one works.
        if stage.id in self._settled:
            return
        team = self.runtime.team
        if not team.broadcast(stage.is_complete(folder)):
            for up in stage.upstream().values():
                self.ensure(up)
            with locked(folder, wait=True) if self.runtime.leads else nullcontext():
                if not team.broadcast(stage.is_complete(folder)) and (self.runtime.leads or stage.in_place):
                    self._build(stage, folder)
                team.barrier()
        self._settled.add(stage.id)

    def manifest(self, stage: Stage) -> dict[str, Any] | None:
        """The manifest of a stored product, or None if there is none, or a damaged one."""
        with suppress(ValueError):
            return read_json(self.folder(stage) / "manifest.json")
        return None

    def plan(self, stages: Iterable[Stage]) -> list[Planned]:
        """What a run of ``stages`` would do, as a tree in lines, most downstream first. Writes nothing."""
        lines: list[Planned] = []
        seen: set[str] = set()

        def visit(stage: Stage, depth: int) -> None:
            if stage.id in seen:
                lines.append(Planned(stage, depth, "above", "planned above"))
                return
            seen.add(stage.id)
            lines.append(Planned(stage, depth, *self._status(stage)))
            for up in stage.upstream().values():
                visit(up, depth + 1)

        for stage in stages:
            visit(stage, 0)
        return lines

    # -- inside ----------------------------------------------------------------------------------------

    def _status(self, stage: Stage) -> tuple[str, str]:
        if not stage.stored:
            return "on the fly", "made from what is below, never stored"
        folder, manifest = self.folder(stage), self.manifest(stage)
        if stage.is_complete(folder):
            seconds = (manifest or {}).get("seconds")
            return "built", f"{seconds:.0f} s when it was made" if seconds is not None else "built"
        if stage.in_place and (done := (manifest or {}).get("epochs_done", 0)):
            return "extend", f"has {done} epochs, {getattr(stage, 'wanted', '?')} wanted"
        missing = [n for n, up in stage.upstream().items() if not self.has(up)]
        return "build", "needs " + ", ".join(missing) + " first" if missing else "not in the store"

    def _build(self, stage: Stage, folder: Path) -> None:
        log.log(stage.log_level, "%s %s: building", type(stage).__name__, stage.key)
        self.builds.append(stage.id)
        started = time.perf_counter()
        self._allowed.append({up.id for up in stage.walk()})
        try:
            if stage.in_place:
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    stage.build(folder, self)  # writes its own manifest, epoch by epoch
                except BaseException:
                    with suppress(OSError):
                        folder.rmdir()  # nothing is there yet: a refused training leaves no empty folder
                    raise
            else:
                part = folder.with_name(folder.name + ".part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
                notes = stage.build(part, self)
                self.write_manifest(stage, part, time.perf_counter() - started, {"notes": notes or {}})
                # A folder without a manifest is what a failed disk or a hand left behind.
                shutil.rmtree(folder, ignore_errors=True)
                part.rename(folder)
        except Exception as error:
            if refusal := out_of(error, f"{type(stage).__name__} {stage.key}", self.root):
                raise refusal from error
            raise
        finally:
            self._allowed.pop()
        seconds = time.perf_counter() - started
        log.log(stage.log_level, "%s %s: done in %.1f s", type(stage).__name__, stage.key, seconds)

    def _mark_used(self, stage: Stage) -> None:
        """As the time of the manifest, for ``seg.store ls``; not in a store to read only."""
        path = self.folder(stage) / "manifest.json"
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _USED_EVERY:
                os.utime(path)

    def write_manifest(self, stage: Stage, folder: Path, seconds: float, extra: Mapping[str, Any]) -> None:
        """Write ``manifest.json``: identity, cost, and size and checksum of every file."""
        old = read_json(folder / "manifest.json") or {}
        known = {f["name"]: f for f in old.get("files", []) if stage.in_place}
        files = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"):
            name, size = path.relative_to(folder).as_posix(), path.stat().st_size
            if path.suffix in (".pt", ".csv", ".tmp"):  # rewritten at every epoch of a training
                continue
            same = known.get(name, {}).get("size") == size
            files.append(known[name] if same else {"name": name, "size": size, "sha256": file_sha256(path)})
        manifest = {
            "stage": type(stage).__name__,
            "key": stage.key,
            "version": stage.version,
            "params": stage.params(),
            "upstream": {name: up.id for name, up in stage.upstream().items()},
            "weakseg": __version__,
            "made_with": self._surroundings(),
            "seconds": round(seconds, 3),
            "files": files,
            **extra,
        }
        write_json(folder / "manifest.json", manifest)

    def _surroundings(self) -> dict[str, Any]:
        """What may change the last digits of a product, and is no part of its key."""
        import torch

        return packages() | {
            "device": self.runtime.device.type,
            "threads": torch.get_num_threads(),
            "processes": self.runtime.processes if self._together else 1,
        }

    def _compare(self, stage: Stage) -> None:
        """Say it where a product comes from another kind of machine than this; once of a kind of stage."""
        if type(stage).__name__ in self._compared:
            return
        self._compared.add(type(stage).__name__)
        then = (self.manifest(stage) or {}).get("made_with")
        if not then:
            return
        before, now = str(then.get("torch", "")), packages()["torch"]
        if before.partition(".")[0] != now.partition(".")[0]:
            log.warning("%s was made with torch %s; here is %s", stage.id, then.get("torch"), now)
        if then.get("device") != self.runtime.device.type:
            log.warning("%s was made on %s; here is %s", stage.id, then.get("device"), self.runtime.device.type)


@cache
def packages() -> dict[str, str]:
    """The versions here of the packages that compute."""
    return {name: metadata.version(name) for name in ("torch", "torchvision", "pillow", "numpy")}
