"""What is written about a product, and whether its files still are what was written."""

import csv
import errno
import io
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from seg.errors import SegError
from seg.files import SEAL, atomic_path, checksums, file_crc32, read_json, seal, sync_folder, unseal, write_json

NAME = "manifest.json"

#: In a training's folder, the epochs for people to read.
HISTORY = "history.csv"

#: Beside a product's folder: what was put aside of it, for it was damaged.
ASIDE = ".damaged"

#: A file of one epoch of a training.
_EPOCH = re.compile(r"(?:epoch|state)_(\d+)\.(?:safetensors|pt)")

#: What reading a file that is damaged, or gone, may say.
_GONE = {errno.ENOENT: "missing", errno.ENOTDIR: "missing", errno.EISDIR: "a folder", errno.EIO: "unreadable"}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a product; None if there is none, or it is damaged, which is the same."""
    try:
        written = read_json(folder / NAME)
        manifest = unseal(written)
        files = manifest.get("files", []) if manifest is not None else None
        if files is None or not all(map(_is_entry, files)):
            return None
    except (OSError, TypeError, ValueError, RecursionError):
        return None
    # Whoever wrote a CRC-32 of each file wrote one of the manifest: its name is what is damaged.
    return None if SEAL not in written and any("crc32" in entry for entry in files) else manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, with a checksum of itself; it and all names in the folder survive a loss of power."""
    write_json(folder / NAME, seal(manifest), synced=True)
    sync_folder(folder)


def entry_of(folder: Path, path: Path) -> dict[str, Any]:
    """What a manifest says of a file: its name below ``folder``, size and checksums."""
    return {"name": path.relative_to(folder).as_posix(), "size": path.stat().st_size, **checksums(path)}


def epoch_of(name: str) -> int:
    """The epoch that a training's file is of; 0 for any other."""
    found = _EPOCH.fullmatch(name)
    return int(found[1]) if found else 0


def misfit(folder: Path, entry: Mapping[str, Any], read: bool = False, thorough: bool = False) -> str | None:
    """What is wrong with a file of a product, None if nothing is.

    Args:
        folder: the product's. entry: what the manifest says of the file.
        read: compare its checksum too, not only its size. thorough: the SHA-256, where CRC-32 would do.

    Raises:
        SegError: if the file may not be read.
    """
    path = folder / entry["name"]
    try:
        if (size := path.stat().st_size) != entry["size"]:
            return f"has {size} bytes, not {entry['size']}"
        if read or thorough:
            kind = "sha256" if thorough or "crc32" not in entry else "crc32"  # older versions knew only one
            found = file_crc32(path) if kind == "crc32" else checksums(path)["sha256"]
            if found != entry[kind]:
                return "has another checksum"
    except OSError as error:
        if error.errno not in _GONE:
            raise SegError(f"{path}: cannot be read ({error.strerror})") from error
        return f"is {_GONE[error.errno]}"
    return None


def put_aside(folder: Path, names: Iterable[str], manifest: Mapping[str, Any] | None) -> Path:
    """Take what is damaged out of a store, so that it is built anew. Under the product's lock.

    Of a training it is the files of an epoch; its manifest then no longer tells of them. Of any other product it is
    the whole.

    Args:
        folder: the product's. names: of the damaged files. manifest: as it was read; None if it is damaged itself.

    Returns:
        Where it lies now, until the next of the same product; ``gc`` removes it.
    """
    aside = folder.with_suffix(ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    if manifest is None or "epochs_done" not in manifest:
        with suppress(FileNotFoundError):
            os.replace(folder, aside)
        return aside
    # First what tells of them: a kill in between leaves files that nothing tells of.
    forget(folder, manifest, names)
    aside.mkdir()
    for name in names:
        with suppress(FileNotFoundError):
            os.replace(folder / name, aside / name)
    return aside


def forget(folder: Path, manifest: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Write a training's manifest without some of its files, as of the newest epoch whose weights are left."""
    gone = set(names)
    files = [entry for entry in manifest.get("files", []) if entry["name"] not in gone]
    done = max((epoch_of(entry["name"]) for entry in files if entry["name"].startswith("epoch_")), default=0)
    changed = {**manifest, "files": files, "epochs_done": done}
    if "history" in manifest:
        changed["history"] = [row for row in manifest["history"] if row["epoch"] <= done]
    write_manifest(folder, changed)
    return changed


def write_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a training's epochs as a CSV for people to read; what is read back is the manifest's ``history``."""
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_path(path) as tmp:
        tmp.write_text(sheet.getvalue(), encoding="utf-8")


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and {"name", "size", "sha256"} <= entry.keys()
