"""``python -m seg.store ls | show KEY | verify | gc``: look after a store."""

import argparse
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seg.console import flush, handle_broken_pipe
from seg.errors import SegError, interruptible
from seg.format import duration, size
from seg.store.garbage import find_garbage, remove
from seg.store.inventory import Product, find, half_written, is_busy, locked, problems, products, repair, size_of
from seg.store.runtime import Runtime


@interruptible()
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: without the program's name; default: as typed.

    Returns:
        The exit status: 0, or 1 for bad input, damage that was found, or a removal that was not confirmed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # As everywhere else in this program: store=DIR.
    parsed = _parser().parse_args([f"--{x}" if x.startswith("store=") else x for x in given])
    try:
        return int(parsed.do(parsed))
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    store = argparse.ArgumentParser(add_help=False)
    store.add_argument("--store", type=Path, default=Path("outputs/store"), metavar="DIR", help="outputs/store")
    parser = argparse.ArgumentParser(prog="python -m seg.store", description="Look after a store of products.")
    commands = parser.add_subparsers(required=True, metavar="ls | show | verify | gc")
    ls = commands.add_parser("ls", parents=[store], help="what is in it: size, time, when made and last used")
    ls.add_argument("--sort", choices=("stage", "size", "seconds", "made", "used"), default="stage")
    ls.set_defaults(do=_ls)
    show = commands.add_parser("show", parents=[store], help="one product, by the beginning of its key")
    show.add_argument("key")
    show.set_defaults(do=_show)
    verify = commands.add_parser("verify", parents=[store], help="read every file again, compare the checksums")
    verify.add_argument("--repair", action="store_true", help="quarantine what is damaged; the next run builds it anew")
    verify.set_defaults(do=_verify)
    gc = commands.add_parser("gc", parents=[store], help="remove what no run refers to; asks first")
    gc.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    gc.add_argument("--yes", action="store_true", help="do not ask")
    gc.set_defaults(do=_gc)
    return parser


def _ls(given: argparse.Namespace) -> int:
    found = products(given.store)
    if given.sort == "stage":
        found.sort(key=lambda x: (x.stage, x.made))
    else:  # what is large, slow or new comes first
        found.sort(key=lambda x: getattr(x, given.sort.replace("size", "bytes")) or 0, reverse=True)
    print(format_products(found, shutil.get_terminal_size((120, 24)).columns))
    print(f"{len(found)} products, {size(sum(x.bytes for x in found))} in {given.store}")
    return 0


def format_products(found: Sequence[Product], width: int = 120) -> str:
    """The products as a table in lines of at most ``width`` characters, their parameters as far as there is room."""
    lines = [["stage", "key", "size", "time", "made", "last used", "parameters"]]
    for x in found:
        params = " ".join(f"{k}={_short(v)}" for k, v in (x.manifest or {}).get("params", {}).items())
        text = params if x.manifest else "BROKEN: no manifest"
        lines.append([x.stage, x.key, size(x.bytes), duration(x.seconds), _when(x.made), _when(x.used), text])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join(text if len(text) <= width else f"{text[: width - 1]}…" for text in texts)


def _show(given: argparse.Namespace) -> int:
    product = find(given.store, given.key)
    manifest = product.manifest or {}
    print(f"{product.name}  weakseg {manifest.get('weakseg', '?')}")
    print(f"folder:    {product.folder}")
    print(f"size:      {size(product.bytes)}, made in {duration(product.seconds)}")
    print(f"made:      {_when(product.made)}; last used {_when(product.used)}")
    for key in ("made_with", "epochs_done", "notes"):
        if manifest.get(key):
            print(textwrap.shorten(f"{key + ':':10} {json.dumps(manifest[key])}", 400, placeholder=" ..."))
    for title in ("params", "upstream"):
        print(f"{title}:")
        for key, value in manifest.get(title, {}).items():
            print(f"  {key}: {value if isinstance(value, str) else json.dumps(value)}")
    print("files:")
    for entry in manifest.get("files", []):
        print(f"  {entry['name']}  {size(entry['size'])}  crc32 {entry['crc32']}")
    return 0


def _verify(given: argparse.Namespace) -> int:
    found, busy, left = products(given.store), 0, 0
    broken: list[str] = []
    for product in Runtime().bar(found, "verifying"):
        try:
            wrong = problems(product)
        except SegError as error:
            wrong = {"": str(error)}
        if wrong and is_busy(product.folder):
            busy += 1
            continue
        broken += [f"{product.name}: {name} {what}" for name, what in wrong.items()]
        if wrong and given.repair:
            with locked(product.folder) as free:
                done = repair(product) if free else None
            broken += [done] if done else []
            left += 0 if done else 1
        elif wrong:
            left += 1
    print("\n".join(broken or ["every file is as it was written"]))
    if halves := half_written(given.store):
        print(f"{len(halves)} half written files of killed processes ({halves[0]}); they are not read, gc removes them")
    notes = f", {busy} left out: another process builds them" if busy else ""
    print(f"{len(found)} products, {size(sum(x.bytes for x in found))}, {left} damaged{notes}")
    if left and not given.repair:
        print("a run that opens them builds them anew; --repair quarantines them now")
    return 1 if left else 0


def _gc(given: argparse.Namespace) -> int:
    garbage = find_garbage(given.store)
    print(f"{garbage.runs} runs refer to this store")
    for folder in garbage.gone:
        print(f"{folder}: a run's folder that is gone: what it alone referred to goes too")
    for name in garbage.busy:
        print(f"left alone: {name}: another process builds it")
    if not garbage.products and not garbage.stale:
        print("nothing to remove")
        return 0
    if garbage.products:
        print(format_products(garbage.products))
    for path in garbage.stale:
        print(f"{path}: left by a killed process")
    freed = sum(x.bytes for x in garbage.products) + sum(size_of(x) for x in garbage.stale)
    print(f"to remove: {len(garbage.products)} products, {len(garbage.stale)} others, {size(freed)}")
    if given.dry_run:
        print("dry run: nothing was removed")
        return 0
    if not given.yes and not _confirmed():
        print("nothing was removed")
        return 1
    now = find_garbage(given.store)  # while it was asked, another run may have begun
    names = {product.name for product in garbage.products}
    freed, kept = remove(replace(now, products=[product for product in now.products if product.name in names]))
    print(f"removed: {size(freed)}")
    for name in kept:
        print(f"kept: {name}: another process holds its lock")
    return 0


def _confirmed() -> bool:
    try:
        return input("remove them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text if len(text) <= 24 else text[:23] + "…"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


if __name__ == "__main__":
    handle_broken_pipe()
    status = main()
    flush()
    sys.exit(status)
