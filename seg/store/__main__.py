"""``python -m seg.store ls | gc``: look after a store."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from seg.console import flush, handle_broken_pipe
from seg.errors import SegError, interruptible
from seg.format import duration, size
from seg.store.inventory import Product, products, remove, unreferenced
from seg.store.run_folders import forget_gone_runs


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
    ls = commands.add_parser("ls", parents=[store], help="what is in it: size, time to make, when made")
    ls.add_argument("--sort", choices=("stage", "size", "seconds", "made"), default="stage")
    ls.set_defaults(do=_ls)
    gc = commands.add_parser("gc", parents=[store], help="remove what no run's folder refers to")
    gc.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    gc.set_defaults(do=_gc)
    return parser


def _ls(given: argparse.Namespace) -> None:
    found = products(given.store)
    if given.sort != "stage":  # what is large, slow or new comes first
        found.sort(key=lambda x: getattr(x, given.sort.replace("size", "bytes")), reverse=True)
    _print(found)
    print(f"{len(found)} products, {size(sum(x.bytes for x in found))} in {given.store}")


def _gc(given: argparse.Namespace) -> None:
    found = unreferenced(given.store)
    if given.dry_run:
        _print(found)
        print(f"would remove {len(found)} products, {size(sum(x.bytes for x in found))}")
        return
    removed = [product for product in found if remove(product)]
    for product in found:
        if product not in removed:
            print(f"kept: {product.name}: another process builds it")
    forget_gone_runs(given.store)
    print(f"removed {len(removed)} products, {size(sum(x.bytes for x in removed))}")


def _print(found: Sequence[Product]) -> None:
    """Print a table in lines as wide as the terminal, with the parameters as far as there is room."""
    lines = [["product", "size", "time", "made", "parameters"]]
    for x in found:
        params = " ".join(f"{k}={json.dumps(v)}" for k, v in x.manifest["params"].items()) if x.manifest else "BROKEN"
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(x.made))
        lines.append([x.name, size(x.bytes), duration(x.seconds), made, params])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    width = shutil.get_terminal_size((120, 24)).columns
    for line in lines:
        print("  ".join(map(str.ljust, line, widths))[:width].rstrip())


if __name__ == "__main__":
    handle_broken_pipe()
    status = main()
    flush()
    sys.exit(status)
