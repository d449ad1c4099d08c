"""The manifest of a product, the checks of its files against it, and its lock."""

import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seg.errors import SegError
from seg.files import atomic_path, file_crc32, read_json, seal, sync_folder, unseal, write_json

log = logging.getLogger(__name__)

NAME = "manifest.json"

#: The epochs of a training as a CSV, for people.
HISTORY = "history.csv"

_EPOCH = re.compile(r"(?:epoch|state)_(\d+)\.(?:safetensors|pt)")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a product; None if it is missing or damaged."""
    with suppress(OSError, ValueError):
        return unseal(read_json(folder / NAME))
    return None


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest with its own checksum, and sync it and the folder to disk."""
    write_json(folder / NAME, seal(manifest), synced=True)
    sync_folder(folder)


def entry_of(folder: Path, path: Path) -> dict[str, Any]:
    """The manifest's entry for a file: its name below ``folder``, size and CRC-32."""
    return {"name": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "crc32": file_crc32(path)}


def epoch_of(name: str) -> int:
    """The epoch of a training's file; 0 for any other file."""
    found = _EPOCH.fullmatch(name)
    return int(found[1]) if found else 0


def is_intact(folder: Path, entry: Mapping[str, Any], checksum: bool = False) -> bool:
    """Whether a file of a product is as it was written.

    Args:
        folder: the product's. entry: of the file in the manifest. checksum: compare it, not only the size.

    Raises:
        SegError: the file may not be read.
    """
    path = folder / entry["name"]
    try:
        return path.stat().st_size == entry["size"] and not (checksum and file_crc32(path) != entry["crc32"])
    except PermissionError as error:
        raise SegError(f"{path}: cannot be read ({error.strerror})") from error
    except OSError:
        return False


def remove_damaged(folder: Path, names: Iterable[str]) -> None:
    """Remove a product with damaged files; of a training, only these files. The caller holds the product's lock."""
    manifest = read_manifest(folder)
    if manifest is None or "epochs_done" not in manifest:
        (folder / NAME).unlink(missing_ok=True)  # first: a half-removed folder must not look complete
        shutil.rmtree(folder, ignore_errors=True)
        return
    # The manifest first: if the process is killed in between, nothing reads the files that are no longer listed.
    forget(folder, manifest, names)
    for path in (folder / name for name in names):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def forget(folder: Path, manifest: Mapping[str, Any], names: Iterable[str]) -> None:
    """Drop files from a training's manifest, which then ends at the newest epoch with weights."""
    gone = set(names)
    files = [entry for entry in manifest["files"] if entry["name"] not in gone]
    done = max((epoch_of(entry["name"]) for entry in files if entry["name"].startswith("epoch_")), default=0)
    history = [row for row in manifest.get("history", []) if row["epoch"] <= done]
    write_manifest(folder, {**manifest, "files": files, "epochs_done": done, "history": history})


def write_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a training's epochs as a CSV for people; the program reads the manifest's ``history``."""
    import pandas as pd

    with atomic_path(path) as tmp:
        pd.DataFrame(rows).to_csv(tmp, index=False)


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a product.

    Yields:
        Whether it is held: False if another process holds it and ``wait`` is False.

    Raises:
        SegError: no lock can be created, as on a read-only disk.
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
