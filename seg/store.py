"""The stage store: every product once, under its key, whole or not at all."""

import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg import __version__
from seg.errors import SegError
from seg.runtime import Runtime
from seg.stage import Stage, file_sha256
from seg.trouble import out_of

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
    repeated: bool = False

    @property
    def would_run(self) -> bool:
        """Whether a run would compute this stage."""
        return self.status in ("build", "extend", "resume")


class Store:
    """Products of stages under ``root/<Stage>/<key>/``, built on demand.

    A build goes to ``<key>.part`` and is renamed when whole; a training grows in place, epoch by epoch.
    A lock per key lets several processes share a store: one builds, the others wait for it.

    Args:
        root: folder of the store; made when first written to.
        runtime: device, workers and progress for the builds.

    Attributes:
        together: whether the processes that train together all take part; the first one turns it off for what it
            does alone at the end.
        builds: how many builds this process has begun.
        on_epoch: told of a training at each of its epochs, once that is saved; by the process that writes.
    """

    def __init__(self, root: Path, runtime: Runtime | None = None) -> None:
        self.root = Path(root)
        self.runtime = runtime or Runtime()
        self._open: dict[str, OrderedDict[str, Any]] = {}
        self.together = self.runtime.processes > 1
        self._settled: set[str] = set()
        self.builds = 0
        self.on_epoch: Callable[[Any], None] | None = None

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
        if stage.product not in products:
            products[stage.product] = stage.load(self.folder(stage), self)
            if stage.stored:
                mark_used(self.folder(stage))
            while len(products) > _OPEN_PRODUCTS:
                products.popitem(last=False)
        products.move_to_end(stage.product)
        return products[stage.product]

    def ensure(self, stage: Stage) -> None:
        """Build ``stage`` and what it needs, as far as they are not there.

        Where several processes train together, all of them have to ask for the same stages in the same order.
        """
        if not stage.stored:
            for up in stage.upstream().values():
                self.ensure(up)
            return
        folder = self.folder(stage)
        if self.together:
            self._ensure_together(stage, folder)
            return
        if stage.is_complete(folder):
            return
        for up in stage.upstream().values():
            self.ensure(up)
        with self._lock(folder):
            if not stage.is_complete(folder):
                self._build(stage, folder)

    def _ensure_together(self, stage: Stage, folder: Path) -> None:
        # All processes come here for the same stages in the same order. The first one decides for all: what each
        # saw on the disk could differ. A stage is asked for once: some are needed again where only one works.
        if (name := f"{type(stage).__name__}/{stage.product}") in self._settled:
            return
        team = self.runtime.team
        if not team.broadcast(stage.is_complete(folder)):
            for up in stage.upstream().values():
                self.ensure(up)
            with self._lock(folder) if self.runtime.leads else nullcontext():
                if not team.broadcast(stage.is_complete(folder)) and (self.runtime.leads or stage.in_place):
                    self._build(stage, folder)
                team.barrier()
        self._settled.add(name)

    def manifest(self, stage: Stage) -> dict[str, Any] | None:
        """The manifest of a stored product, or None if there is none."""
        return read_json(self.folder(stage) / "manifest.json")

    def plan(self, stages: Mapping[str, Stage]) -> list[Planned]:
        """What a run of ``stages`` would do, as a tree in lines, most downstream first. Writes nothing."""
        lines: list[Planned] = []
        seen: set[str] = set()

        def visit(stage: Stage, depth: int) -> None:
            name = f"{type(stage).__name__}/{stage.product}"
            if name in seen:
                lines.append(Planned(stage, depth, "above", "planned above", repeated=True))
                return
            seen.add(name)
            lines.append(Planned(stage, depth, *self._status(stage)))
            for up in stage.upstream().values():
                visit(up, depth + 1)

        for stage in stages.values():
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
        try:
            self._make(stage, folder)
        except Exception as error:
            if refusal := out_of(error, f"{type(stage).__name__} {stage.key}", self.root):
                raise refusal from error
            raise

    def _make(self, stage: Stage, folder: Path) -> None:
        log.log(stage.log_level, "%s %s: building", type(stage).__name__, stage.key)
        self.builds += 1
        started = time.perf_counter()
        if stage.in_place:
            folder.mkdir(parents=True, exist_ok=True)
            stage.build(folder, self)  # writes its own manifest, epoch by epoch
        else:
            part = folder.with_name(folder.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            notes = stage.build(part, self)
            self.write_manifest(stage, part, time.perf_counter() - started, {"notes": notes or {}})
            # A folder without a manifest is what a failed disk or a hand left behind.
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        seconds = time.perf_counter() - started
        log.log(stage.log_level, "%s %s: done in %.1f s", type(stage).__name__, stage.key, seconds)

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
            "upstream": {n: f"{type(up).__name__}/{up.product}" for n, up in stage.upstream().items()},
            "weakseg": __version__,
            "seconds": round(seconds, 3),
            "files": files,
            **extra,
        }
        write_json(folder / "manifest.json", manifest)

    @contextmanager
    def _lock(self, folder: Path) -> Iterator[None]:
        from filelock import FileLock, Timeout

        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_name(folder.name + ".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log.info("%s: another process builds it; waiting", folder.name)
                lock.acquire()
        except OSError as error:
            raise SegError(f"{self.root}: cannot write to the store ({error}); choose another store=") from error
        try:
            yield
        finally:
            lock.release()


def mark_used(folder: Path) -> None:
    """Remember that a product was loaded, as the time of its manifest, once an hour; not in a store to read only."""
    path = folder / "manifest.json"
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _USED_EVERY:
            os.utime(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None when there is no such file."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    with atomic_path(path) as tmp:
        tmp.write_text(json.dumps(value, indent=1) + "\n")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, moved over it when the block ends without an error."""
    token = hashlib.sha256(f"{path}{os.getpid()}".encode()).hexdigest()[:8]
    tmp = path.with_name(f"{path.name}.{token}.tmp")
    try:
        yield tmp
        # Some writers (safetensors) make files for their owner alone; a store and its models are for others too.
        umask = os.umask(0)
        os.umask(umask)
        with suppress(OSError):  # a link to somebody else's file
            tmp.chmod(0o666 & ~umask)
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)


if __name__ == "__main__":
    from seg.store_cli import main

    sys.exit(main())
