"""Files and folders of data: names, text, and a hash of their contents."""

import codecs
import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from PIL import features

from seg.data.read_report import ReadReport
from seg.errors import SegError
from seg.files import seal, unseal, write_json

# In order of preference if several files have one stem.
IMAGE_SUFFIXES: tuple[str, ...] = (
    *(".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".jfif", ".jpe", ".jp2"),
)
if features.check("avif"):  # Pillow reads AVIF only where it was built with libavif
    IMAGE_SUFFIXES += (".avif",)

#: Longest image id in bytes: the files of its masks add endings to it.
_MOST_BYTES = 220
TOO_LONG = f"a name of more than {_MOST_BYTES} bytes, too long for the files of its masks; rename it"


class MissingDataError(SegError):
    """There is no data set at this place, or a required part is missing."""


def nfc(text: str) -> str:
    """The text in Unicode's composed form: macOS writes file names decomposed, lists are typed composed."""
    return unicodedata.normalize("NFC", text)


def any_case(pattern: str) -> str:
    """A glob pattern in small letters as one that matches capitals as well: Windows' programs write both."""
    return re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", pattern)


def too_long(name: str) -> bool:
    """Whether an image's id leaves no room for the endings of its files."""
    return len(os.fsencode(name)) > _MOST_BYTES


def is_writable(name: str) -> bool:
    """Whether a text file can hold a name: no control characters, no surrogates."""
    return not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder sorted by name; none if it is missing."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SegError(f"{folder}: cannot be read ({error.strerror or error})") from error


def best_by_stem(names: Iterable[str], suffixes: tuple[str, ...], found: ReadReport, folder: str) -> dict[str, str]:
    """File name by composed stem (:func:`nfc`); of several files with one stem the suffix that comes first counts."""
    best: dict[str, str] = {}
    rank = {suffix: place for place, suffix in enumerate(suffixes)}
    visible = [name for name in names if not name.startswith(".")]
    usable = [name for name in visible if os.path.splitext(name)[1].lower() in rank]
    for name in sorted(usable, key=lambda name: rank[os.path.splitext(name)[1].lower()]):
        best.setdefault(nfc(os.path.splitext(name)[0]), name)
    others = (f"{folder}/{name}" for name in visible if name not in usable)
    found.warn("files of other kinds (skipped)", others)
    again = (f"{folder}/{name}" for name in usable if name not in best.values())
    found.warn("files with the stem of another file (one of them is used)", again)
    return dict(sorted(best.items(), key=lambda item: item[1]))


def files_by_stem(folder: Path, suffixes: tuple[str, ...], found: ReadReport) -> dict[str, Path]:
    """Path by composed stem of the files in a folder that have one of the suffixes, sorted by name."""
    best = best_by_stem([entry.name for entry in scan(folder)], suffixes, found, folder.name)
    return {stem: folder / name for stem, name in best.items()}


def regular(path: "Path | os.DirEntry[str]") -> os.stat_result:
    """The ``stat`` of a regular file. Raises SegError: it cannot be read, or is a folder, a pipe or a device."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise SegError(f"{os.fspath(path)}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise SegError(f"{os.fspath(path)}: cannot be read (is {kind}, no file); remove it")
    return found


def read_text(path: Path, errors: str = "strict") -> str:
    """The text of a file in UTF-8, or UTF-16 with its byte order mark; ``errors`` as of :func:`open`."""
    regular(path)
    try:
        content = path.read_bytes()
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_wide else "utf-8-sig", errors)
    except OSError as error:
        raise SegError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise SegError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def content_fingerprint(
    place: str, content: Iterable[tuple[str, os.DirEntry[str] | Path]], cache: Path | None = None, *, write: bool = True
) -> str:
    """Hash of the names and contents of some files.

    Args:
        place: their folder. It is part of the cache, not of the hash.
        content: name (which enters the hash) and file.
        cache: a JSON file with the content hashes of files by name, size and time of change. If it cannot be read or
            written, all files are read.
        write: whether to update the cache.

    Returns:
        sha256 in hex over the sorted (name, size, sha256 of the content).

    Raises:
        SegError: a file cannot be read.
    """
    known: dict[str, list[str | int]] = {}
    if cache is not None:
        with suppress(OSError, ValueError, RecursionError):
            remembered = unseal(json.loads(cache.read_bytes())) or {}
            known = remembered["files"] if remembered.get("folder") == place else {}
    files: dict[str, list[str | int]] = {}
    for name, entry in content:
        at = regular(entry)
        files[name] = known.get(name, [])
        if files[name][:2] != [at.st_size, at.st_mtime_ns]:
            try:
                digest = hashlib.sha256(Path(entry).read_bytes()).hexdigest()
            except OSError as error:
                raise SegError(f"{os.fspath(entry)}: cannot be read ({error.strerror or error})") from error
            files[name] = [at.st_size, at.st_mtime_ns, digest]
    if cache is not None and write and known != files:
        with suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_json(cache, seal({"folder": place, "files": files}))
    text = "".join(f"{name}\0{size}\0{digest}\n" for name, (size, _, digest) in sorted(files.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
