"""What a store holds, read from its folders alone: products, what is left of broken builds, what is damaged."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg.errors import SegError
from seg.store.manifest import ASIDE, HISTORY, NAME, epoch_of, misfit, put_aside, read_manifest, write_history

log = logging.getLogger(__name__)

#: Seconds after which a small file of the store, for which there is no lock, is nobody's any more.
_SURELY_LEFT = 3600

_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Product:
    """One product's folder, ``<store>/<stage>/<key>``.

    Attributes:
        stage, key: as the folders are named. folder: where it is.
        manifest: what was written about it; None if that is missing or damaged.
        bytes: of all its files. made, used: seconds since the epoch, the newest file beside the manifest, and
            when a process last loaded it, exact to an hour.
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
        """What it took to make, None where nobody wrote that down."""
        return (self.manifest or {}).get("seconds")

    @property
    def upstream(self) -> set[str]:
        """The names of the products that it was made from, those that are never stored included."""
        return {plain(name) for name in (self.manifest or {}).get("upstream", {}).values()}


def plain(name: str) -> str:
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


def leftovers(root: Path) -> list[Path]:
    """What no product is: folders ``<key>.part`` of builds that broke off, ``<key>.damaged``, locks of nothing."""
    out = []
    for path in sorted(root.glob("*/*")):
        alone = not any(path.with_suffix(suffix).exists() for suffix in ("", ".part", ASIDE))
        left = path.is_dir() if path.suffix in (".part", ASIDE) else path.suffix == ".lock" and alone
        if left and _KEY.fullmatch(path.stem):
            out.append(path)
    return out + half_written(root)


def half_written(root: Path) -> list[Path]:
    """The files ``.tmp`` that killed processes have left: those of trainings in their products, and the store's own."""
    own = [path for path in root.glob("*.tmp") if is_old(path)]
    return sorted(own) + sorted(path for path in root.glob("*/*/*.tmp") if _KEY.fullmatch(path.parent.name))


def is_old(path: Path) -> bool:
    """Whether a half written file, for which there is no lock, is nobody's any more."""
    with suppress(OSError):
        return path.stat().st_mtime < time.time() - _SURELY_LEFT
    return False


def find(root: Path, text: str) -> Product:
    """The product whose key, or ``Stage/key``, begins like ``text``.

    Raises:
        SegError: if there is none, or more than one.
    """
    stage, _, key = text.rpartition("/")
    found = [x for x in products(root) if x.key.startswith(plain(key)) and stage in ("", x.stage)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise SegError(f"{text}: no product in {root} has such a key; 'ls' lists them")
    raise SegError(f"{text}: may be any of {', '.join(x.name for x in found[:5])}; give more of the key")


def problems(product: Product) -> list[str]:
    """What is wrong with a product: every file is read again and compared with the manifest's size and checksum."""
    return [f"{product.name}: {name} {said}" for name, said in _damage(product).items()]


def mend(product: Product) -> str | None:
    """Put what is damaged of a product aside, so that the next run that needs it builds it anew. Under its lock.

    Returns:
        What was done, in a line; None where there was nothing to do.
    """
    # As it is now: another process may have mended it.
    product = _read(product.folder)
    if not product.folder.is_dir() or not (damage := _damage(product)):
        return None
    manifest = None if NAME in damage else product.manifest
    aside = put_aside(product.folder, damage, manifest)
    if HISTORY in damage and manifest is not None and "history" in manifest:
        write_history(product.folder / HISTORY, manifest["history"])
    if not product.folder.is_dir():
        return f"{product.name}: put aside as {aside.name}; the next run that needs it builds it anew"
    return (
        f"{product.name}: {', '.join(damage)} put aside in {aside.name}; a run that needs more than is left trains it"
    )


def _damage(product: Product) -> dict[str, str]:
    """What is wrong, by the names of files."""
    manifest = product.manifest
    if manifest is None:
        return {NAME: f"is {'damaged' if (product.folder / NAME).exists() else 'missing'}"}
    if (manifest.get("stage"), manifest.get("key")) != (product.stage, product.key):
        return {NAME: f"is of {manifest.get('stage')}/{manifest.get('key')}"}
    out = {}
    for entry in manifest.get("files", []):
        name = entry["name"]
        try:
            said = misfit(product.folder, entry, thorough=True)
        except SegError as error:
            said = str(error)
        # Older versions told of the weights of the epoch before, which keep=last had removed.
        dropped = said == "is missing" and "epoch" in manifest.get("params", {})
        if said and not (dropped and 0 < epoch_of(name) < manifest.get("epochs_done", 0)):
            out[name] = said
    return out


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a product (or of its ``.part``), as a process that builds it does.

    Yields:
        Whether it is held: False where another process holds it, unless it was waited for.

    Raises:
        SegError: where no lock can be made, as on a disk to read only.
    """
    from filelock import FileLock, Timeout

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock_of(folder))
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


def is_busy(folder: Path) -> bool:
    """Whether another process holds the lock of a product (or of its ``.part``, or of a file in it). Makes no lock."""
    if folder.suffix == ".tmp":
        folder = folder.parent
    if not _lock_of(folder).exists():
        return False
    try:
        with locked(folder) as free:
            return not free
    except SegError:
        return False


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``, or of a file."""
    if folder.is_file():
        return folder.stat().st_size
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _read(folder: Path) -> Product:
    path = folder / NAME
    manifest = read_manifest(folder)
    times, total = [], 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a training that goes on replaces its files
            stat = file.stat()
            if file.is_file():
                total += stat.st_size
                times += [stat.st_mtime] if file != path else []
    used = path.stat().st_mtime if path.is_file() else folder.stat().st_mtime
    made = max(times, default=used)
    return Product(folder.parent.name, folder.name, folder, manifest, total, made, max(made, used))
