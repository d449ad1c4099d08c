"""The stage store: each product is built once, atomically, and named by its key."""

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
from seg.store.manifest import NAME, entry_of, is_intact, locked, read_manifest, remove_damaged, write_manifest
from seg.store.runtime import Runtime, so_far
from seg.store.stage import Stage
from seg.version import __version__

log = logging.getLogger(__name__)

#: Loaded products that a process keeps per kind of stage. A sweep goes through many epochs, whose networks and
#: histograms would not all fit into memory.
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

    A build writes to ``<key>.part``, which is renamed when it is complete; a training grows in place, epoch by epoch.
    A lock per key lets several processes share a store: one builds, the others wait.

    Args:
        root: folder of the store, created at the first write.
        runtime: device, workers and progress for the builds.

    Attributes:
        builds: ids of the stages that this process has started to build.
        on_epoch: called with a training after each saved epoch, in the process that writes.
    """

    def __init__(self, root: Path, runtime: Runtime | None = None) -> None:
        self.root = Path(root)
        self.runtime = runtime or Runtime()
        self.builds: list[str] = []
        self.on_epoch: Callable[[Any], None] | None = None
        self._open: dict[str, OrderedDict[str, Any]] = {}
        self._together = self.runtime.processes > 1
        self._settled: set[str] = set()  # ids that several processes have built or found together
        self._allowed: list[set[str]] = []  # by running build: the ids that it may ask for
        self._complete: set[Path] = set()  # folders whose file sizes were compared
        self._checked: set[str] = set()  # ids whose checksums were compared
        self._expected: dict[str, float | None] = {}  # seconds by id of what this run still has to build

    def alone(self) -> "Store":
        """The same store without coordination, for what the first of several processes does alone: checks, reports."""
        out = copy.copy(self)
        out._together = False
        return out

    def with_callback(self, on_epoch: Callable[[Any], None]) -> "Store":
        """The same store with another ``on_epoch``."""
        out = copy.copy(self)
        out.on_epoch = on_epoch
        return out

    def folder(self, stage: Stage) -> Path:
        """The folder of a product, whether it exists or not."""
        return self.root / type(stage).__name__ / stage.key

    def has(self, stage: Stage) -> bool:
        """Whether a product can be loaded without building anything."""
        if not stage.stored:
            return all(self.has(up) for up in stage.upstream().values())
        return self._is_complete(stage, self.folder(stage))

    def get(self, stage: Stage) -> Any:
        """Load a product, after building what is missing.

        Raises:
            SegError: bad input found while building; what was built before is kept.
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
        """The folder of a product whose files are about to be read: built if missing, rebuilt if damaged.

        File sizes are compared at every call, checksums at the first call of a process.

        Raises:
            SegError: the rebuilt product is damaged again.
        """
        folder = self.folder(stage)
        self.ensure(stage)
        # Where several processes train together, the first one has checked for all of them.
        if stage.stored and not self._together and self._repair(stage, folder):
            self.ensure(stage)
            if self._damaged(stage, folder):
                raise SegError(f"{folder}: damaged as soon as written; check the disk, or choose another store=")
        return folder

    def ensure(self, stage: Stage) -> None:
        """Build ``stage`` and what it needs, as far as they are missing.

        Where several processes train together, all of them must ask for the same stages in the same order.

        Raises:
            TypeError: a build asked for a stage that is not upstream of it, and so not part of its key.
        """
        self._check_upstream(stage)
        if stage.id in self._settled:
            return
        folder, leads = self.folder(stage), not self._together or self.runtime.leads
        if stage.stored and self._together and leads:
            self._repair(stage, folder)
        if not (stage.stored and self._agreed(self._is_complete(stage, folder))):
            for up in stage.upstream().values():
                self.ensure(up)
            if stage.stored:
                with locked(folder, wait=True) if leads else nullcontext():
                    if not self._agreed(stage.is_complete(folder)) and (leads or stage.in_place):
                        if leads:
                            self._remove_damaged(stage, folder)
                        self._build(stage, folder)
                    if self._together:
                        self.runtime.team.barrier()
        if self._together:
            self._settled.add(stage.id)

    def _agreed(self, complete: bool) -> bool:
        """What the first of several processes sees: the others may see another state of the disk."""
        return bool(self.runtime.team.broadcast(complete)) if self._together else complete

    def _is_complete(self, stage: Stage, folder: Path) -> bool:
        # Remembered: each job of a sweep asks whether the same thousand toy pictures exist.
        if folder in self._complete and (folder / NAME).is_file():
            return True
        complete = stage.is_complete(folder)
        if complete and not stage.in_place:
            self._complete.add(folder)
        return complete

    def _check_upstream(self, stage: Stage) -> None:
        if self._allowed and stage.id not in self._allowed[-1]:
            raise TypeError(f"a build asked for {stage.id}, which is not upstream of it and so not part of its key")

    def expect(self, stages: Iterable[Stage]) -> None:
        """Number the builds that these stages need, for the log and the progress bars, and estimate their time."""
        self._expected.clear()
        self._expected.update((s.id, self._usual_seconds(s)) for s in stages if s.stored and not self.has(s))

    def _usual_seconds(self, stage: Stage) -> float | None:
        """Median time of the newest products of the same kind; for a training, scaled to the missing epochs."""
        newest = sorted(self.folder(stage).parent.glob(f"*/{NAME}"), key=_modified)[-5:]
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
        """The manifest of a stored product; None if it is missing or damaged."""
        return read_manifest(self.folder(stage))

    def plan(self, stages: Iterable[Stage]) -> list[Planned]:
        """What a run would do with ``stages`` and all upstream of them, depth first. Writes nothing."""
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
            return "on the fly", "computed when needed, not stored"
        manifest = self.manifest(stage) or {}
        if stage.is_complete(self.folder(stage)):
            return "built", f"{manifest['seconds']:.0f} s when built"
        if stage.in_place and (done := manifest.get("epochs_done", 0)):
            return "extend", f"has {done} epochs, {getattr(stage, 'wanted', '?')} wanted"
        return "build", "not in the store"

    def _damaged(self, stage: Stage, folder: Path) -> list[str]:
        """The files of an existing product that differ from what was written, of those that ``stage`` loads."""
        manifest = read_manifest(folder)
        if manifest is None:
            return [NAME] if (folder / NAME).exists() else []
        files = stage.files_to_load(manifest)
        if files is None:
            return []
        damaged = [one["name"] for one in files if not is_intact(folder, one, checksum=stage.id not in self._checked)]
        if not damaged:
            self._checked.add(stage.id)
        return damaged

    def _repair(self, stage: Stage, folder: Path) -> bool:
        """Remove a damaged product; whether there was one."""
        if not self._damaged(stage, folder):
            return False
        with locked(folder, wait=True):
            self._remove_damaged(stage, folder)
        return True

    def _remove_damaged(self, stage: Stage, folder: Path) -> None:
        """Remove what is damaged, with a warning. The caller holds the product's lock."""
        if damaged := self._damaged(stage, folder):
            remove_damaged(folder, damaged)
            self._complete.discard(folder)
            self._checked.discard(stage.id)
            log.warning("%s: %s is damaged; it is built again", stage.id, damaged[0])

    def _build(self, stage: Stage, folder: Path) -> None:
        name = f"{type(stage).__name__} {stage.key}"
        progress = self._so_far(stage)
        before = so_far.set(progress)
        log.log(stage.log_level, "%s: building%s", name, progress and f" ({progress})")
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
            so_far.reset(before)
        log.log(stage.log_level, "%s: done in %.1f s", name, time.perf_counter() - started)

    def _build_in_place(self, stage: Stage, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # A synced epoch needs a synced folder.
            sync_folder(folder.parent)
            sync_folder(self.root)
        try:
            stage.build(folder, self)  # writes its own manifest, epoch by epoch
        except BaseException:
            with suppress(OSError):
                folder.rmdir()  # only if it is empty: a refused training leaves nothing
            raise

    def _build_atomically(self, stage: Stage, folder: Path) -> None:
        started = time.perf_counter()
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        notes = stage.build(part, self)
        # After a loss of power, a renamed folder must hold all of its files.
        sync_tree(part)
        self.write_manifest(stage, part, time.perf_counter() - started, {"notes": notes or {}})
        shutil.rmtree(folder, ignore_errors=True)  # left by a failed disk
        part.rename(folder)

    def write_manifest(
        self, stage: Stage, folder: Path, seconds: float, extra: Mapping[str, Any], without: Collection[str] = ()
    ) -> None:
        """Write ``manifest.json``: identity, build time, and size and checksum of every file.

        Args:
            stage: of the product. folder: with its files. seconds: of the build. extra: further entries.
            without: names of files to leave out.
        """
        old = read_manifest(folder) if stage.in_place else None
        known = {entry["name"]: entry for entry in (old or {}).get("files", [])}
        files = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".tmp"):
            name = path.relative_to(folder).as_posix()
            if name == NAME or name in without:
                continue
            # A training does not change the files of a saved epoch. Their old entries are kept, so that a new checksum
            # cannot hide damage. Only its CSV grows.
            files.append(known[name] if name in known and path.suffix != ".csv" else entry_of(folder, path))
        manifest = {
            "stage": type(stage).__name__,
            "key": stage.key,
            "params": stage.params(),
            "upstream": {name: up.id for name, up in stage.upstream().items()},
            "weakseg": __version__,
            # May change the last digits of a product; not part of its key.
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


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has just renamed or removed its folder
        return 0.0
