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
from seg.files import file_sha256, read_json

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
    """What builds that broke off have left: folders ``<key>.part``, and locks of products that are not there."""
    out = []
    for path in sorted(root.glob("*/*")):
        alone = not (path.with_suffix("").exists() or path.with_suffix(".part").exists())
        left = path.is_dir() if path.suffix == ".part" else path.suffix == ".lock" and alone
        if left and _KEY.fullmatch(path.stem):
            out.append(path)
    return out + half_written(root)


def half_written(root: Path) -> list[Path]:
    """The files ``.tmp`` that killed processes have left: those of trainings in their products, and the store's own."""
    own = [path for path in root.glob("*.tmp") if path.stat().st_mtime < time.time() - _SURELY_LEFT]
    return sorted(own) + sorted(path for path in root.glob("*/*/*.tmp") if _KEY.fullmatch(path.parent.name))


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
    """What is wrong with a product: every file is read again and compared with the manifest's size and checksum.

    Files that a training rewrites at every epoch (its history and the optimizer's state) have no checksum.
    """
    manifest = product.manifest
    if manifest is None:
        damaged = (product.folder / "manifest.json").exists()
        return [f"{product.name}: manifest.json is {'damaged' if damaged else 'missing'}"]
    out = []
    if (manifest.get("stage"), manifest.get("key")) != (product.stage, product.key):
        out.append(f"{product.name}: its manifest is of {manifest.get('stage')}/{manifest.get('key')}")
    done = manifest.get("epochs_done")
    for entry in manifest.get("files", []):
        path = product.folder / entry["name"]
        try:
            if (size := path.stat().st_size) != entry["size"]:
                out.append(f"{product.name}: {entry['name']} has {size} bytes, not {entry['size']}")
            elif file_sha256(path) != entry["sha256"]:
                out.append(f"{product.name}: {entry['name']} has another checksum")
        except FileNotFoundError:
            # With keep=last the weights of an epoch go when the next ones are written down.
            epoch = re.fullmatch(r"epoch_(\d+)\.safetensors", entry["name"])
            if not (epoch and done and int(epoch[1]) < done and "epoch" in manifest.get("params", {})):
                out.append(f"{product.name}: {entry['name']} is missing")
        except OSError as error:
            out.append(f"{product.name}: {entry['name']} cannot be read ({error.strerror})")
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
    manifest = None
    path = folder / "manifest.json"
    with suppress(OSError, ValueError):
        manifest = read_json(path)
    times, total = [], 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a training that goes on replaces its files
            stat = file.stat()
            if file.is_file():
                total += stat.st_size
                times += [stat.st_mtime] if file != path else []
    used = path.stat().st_mtime if path.is_file() else folder.stat().st_mtime
    made = max(times, default=used)
    manifest = manifest if isinstance(manifest, dict) else None
    return Product(folder.parent.name, folder.name, folder, manifest, total, made, max(made, used))
