"""``python -m seg.store ls | gc``: list the products of a store, remove those that no run needs."""

import argparse
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from seg.errors import SegError, entrypoint
from seg.format import duration
from seg.store.manifest import NAME, locked, read_manifest, size_of
from seg.store.run_folders import remembered_runs

_FOLDER = re.compile(r"[0-9a-f]{16}(\.part)?")


def products(root: Path) -> list[Path]:
    """The folders ``<stage>/<key>`` of a store, including damaged and unfinished ones (``<key>.part``).

    Raises:
        SegError: there is no store.
    """
    if not root.is_dir():
        raise SegError(f"{root}: there is no store; name another with store=DIR")
    return sorted(path for path in root.glob("*/*") if path.is_dir() and _FOLDER.fullmatch(path.name))


def name_of(folder: Path) -> str:
    """``Stage/key``."""
    return f"{folder.parent.name}/{folder.name}"


def remove(folder: Path) -> bool:
    """Remove a product; False if another process holds its lock."""
    whole = folder.with_suffix("")
    with locked(whole) as free:
        if free:
            (folder / NAME).unlink(missing_ok=True)  # first: a half-removed folder must not look complete
            shutil.rmtree(folder, ignore_errors=True)
            if not whole.exists():  # while it is held: no build may wait for it
                whole.with_suffix(".lock").unlink(missing_ok=True)
    return free


def _bytes(count: int) -> str:
    return str(tqdm.format_sizeof(count, "B"))


def show(folders: Iterable[Path], what: str) -> None:
    """A line for each product, the largest first, and one for all of them."""
    sizes = {folder: size_of(folder) for folder in folders}
    for folder, count in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime))
        manifest = read_manifest(folder)
        took = "unfinished" if manifest is None else duration(manifest["seconds"])
        print(f"{_bytes(count):>8}  {took:>12}  {made}  {name_of(folder)}")
    print(f"{what}{len(sizes)} products, {_bytes(sum(sizes.values()))}")


def collect_garbage(root: Path, dry_run: bool = False) -> None:
    """Remove products that no existing run folder needs, and the records of deleted runs."""
    runs = list(remembered_runs(root))
    # All epochs of a training share one folder.
    referred = {name.partition("@")[0] for _, folder, names in runs if folder.is_dir() for name in names}
    found = [folder for folder in products(root) if name_of(folder) not in referred]
    show(found, "would remove " if dry_run else "to remove: ")
    if dry_run:
        return
    for folder in found:
        if not remove(folder):
            print(f"kept: {name_of(folder)}: another process builds it")
    for record, folder, _ in runs:
        if not folder.is_dir():
            record.unlink(missing_ok=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, without the program's name."""
    parser = argparse.ArgumentParser(prog="python -m seg.store", description=__doc__)
    parser.add_argument("command", choices=["ls", "gc"], help="list all products; remove what no run refers to")
    parser.add_argument("--store", type=Path, default=Path("outputs/store"), metavar="DIR", help="outputs/store")
    parser.add_argument("--dry-run", action="store_true", help="gc: only list what would be removed")
    # store=DIR works too, as in the other commands.
    return parser.parse_args([f"--{x}" if x.startswith("store=") else x for x in arguments])


@entrypoint()
def main(arguments: Sequence[str] | None = None) -> None:
    """Console entrypoint; ``arguments`` default to the command line's."""
    given = parse(sys.argv[1:] if arguments is None else arguments)
    if given.command == "ls":
        show(products(given.store), "")
    else:
        collect_garbage(given.store, given.dry_run)


if __name__ == "__main__":
    main()
