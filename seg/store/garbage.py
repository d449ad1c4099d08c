"""Which products of a store no run refers to, and their removal."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seg.errors import SegError
from seg.files import read_json, unseal
from seg.store.inventory import Product, is_busy, is_old, leftovers, locked, plain, products, size_of
from seg.store.manifest import ASIDE
from seg.store.run_folders import RECORD, RUN
from seg.store.trouble import no_room

#: As :func:`seg.files.atomic_path` names them, for files ``.tmp`` of other programs are theirs.
_HALF = re.compile(r".+\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True)
class Garbage:
    """What can go.

    Attributes:
        products: that no run refers to. leftovers: of broken builds, and of writes of a run that broke off.
        runs: how many run folders were looked at.
        busy: what no run refers to either, but another process builds it now.
        unknown: run folders of which nobody can tell what they refer to, with the reason.
    """

    products: list[Product]
    leftovers: list[Path]
    runs: int
    busy: list[str]
    unknown: list[str]

    def within(self, other: "Garbage") -> "Garbage":
        """What can go by ``other`` too."""
        names = {product.name for product in other.products}
        return replace(
            self,
            products=[product for product in self.products if product.name in names],
            leftovers=[path for path in self.leftovers if path in other.leftovers],
        )


def find_garbage(root: Path, outputs: Sequence[Path]) -> Garbage:
    """Look through all run folders.

    Args:
        root: of the store. outputs: folders with the runs and sweeps that may use it.

    Raises:
        SegError: if one of them is not there.
    """
    for folder in outputs:
        if not folder.is_dir():
            raise SegError(f"{folder}: no such folder; name the one with your runs with --outputs DIR")
    everything = products(root)
    referred: set[str] = set()
    unknown = []
    runs = find_runs(outputs, root)
    for run in runs:
        try:
            referred |= references(run)
        except SegError as error:
            unknown.append(f"{run}: {error}")
    known = {product.name: product for product in everything}
    waiting = list(referred)
    while waiting:
        if product := known.get(waiting.pop()):
            waiting += product.upstream - referred
            referred |= product.upstream
    loose = [product for product in everything if product.name not in referred]
    rest = leftovers(root) + half_written_in(runs)
    busy = {path for path in [*(x.folder for x in loose), *rest] if is_busy(path)}
    return Garbage(
        [product for product in loose if product.folder not in busy],
        [path for path in rest if path not in busy],
        len(runs),
        sorted(f"{path.parent.name}/{path.name}" for path in busy),
        unknown,
    )


def find_runs(outputs: Iterable[Path], root: Path) -> list[Path]:
    """The folders of runs, and of a sweep's jobs, finished or not, below ``outputs``; the store is not one."""
    out, store = set(), root.resolve()
    for top in outputs:
        for place, folders, files in os.walk(top, followlinks=False):
            folder = Path(place)
            if {"metrics.json", RECORD, RUN} & set(files) or (folder / ".hydra" / "config.yaml").is_file():
                out.add(folder.resolve())
            folders[:] = [x for x in folders if x not in (".hydra", "masks") and (folder / x).resolve() != store]
    return sorted(out)


def half_written_in(runs: Iterable[Path]) -> list[Path]:
    """The files ``NAME.0123abcd.tmp`` that a killed process or a loss of power left in runs' folders and a sweep's."""
    places = {place for run in runs for place in (run, run / "models", run.parent)}
    return sorted(p for place in places for p in place.glob("*.tmp") if _HALF.fullmatch(p.name) and is_old(p))


def references(run: Path) -> set[str]:
    """The stored products (``Stage/key``) that a run needs, as it wrote down before it built any.

    Raises:
        SegError: if that can't be told any more.
    """
    there = [name for name in (RUN, RECORD, "metrics.json") if (run / name).exists()]
    damaged = []
    for name in there:
        try:
            written = unseal(read_json(run / name))
            # Before there was run.json, a finished run had them in its figures' header.
            said: Any = written["header"] if written is not None and name == "metrics.json" else written
            if "products" in said:
                return {plain(product) for product in said["products"]}
        except (AttributeError, KeyError, OSError, TypeError, ValueError):
            damaged.append(name)  # what one of them cannot tell, another may
    if damaged:
        raise SegError(f"{damaged[0]} is damaged")
    if there:
        raise SegError("an older version made it, and wrote down nothing")
    return set()  # it was refused, or ended before it built anything


def remove(garbage: Garbage) -> tuple[int, list[str]]:
    """Remove what nobody else is at.

    Returns:
        The bytes that were freed, and what stayed: ``Stage/key``, since another process holds its lock.
    """
    freed, kept = 0, []
    for path in [*garbage.leftovers, *(product.folder for product in garbage.products)]:
        if path.suffix == ".tmp":
            if path.is_file() and not is_busy(path):
                freed += path.stat().st_size
                path.unlink()
            continue
        folder, part, aside, lock = (path.with_suffix(suffix) for suffix in ("", ".part", ASIDE, ".lock"))
        with _held(folder) as free:
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
    return freed, kept


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """The lock of a product; on a full disk none can be made anew, and so by nobody else."""
    with ExitStack() as stack:
        try:
            free = stack.enter_context(locked(folder))
        except SegError as error:
            if not no_room(error) or folder.with_suffix(".lock").exists():
                raise
            free = True
        yield free
