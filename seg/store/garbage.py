"""Which products of a store no run refers to, and their removal."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from seg.store.inventory import Product, is_busy, locked, products, size_of, stale, without_epoch
from seg.store.manifest import QUARANTINE
from seg.store.run_folders import remembered_runs

#: Seconds after which a file ``.tmp`` of a run, for which there is no lock, is surely left by a killed process.
_SURELY_STALE = 3600


@dataclass(frozen=True)
class Garbage:
    """What can be removed.

    Attributes:
        products: that no run refers to. stale: left by killed builds and runs.
        records: of runs whose folders are gone. gone: these folders.
        runs: how many runs there are.
        busy: products that no run refers to, but another process builds now.
    """

    products: list[Product]
    stale: list[Path]
    records: list[Path]
    gone: list[Path]
    runs: int
    busy: list[str]


def find_garbage(root: Path) -> Garbage:
    """Compare a store with the records of its runs; a run counts as long as its folder is there.

    Raises:
        SegError: if there is no store, or a record is damaged.
    """
    known = {product.name: product for product in products(root)}
    runs = list(remembered_runs(root))
    folders = [folder for _, folder, _ in runs if folder.is_dir()]
    waiting = [without_epoch(name) for _, folder, names in runs if folder.is_dir() for name in names]
    referred: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in referred:
            referred.add(name)
            waiting += known[name].upstream if name in known else ()
    loose = [product for name, product in known.items() if name not in referred]
    rest = stale(root) + _half_written([root / "runs", *folders])
    busy = {path for path in [*(x.folder for x in loose), *rest] if is_busy(path)}
    return Garbage(
        [product for product in loose if product.folder not in busy],
        [path for path in rest if path not in busy],
        [path for path, folder, _ in runs if not folder.is_dir()],
        [folder for _, folder, _ in runs if not folder.is_dir()],
        len(folders),
        sorted(f"{path.parent.name}/{path.name}" for path in busy),
    )


def _half_written(folders: list[Path]) -> list[Path]:
    """The files ``NAME.0123abcd.tmp`` that killed processes left in runs' folders and in a sweep's."""
    places = {place for run in folders for place in (run, run / "models", run.parent)}
    found = (path for place in places for path in place.glob(f"*.{'[0-9a-f]' * 8}.tmp"))
    return sorted(path for path in found if path.stat().st_mtime < time.time() - _SURELY_STALE)


def remove(garbage: Garbage) -> tuple[int, list[str]]:
    """Remove what no other process holds.

    Returns:
        The bytes that were freed, and the names ``Stage/key`` that stayed, since another process holds their locks.
    """
    freed, kept = 0, []
    for path in [*garbage.stale, *(product.folder for product in garbage.products)]:
        if path.suffix == ".tmp":
            if path.is_file() and not is_busy(path):
                freed += path.stat().st_size
                path.unlink()
            continue
        folder, part, aside, lock = (path.with_suffix(suffix) for suffix in ("", ".part", QUARANTINE, ".lock"))
        with locked(folder) as free:
            if not free:
                kept.append(f"{path.parent.name}/{path.name}")
                continue
            if path == folder:
                # Under the name of a broken build first: what is half removed must not look like a product.
                shutil.rmtree(part, ignore_errors=True)
                folder.rename(part)
            for left in (part, aside):
                if left.is_dir() and (left == path or path == folder):
                    freed += size_of(left)
                    shutil.rmtree(left)
            # While it is held, so that none is taken from under a build.
            if not any(x.exists() for x in (folder, part, aside)):
                lock.unlink(missing_ok=True)
    for path in garbage.records:
        path.unlink(missing_ok=True)
    return freed, kept
