"""``python -m seg.store ls | gc``: look after a store, by what its folders hold alone."""

import argparse
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seg.console import flush, handle_broken_pipe
from seg.errors import SegError, interruptible
from seg.format import duration, size
from seg.store.manifest import NAME, locked, read_manifest, size_of
from seg.store.run_folders import remembered_runs

_FOLDER = re.compile(r"[0-9a-f]{16}(\.part)?")


@dataclass(frozen=True)
class Product:
    """The folder of a product, ``<store>/<stage>/<key>``, or ``<key>.part`` of a build that was killed.

    Attributes:
        folder: where it is. seconds: that it took to make; None without a manifest. bytes: of all its files.
    """

    folder: Path
    seconds: float | None
    bytes: int

    @property
    def name(self) -> str:
        """``Stage/key``."""
        return f"{self.folder.parent.name}/{self.folder.name}"


def products(root: Path) -> list[Product]:
    """The products of a store, largest first, the broken ones included; a SegError if there is no such folder."""
    if not root.is_dir():
        raise SegError(f"{root}: there is no store; name another with store=DIR")
    folders = [path for path in root.glob("*/*") if path.is_dir() and _FOLDER.fullmatch(path.name)]
    found = [Product(path, (read_manifest(path) or {}).get("seconds"), size_of(path)) for path in folders]
    return sorted(found, key=lambda x: (-x.bytes, x.name))


def remove(product: Product) -> bool:
    """Remove a product; False if another process holds its lock."""
    folder = product.folder.with_suffix("")
    with locked(folder) as free:
        if free:
            (product.folder / NAME).unlink(missing_ok=True)  # first: what is half removed must not look like a product
            shutil.rmtree(product.folder, ignore_errors=True)
            if not folder.exists():  # while it is held, so that none is taken from under a build
                folder.with_suffix(".lock").unlink(missing_ok=True)
    return free


@interruptible()
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: ``arguments`` without the program's name, default as typed; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # As everywhere else in this program: store=DIR.
    parsed = _parser().parse_args([f"--{x}" if x.startswith("store=") else x for x in given])
    try:
        parsed.do(parsed)
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    store = argparse.ArgumentParser(add_help=False)
    store.add_argument("--store", type=Path, default=Path("outputs/store"), metavar="DIR", help="outputs/store")
    parser = argparse.ArgumentParser(prog="python -m seg.store", description="Look after a store of products.")
    commands = parser.add_subparsers(required=True, metavar="ls | gc")
    ls = commands.add_parser("ls", parents=[store], help="what is in it, the largest first")
    ls.set_defaults(do=_ls)
    gc = commands.add_parser("gc", parents=[store], help="remove what no run's folder refers to")
    gc.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    gc.set_defaults(do=_gc)
    return parser


def _ls(given: argparse.Namespace) -> None:
    found = products(given.store)
    _print(found)
    print(f"{len(found)} products, {size(sum(x.bytes for x in found))} in {given.store}")


def _gc(given: argparse.Namespace) -> None:
    runs = list(remembered_runs(given.store))
    # All epochs of a training share one folder.
    referred = {name.partition("@")[0] for _, folder, names in runs if folder.is_dir() for name in names}
    found = [product for product in products(given.store) if product.name not in referred]
    if given.dry_run:
        _print(found)
        print(f"would remove {len(found)} products, {size(sum(x.bytes for x in found))}")
        return
    removed = [product for product in found if remove(product)]
    for product in found:
        if product not in removed:
            print(f"kept: {product.name}: another process builds it")
    for record, folder, _ in runs:
        if not folder.is_dir():
            record.unlink(missing_ok=True)
    print(f"removed {len(removed)} products, {size(sum(x.bytes for x in removed))}")


def _print(found: Sequence[Product]) -> None:
    for x in found:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(x.folder.stat().st_mtime))
        took = "unfinished" if x.seconds is None else duration(x.seconds)
        print(f"{size(x.bytes):>8}  {took:>12}  {made}  {x.name}")


if __name__ == "__main__":
    handle_broken_pipe()
    status = main()
    flush()
    sys.exit(status)
