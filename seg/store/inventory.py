"""What a store holds, read from its folders alone, and which of it no run refers to."""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg.errors import SegError
from seg.store.manifest import NAME, read_manifest
from seg.store.run_folders import remembered_runs

log = logging.getLogger(__name__)

_FOLDER = re.compile(r"[0-9a-f]{16}(\.part)?")


@dataclass(frozen=True)
class Product:
    """One product's folder, ``<store>/<stage>/<key>``, or ``<key>.part`` of a build that was killed.

    Attributes:
        folder: where it is. manifest: what was written about it; None if that is missing or damaged.
        bytes: of all its files. made: seconds since 1970.
    """

    folder: Path
    manifest: dict[str, Any] | None
    bytes: int
    made: float

    @property
    def name(self) -> str:
        """``Stage/key``."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def seconds(self) -> float:
        """How long it took to make; 0 without a manifest."""
        return float((self.manifest or {}).get("seconds", 0))


def products(root: Path) -> list[Product]:
    """The products of a store, by stage and key, the broken ones included.

    Raises:
        SegError: if there is no such folder.
    """
    if not root.is_dir():
        raise SegError(f"{root}: there is no store; name another with store=DIR")
    out = []
    for folder in sorted(root.glob("*/*")):
        if folder.is_dir() and _FOLDER.fullmatch(folder.name):
            path = folder / NAME
            made = (path if path.is_file() else folder).stat().st_mtime
            out.append(Product(folder, read_manifest(folder), size_of(folder), made))
    return out


def unreferenced(root: Path) -> list[Product]:
    """The products that no run refers to whose folder is still there, and what killed builds left.

    Raises:
        SegError: if there is no store, or the record of a run is damaged.
    """
    runs = (names for _, folder, names in remembered_runs(root) if folder.is_dir())
    # All epochs of a training share one folder.
    referred = {name.partition("@")[0] for names in runs for name in names}
    return [product for product in products(root) if product.name not in referred]


def remove(product: Product) -> bool:
    """Remove a product; False if another process holds its lock."""
    folder = product.folder.with_suffix("")
    with locked(folder) as free:
        if free:
            (product.folder / NAME).unlink(missing_ok=True)  # first: what is half removed must not look like a product
            shutil.rmtree(product.folder, ignore_errors=True)
            if not folder.exists():  # while it is held, so that none is taken from under a build
                folder.with_suffix(".lock").unlink(missing_ok=True)
    return free


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a product, as a process that builds it does.

    Yields:
        Whether it is held: False where another process holds it, unless it was waited for.

    Raises:
        SegError: where no lock can be made, as on a read-only disk.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_suffix(".lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            lock.acquire(timeout=0)
        if wait and not lock.is_locked:
            log.info("%s: another process builds it; waiting", folder.name)
            lock.acquire()
    except OSError as error:
        root = folder.parent.parent
        raise SegError(f"{root}: cannot write to the store ({error}); choose another store=") from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a training that goes on replaces its files
            total += path.stat().st_size if path.is_file() else 0
    return total
