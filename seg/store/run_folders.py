"""What runs leave for ``python -m seg.store gc``: a list of their folders in the store, and a mark of the refused."""

import itertools
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from seg.errors import SegError
from seg.files import read_json, seal, unseal, write_json

#: In the store: a line per folder of a run, or of a whole sweep.
LIST = "runs.txt"

#: In the folder of a sweep's job that has ended: its row, and once more what it needs.
RECORD = "job.json"

#: In the folder of every run: what it needs.
RUN = "run.json"

#: In the folder of a run that was refused before it made anything: why.
REFUSED = "refused.txt"

#: Bytes of the files that every run leaves: its config, its log, its figures.
_ROOM = 2**17


def new_folder(path: Path) -> Path:
    """Make a folder of a run's own: ``path``, or if that is there ``path_2`` and so on; no two runs get the same.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    names = (path if number == 1 else path.with_name(f"{path.name}_{number}") for number in itertools.count(1))
    for own in names:
        with suppress(FileExistsError):
            own.mkdir()
            return own
    raise AssertionError("numbers do not end")


def refuse_full(folder: Path) -> None:
    """Make a folder, and try whether the small files of a run have room in it.

    Raises:
        OSError: they have not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".room.{secrets.token_hex(4)}.tmp"
    try:
        probe.write_bytes(bytes(_ROOM))
    finally:
        probe.unlink(missing_ok=True)


def remember_run(root: Path, folder: Path) -> None:
    """Add a folder to the list of the store at ``root``, once; a store that can only be read keeps none."""
    line = str(folder.resolve())
    with suppress(OSError):
        if line in _lines(root):
            return
        root.mkdir(parents=True, exist_ok=True)
        with (root / LIST).open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{line}\n")  # one short write at the end: no lock is needed for it


def remembered_runs(root: Path) -> tuple[list[Path], list[Path]]:
    """The folders on the list: those that are there, and those that are not any more."""
    folders = [Path(line) for line in dict.fromkeys(_lines(root))]
    return [x for x in folders if x.is_dir()], [x for x in folders if not x.is_dir()]


def remember_products(folder: Path, names: Sequence[str]) -> None:
    """Write down what a run is about to build or to use, before it does; ``gc`` reads it.

    Args:
        folder: the run's. names: of all stored products, as ``Stage/key``.
    """
    write_json(folder / RUN, seal({"products": list(names)}), synced=True)


def remembered_products(folder: Path) -> list[str]:
    """What was written down so; nothing where that is missing or damaged."""
    with suppress(OSError, ValueError):
        return list((unseal(read_json(folder / RUN)) or {}).get("products", []))
    return []


def outermost(folders: Iterable[Path]) -> list[Path]:
    """The folders that lie in no other of them, each once."""
    places = {folder.resolve(): folder for folder in reversed(list(folders))}
    return [folder for place, folder in reversed(places.items()) if not places.keys() & set(place.parents)]


@contextmanager
def refusing(folder: Path | None) -> Iterator[None]:
    """Mark a run's folder (where Hydra has made one) if the run is refused in the block; else take a mark away."""
    mark = folder / REFUSED if folder is not None and (folder / ".hydra").is_dir() else None
    try:
        yield
    except SegError as error:
        with suppress(OSError):
            if mark is not None:
                mark.write_text(f"{error}\n", encoding="utf-8")
        raise
    if mark is not None:
        mark.unlink(missing_ok=True)


def _lines(root: Path) -> list[str]:
    with suppress(OSError):
        return (root / LIST).read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]
    return []
