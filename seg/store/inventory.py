"""What a store holds, read from its folders alone: products, what killed builds left, what is damaged."""

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg.errors import SegError
from seg.store.manifest import HISTORY, NAME, QUARANTINE, misfit, quarantine, read_manifest, write_history

log = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Product:
    """One product's folder, ``<store>/<stage>/<key>``.

    Attributes:
        stage, key: as the folders are named. folder: where it is.
        manifest: what was written about it; None if that is missing or damaged.
        bytes: of all its files. made, used: seconds since the epoch, of the newest file beside the manifest, and of the
            last time a process loaded it, exact to an hour.
    """

    stage: str
    key: str
    folder: Path
    manifest: dict[str, Any] | None
    bytes: int
    made: float
    used: float

    @property
    def name(self) -> str:
        """``Stage/key``."""
        return f"{self.stage}/{self.key}"

    @property
    def seconds(self) -> float | None:
        """How long it took to make; None without a manifest."""
        return (self.manifest or {}).get("seconds")

    @property
    def upstream(self) -> set[str]:
        """The names of the products that it was made from, those that are never stored included."""
        return {without_epoch(name) for name in (self.manifest or {}).get("upstream", {}).values()}


def without_epoch(name: str) -> str:
    """``Classifier/0123@7`` to ``Classifier/0123``: all epochs of a training share one folder."""
    return name.partition("@")[0]


def products(root: Path) -> list[Product]:
    """The products of a store, by stage and key, the broken ones included.

    Raises:
        SegError: if there is no such folder.
    """
    if not root.is_dir():
        raise SegError(f"{root}: there is no store; name another with --store DIR")
    return [_read(folder) for folder in sorted(root.glob("*/*")) if folder.is_dir() and _KEY.fullmatch(folder.name)]


def find(root: Path, text: str) -> Product:
    """The product whose key, or ``Stage/key``, begins like ``text``.

    Raises:
        SegError: if there is none, or more than one.
    """
    stage, _, key = text.rpartition("/")
    found = [x for x in products(root) if x.key.startswith(without_epoch(key)) and stage in ("", x.stage)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise SegError(f"{text}: no product in {root} has such a key; 'ls' lists them")
    raise SegError(f"{text}: may be any of {', '.join(x.name for x in found[:5])}; give more of the key")


def stale(root: Path) -> list[Path]:
    """What belongs to no product: ``<key>.part`` of killed builds, ``<key>.damaged``, ``.tmp`` files, unused locks."""
    out = []
    for path in sorted(root.glob("*/*")):
        alone = not any(path.with_suffix(suffix).exists() for suffix in ("", ".part", QUARANTINE))
        left = path.is_dir() if path.suffix in (".part", QUARANTINE) else path.suffix == ".lock" and alone
        if left and _KEY.fullmatch(path.stem):
            out.append(path)
    return out + half_written(root)


def half_written(root: Path) -> list[Path]:
    """The files ``.tmp`` that killed trainings have left in their products."""
    return sorted(path for path in root.glob("*/*/*.tmp") if _KEY.fullmatch(path.parent.name))


def problems(product: Product) -> dict[str, str]:
    """What is wrong with a product, by file: every file is read again and compared with the manifest.

    Raises:
        SegError: if a file may not be read.
    """
    manifest = product.manifest
    if manifest is None:
        return {NAME: "is damaged" if (product.folder / NAME).exists() else "is missing"}
    if (manifest["stage"], manifest["key"]) != (product.stage, product.key):
        return {NAME: f"is of {manifest['stage']}/{manifest['key']}"}
    found = {entry["name"]: misfit(product.folder, entry, read=True) for entry in manifest["files"]}
    return {name: wrong for name, wrong in found.items() if wrong}


def repair(product: Product) -> str | None:
    """Quarantine what is damaged of a product, so that the next run that needs it builds it anew. Under its lock.

    Returns:
        What was done, in a line; None where there was nothing to do.
    """
    product = _read(product.folder)  # as it is now: another process may have repaired it
    if not product.folder.is_dir() or not (damage := problems(product)):
        return None
    manifest = None if NAME in damage else product.manifest
    aside = quarantine(product.folder, damage, manifest)
    if manifest is not None and HISTORY in damage and product.folder.is_dir():
        write_history(product.folder / HISTORY, manifest["history"])
    return f"{product.name}: {', '.join(damage)} moved to {aside.name}; the next run that needs it builds it anew"


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a product (or of its ``.part``), as a process that builds it does.

    Yields:
        Whether it is held: False where another process holds it, unless it was waited for.

    Raises:
        SegError: where no lock can be made, as on a read-only disk.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_of(folder))
    full = False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            lock.acquire(timeout=0)
        if wait and not lock.is_locked:
            log.info("%s: another process builds it; waiting", folder.name)
            lock.acquire()
    except OSError as error:
        full = error.errno == errno.ENOSPC and not wait  # no other process can make a lock either: gc may go on
        if not full:
            root = folder.parent.parent
            raise SegError(f"{root}: cannot write to the store ({error}); choose another store=") from error
    try:
        yield lock.is_locked or full
    finally:
        lock.release()


def is_busy(folder: Path) -> bool:
    """Whether another process holds the lock of a product (or of its ``.part``, or of a file in it). Makes no lock."""
    if folder.suffix == ".tmp":
        folder = folder.parent
    if not _lock_of(folder).exists():
        return False
    with suppress(SegError), locked(folder) as free:
        return not free
    return False


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``, or of a file."""
    paths = [folder] if folder.is_file() else folder.rglob("*")
    return sum(path.stat().st_size for path in paths if path.is_file())


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _read(folder: Path) -> Product:
    path = folder / NAME
    times, total = [], 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a training that goes on replaces its files
            stat = file.stat()
            if file.is_file():
                total += stat.st_size
                times += [stat.st_mtime] if file != path else []
    used = path.stat().st_mtime if path.is_file() else folder.stat().st_mtime
    made = max(times, default=used)
    return Product(folder.parent.name, folder.name, folder, read_manifest(folder), total, made, max(made, used))
