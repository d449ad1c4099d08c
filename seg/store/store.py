"""The stage store: every product once, under its key, whole or not at all."""

import copy
import logging
import shutil
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from seg.errors import SegError
from seg.files import io_error, sync_folder, sync_tree
from seg.format import duration
from seg.store.manifest import NAME, entry_of, locked, misfit, read_manifest, remove_damaged, write_manifest
from seg.store.runtime import Runtime
from seg.store.stage import Stage
from seg.version import __version__

log = logging.getLogger(__name__)

#: Loaded products of one kind of stage that a process keeps open: of two products on two splits, say. A sweep
#: goes through many epochs; networks and histograms of all of them would not fit.
_OPEN_PRODUCTS = 4


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
        on_epoch: called with a training after each of its epochs, once that is saved; by the process that writes.
    """

    def __init__(self, root: Path, runtime: Runtime | None = None) -> None:
        self.root = Path(root)
        self.runtime = runtime or Runtime()
        self.builds: list[str] = []
        self.on_epoch: Callable[[Any], None] | None = None
        self._open: dict[str, OrderedDict[str, Any]] = {}
        self._together = self.runtime.processes > 1
        self._settled: set[str] = set()
        self._allowed: list[set[str]] = []
        self._read: set[tuple[Path, str]] = set()
        self._complete: set[Path] = set()
        self._expected: dict[str, float | None] = {}

    def alone(self) -> "Store":
        """The same store for what the first of several processes does by itself: checks before, reports after."""
        out = copy.copy(self)
        out._together = False
        return out

    def with_callback(self, on_epoch: Callable[[Any], None]) -> "Store":
        """The same store, which calls ``on_epoch`` after each epoch of a training."""
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
        return self._is_complete(stage, self.folder(stage))

    def get(self, stage: Stage) -> Any:
        """The product of ``stage``, building it and first what it needs if it is not there.

        Raises:
            SegError: bad input met while building; what was already built stays.
        """
        self._check_upstream(stage)
        products = self._open.setdefault(type(stage).__name__, OrderedDict())
        if stage.id not in products:
            products[stage.id] = stage.load(self.checked_folder(stage), self)
            while len(products) > _OPEN_PRODUCTS:
                products.popitem(last=False)
        products.move_to_end(stage.id)
        return products[stage.id]

    def checked_folder(self, stage: Stage) -> Path:
        """The folder of a product for one who reads its files: built if it is not there, and anew if it is damaged.

        The sizes of the files are compared each time, their checksums at the first time in a process.

        Raises:
            SegError: if it is damaged again.
        """
        folder = self.folder(stage)
        self.ensure(stage)
        # Of processes that train together the first has looked for all.
        if not stage.stored or self._together or not self._misfits(stage, folder):
            return folder
        with locked(folder, wait=True):
            self._remove_damaged(stage, folder)
        self.ensure(stage)
        if self._misfits(stage, folder):
            raise SegError(f"{folder}: is damaged as soon as it is written; check the disk, or choose another store=")
        return folder

    def ensure(self, stage: Stage) -> None:
        """Build ``stage`` and what it needs, as far as they are not there.

        Where several processes train together, all of them have to ask for the same stages in the same order.

        Raises:
            TypeError: a build asked for a stage that is not upstream, so that its key does not tell of it.
        """
        self._check_upstream(stage)
        folder = self.folder(stage)
        if stage.stored and self._together:
            self._ensure_together(stage, folder)
        elif not (stage.stored and self._is_complete(stage, folder)):
            for up in stage.upstream().values():
                self.ensure(up)
            if stage.stored:
                with locked(folder, wait=True):
                    if not stage.is_complete(folder):
                        self._remove_damaged(stage, folder)
                        self._build(stage, folder)

    def _is_complete(self, stage: Stage, folder: Path) -> bool:
        # A sweep asks for each job whether the same thousand toy pictures are there; who opens them compares anew.
        if folder in self._complete and (folder / NAME).is_file():
            return True
        complete = stage.is_complete(folder)
        if complete and not stage.in_place:
            self._complete.add(folder)
        return complete

    def _check_upstream(self, stage: Stage) -> None:
        if self._allowed and stage.id not in self._allowed[-1]:
            raise TypeError(f"a build asked for {stage.id}, which is not upstream of it, so its key would lie")

    def _ensure_together(self, stage: Stage, folder: Path) -> None:
        # All processes come here for the same stages in the same order. The first one decides for all: what each
        # saw on the disk could differ. A stage is asked for once: some are needed again where only one works.
        if stage.id in self._settled:
            return
        team = self.runtime.team
        if self.runtime.leads and self._misfits(stage, folder):
            with locked(folder, wait=True):
                self._remove_damaged(stage, folder)
        if not team.broadcast(stage.is_complete(folder)):
            for up in stage.upstream().values():
                self.ensure(up)
            with locked(folder, wait=True) if self.runtime.leads else nullcontext():
                if not team.broadcast(stage.is_complete(folder)) and (self.runtime.leads or stage.in_place):
                    self._build(stage, folder)
                team.barrier()
        self._settled.add(stage.id)

    def expect(self, stages: Iterable[Stage]) -> None:
        """Let the log and the bars say of each build of these stages which it is, and how long all may take."""
        self._expected.clear()
        self._expected.update((s.id, self._usual_seconds(s)) for s in stages if s.stored and not self.has(s))

    def _usual_seconds(self, stage: Stage) -> float | None:
        """What the newest products of its kind took, at the median; of a training per epoch that is missing."""
        newest = sorted(self.folder(stage).parent.glob(f"*/{NAME}"), key=lambda path: path.stat().st_mtime)[-5:]
        own, wanted, seconds = self.manifest(stage) or {}, getattr(stage, "wanted", 0), []
        for manifest in filter(None, (read_manifest(path.parent) for path in newest)):
            done = manifest.get("epochs_done")
            share = (wanted - own.get("epochs_done", 0)) / done if done else 1
            seconds.append(manifest["seconds"] * share)
        return statistics.median(seconds) if seconds else None

    def _so_far(self, stage: Stage) -> str:
        if stage.id not in self._expected:
            return ""
        at = [*self._expected].index(stage.id)
        rest = [*self._expected.values()][at:]
        known = [seconds for seconds in rest if seconds is not None]
        more = "at least " if len(known) < len(rest) else "about "
        return f"{at + 1} of {len(self._expected)}" + (
            f", {more}{duration(sum(known))} left" if sum(known) >= 1 else ""
        )

    def manifest(self, stage: Stage) -> dict[str, Any] | None:
        """The manifest of a stored product, or None if there is none, or a damaged one."""
        return read_manifest(self.folder(stage))

    def plan(self, stages: Iterable[Stage]) -> list[Planned]:
        """What a run of ``stages`` would do, as a tree in lines, most downstream first. Writes nothing."""
        lines: list[Planned] = []

        def visit(stage: Stage, depth: int) -> None:
            if any(line.stage.id == stage.id for line in lines):
                lines.append(Planned(stage, depth, "see above", ""))
                return
            lines.append(Planned(stage, depth, *self._status(stage)))
            for up in stage.upstream().values():
                visit(up, depth + 1)

        for stage in stages:
            visit(stage, 0)
        return lines

    def _status(self, stage: Stage) -> tuple[str, str]:
        if not stage.stored:
            return "on the fly", "made from what is below, never stored"
        manifest = self.manifest(stage) or {}
        if stage.is_complete(self.folder(stage)):
            return "built", f"{manifest['seconds']:.0f} s when it was made"
        if stage.in_place and (done := manifest.get("epochs_done", 0)):
            return "extend", f"has {done} epochs, {getattr(stage, 'wanted', '?')} wanted"
        return "build", "not in the store"

    def _misfits(self, stage: Stage, folder: Path) -> dict[str, str]:
        """What is wrong with a product that is there, by file; nothing if it is not there or was never finished."""
        manifest = read_manifest(folder)
        if manifest is None:
            return {NAME: "is damaged"} if (folder / NAME).exists() else {}
        wrong = {}
        for entry in stage.files_to_load(manifest) or ():
            known = (folder, entry["name"])
            if (problem := misfit(folder, entry, read=known not in self._read)) is not None:
                wrong[entry["name"]] = problem
            else:
                self._read.add(known)
        return wrong

    def _remove_damaged(self, stage: Stage, folder: Path) -> None:
        """Remove a damaged product with a warning; under its lock. Nothing, if another process did."""
        if wrong := self._misfits(stage, folder):
            remove_damaged(folder, wrong)
            self._complete.discard(folder)
            self._read -= {known for known in self._read if known[0] == folder}
            name, problem = next(iter(wrong.items()))
            log.warning("%s: %s %s; removed, and built anew", stage.id, name, problem)

    def _build(self, stage: Stage, folder: Path) -> None:
        name = f"{type(stage).__name__} {stage.key}"
        so_far = self.runtime.kept["so far"] = self._so_far(stage)
        log.log(stage.log_level, "%s: building%s", name, so_far and f" ({so_far})")
        self.builds.append(stage.id)
        started = time.perf_counter()
        self._allowed.append({up.id for up in stage.walk()})
        try:
            (self._build_in_place if stage.in_place else self._build_atomically)(stage, folder)
        except Exception as error:
            if refusal := io_error(error, name, self.root):
                raise refusal from error
            raise
        finally:
            self._allowed.pop()
            self.runtime.kept["so far"] = ""
        log.log(stage.log_level, "%s: done in %.1f s", name, time.perf_counter() - started)

    def _build_in_place(self, stage: Stage, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # Epochs that last need a folder that does.
            sync_folder(folder.parent)
            sync_folder(self.root)
        try:
            stage.build(folder, self)  # writes its own manifest, epoch by epoch
        except BaseException:
            with suppress(OSError):
                folder.rmdir()  # nothing is there yet: a refused training leaves no empty folder
            raise

    def _build_atomically(self, stage: Stage, folder: Path) -> None:
        started = time.perf_counter()
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        notes = stage.build(part, self)
        # A name that survives a loss of power must not be that of files which do not.
        sync_tree(part)
        self.write_manifest(stage, part, time.perf_counter() - started, {"notes": notes or {}})
        # A folder without a manifest is what a failed disk or a hand left behind.
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)

    def write_manifest(
        self, stage: Stage, folder: Path, seconds: float, extra: Mapping[str, Any], without: Collection[str] = ()
    ) -> None:
        """Write ``manifest.json``: identity, cost, and size and checksums of every file.

        Args:
            stage: of the product. folder: where its files are. seconds: that it took. extra: what more is to be kept.
            without: names of files that no longer belong to it.
        """
        old = read_manifest(folder) if stage.in_place else None
        known = {entry["name"]: entry for entry in (old or {}).get("files", [])}
        files = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".tmp"):
            name = path.relative_to(folder).as_posix()
            if name == NAME or name in without:
                continue
            # A training never changes the files of an epoch that a manifest tells of, and a damage must not become
            # what was written; its history grows.
            files.append(known[name] if name in known and path.suffix != ".csv" else entry_of(folder, path))
        manifest = {
            "stage": type(stage).__name__,
            "key": stage.key,
            "params": stage.params(),
            "upstream": {name: up.id for name, up in stage.upstream().items()},
            "weakseg": __version__,
            # What may change the last digits of a product, and is no part of its key.
            "made_with": {
                "torch": metadata.version("torch"),
                "device": self.runtime.device.type,
                "processes": self.runtime.processes if self._together else 1,
            },
            "seconds": round(seconds, 3),
            "files": files,
            **extra,
        }
        write_manifest(folder, manifest)
