"""Folders of runs: created without a clash, and recorded in the store with the products they need, for ``gc``."""

import errno
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from seg.errors import SegError
from seg.files import read_json, seal, unseal, write_json

#: In the folder of a sweep's job that has ended: its row.
RECORD = "job.json"

#: In the store: a file per run.
RUNS = "runs"


def new_folder(path: Path) -> Path:
    """Create a new folder: ``path``, or ``path_2`` and so on if it exists. No two processes get the same one.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        own = path if number == 1 else path.with_name(f"{path.name}_{number}")
        with suppress(FileExistsError):
            own.mkdir()
            break
    return own


def remember_run(root: Path, folder: Path, products: Iterable[str]) -> None:
    """Record in a store which products a run needs; a read-only store keeps no records.

    Args:
        root: of the store. folder: the run's. products: the names ``Stage/key`` of all stored products.
    """
    place = str(folder.resolve())
    path = root / RUNS / f"{hashlib.sha256(place.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, seal({"folder": place, "products": sorted(products)}), synced=True)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def remembered_runs(root: Path) -> Iterator[tuple[Path, Path, set[str]]]:
    """The records of a store: file, run folder, and names of the products that the run needs.

    Raises:
        SegError: if one is damaged.
    """
    for path in sorted((root / RUNS).glob("*.json")):
        record = None
        with suppress(OSError, ValueError):
            record = unseal(read_json(path))
        if record is None:
            raise SegError(f"{path}: is damaged; run that run again, or remove the file, then gc forgets what it needs")
        yield path, Path(record["folder"]), set(record["products"])
