"""Atomic files, checksums, arrays written row by row, and messages for full disks and memory."""

import errno
import hashlib
import json
import os
import secrets
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from seg.errors import SegError, first_line

if TYPE_CHECKING:
    import numpy as np

# NumPy is imported where rows are written, so that --help does not wait for it.


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if there is no such file.

    Raises:
        ValueError: it is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_json(path: Path, value: Any, synced: bool = False) -> None:
    """Write JSON atomically; see :func:`atomic_path`."""
    with atomic_path(path, synced) as tmp:
        tmp.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


#: The key of a sealed value's own checksum.
SEAL = "crc32"


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values with their own checksum: a flipped bit often leaves valid JSON."""
    plain = {key: one for key, one in value.items() if key != SEAL}
    return {**plain, SEAL: _crc32_of(plain)}


def unseal(value: Any) -> dict[str, Any] | None:
    """The values without their checksum; None if it is missing or wrong."""
    if not isinstance(value, dict) or SEAL not in value:
        return None
    plain = {key: one for key, one in value.items() if key != SEAL}
    return plain if value[SEAL] == _crc32_of(plain) else None


def _crc32_of(value: Mapping[str, Any]) -> str:
    # Through JSON once, which changes tuples and numeric keys.
    text = json.dumps(json.loads(json.dumps(value)), sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text atomically."""
    with atomic_path(path) as tmp:
        tmp.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@contextmanager
def atomic_path(path: Path, synced: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path``, which replaces it when the block ends without an error.

    Its name is random, because containers that share a folder may have equal process ids.

    Args:
        path: of the file. synced: sync the content to disk before renaming (some milliseconds), so that a loss of
            power leaves the old or the new file.
    """
    tmp = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # Created here for this process's usual file mode: some writers (safetensors) create files for the owner alone.
        with tmp.open("xb") as file:
            mode = os.fstat(file.fileno()).st_mode
        yield tmp
        with suppress(OSError):
            tmp.chmod(mode & 0o777)
        if synced:
            _sync(tmp)
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)


def sync(paths: Iterable[Path]) -> None:
    """Sync files to disk, in parallel: a disk takes the same time for one as for many."""
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(_sync, paths))


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk, if the file system can."""
    with suppress(OSError):
        _sync(folder)


def sync_tree(folder: Path) -> None:
    """Sync everything below a folder to disk."""
    paths = list(folder.rglob("*"))
    sync(path for path in paths if path.is_file())
    for path in paths:
        if path.is_dir():
            sync_folder(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writable(folder: Path) -> bool:
    """Whether files can be created in ``folder``, which may be missing; tried, since os.access is wrong for /proc."""
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hex, cached in the process by path, size and time."""
    stat = path.stat()
    return _sha256(path.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, time: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_crc32(path: Path) -> str:
    """CRC-32 of a file as hex: fast enough to compare whenever a product is opened."""
    crc, buffer = 0, memoryview(bytearray(1 << 18))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            crc = zlib.crc32(buffer[:size], crc)
    return f"{crc:08x}"


class DiskError(SegError):
    """A disk is full or fails, so trying again is useless."""


_OF_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def io_error(error: BaseException, what: str, place: object, key: str = "store") -> SegError | None:
    """A one-line message if an error was caused by a full or failing disk or by a lack of memory, else None.

    Args:
        error: the exception. what: the work that failed. place: where its results go. key: that chooses another place.
    """
    if isinstance(error, SegError):
        return None
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch.OutOfMemoryError
        return SegError(
            f"{what}: out of memory ({first_line(error)[:160]}); lower runtime.batch_size (inference), "
            "the training's batch_size, or data.size; what was built before is kept"
        )
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _OF_A_DISK:
            if isinstance(cause.filename, str) and not cause.filename.startswith(f"{place}/"):
                place = cause.filename  # such as the run's log during a build
            return DiskError(
                f"{what}: {place}: {os.strerror(cause.errno)}; make room (python -m seg.store gc removes what no run "
                f"refers to), check the disk and its limits, or choose another {key}=; what was built before is kept"
            )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


class RowsFile:
    """An ``.npy`` file that is written row by row; the number of rows is known at the end.

    With a memory-mapped array, a full disk would kill the process by a signal.

    Attributes:
        shape: of a row; set by the first one.
    """

    def __init__(self, file: BinaryIO, dtype: "type[np.generic]") -> None:
        self.shape: tuple[int, ...] = ()
        self.count = 0
        self._file, self._dtype = file, dtype

    def write(self, rows: "np.ndarray") -> None:
        """Add rows ``(b, ...)``, converted to the file's dtype."""
        import numpy as np

        if not self.count:
            self.shape = rows.shape[1:]
            self.write_header()
        if rows.shape[1:] != self.shape:
            raise ValueError(f"rows of {rows.shape[1:]} among rows of {self.shape}")
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.count += len(rows)

    def write_header(self) -> None:
        """Write or rewrite count and shape; NumPy's header has room for any count."""
        import numpy as np

        self._file.seek(0)
        descr = np.lib.format.dtype_to_descr(np.dtype(self._dtype))
        header = {"descr": descr, "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


@contextmanager
def rows_file(path: Path, dtype: "type[np.generic]") -> Iterator[RowsFile]:
    """A new ``.npy`` file to write rows to."""
    with path.open("wb") as file:
        rows = RowsFile(file, dtype)
        yield rows
        rows.write_header()
