"""``python -m seg.store ls | show KEY | verify | rebuild | accept | gc``: look after a store."""

import argparse
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from seg.console import flush, mind_pipes
from seg.errors import SegError, interruptible
from seg.format import duration, size
from seg.store.garbage import Garbage, find_garbage, remove
from seg.store.inventory import (
    Product,
    find,
    half_written,
    is_busy,
    locked,
    mend,
    problems,
    products,
    size_of,
)
from seg.store.other_code import accept, forget_code, made_by_other_code
from seg.store.run_folders import outermost, remembered_runs
from seg.store.runtime import Runtime

#: Run folders named in a refusal.
_MOST_NAMED = 5


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
    options = [f"--{x}" if x.startswith(("store=", "outputs=")) else x for x in given]
    parsed = _parser().parse_args(options)
    try:
        return int(parsed.do(parsed))
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    store = argparse.ArgumentParser(add_help=False)
    store.add_argument("--store", type=Path, default=Path("outputs/store"), metavar="DIR", help="outputs/store")
    parser = argparse.ArgumentParser(prog="python -m seg.store", description="Look after a store of products.")
    commands = parser.add_subparsers(required=True, metavar="ls | show | verify | rebuild | accept | gc")
    ls = commands.add_parser("ls", parents=[store], help="what is in it: size, time, when made and last used")
    ls.add_argument("--sort", choices=("stage", "size", "seconds", "made", "used"), default="stage")
    ls.set_defaults(do=_ls)
    show = commands.add_parser("show", parents=[store], help="one product, by the beginning of its key")
    show.add_argument("key")
    show.set_defaults(do=_show)
    verify = commands.add_parser("verify", parents=[store], help="read every file again, compare the checksums")
    verify.add_argument(
        "--mend", action="store_true", help="put aside what is damaged, so that the next run builds it anew"
    )
    verify.set_defaults(do=_verify)
    for name, what in (
        ("rebuild", "remove what other code made than there is now, as a run has told; the next run builds it"),
        ("accept", "take it as it is: the code has changed, but not what it computes"),
    ):
        other = commands.add_parser(name, parents=[store], help=what)
        other.add_argument("stage", nargs="*", help="by which code; all that a run told of")
        other.set_defaults(do=_rebuild if name == "rebuild" else _accept)
    gc = commands.add_parser("gc", parents=[store], help="remove what no run folder refers to; asks first")
    gc.add_argument(
        "--outputs", type=Path, action="append", metavar="DIR", help="where more runs are (may be repeated): outputs"
    )
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")
    gc.add_argument("--yes", action="store_true", help="do not ask")
    gc.add_argument(
        "--forget-unknown", action="store_true", help="run folders that nobody can read any more refer to nothing"
    )
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
    out = []
    for line in lines:
        cells = [x.rjust(w) if c in (2, 3) else x.ljust(w) for c, (x, w) in enumerate(zip(line, widths, strict=True))]
        text = "  ".join(cells).rstrip()
        out.append(text if len(text) <= width else text[: width - 1] + "…")
    return "\n".join(out)


def _show(given: argparse.Namespace) -> int:
    product = find(given.store, given.key)
    manifest = product.manifest or {}
    print(f"{product.name}  version {manifest.get('version', '?')}, weakseg {manifest.get('weakseg', '?')}")
    print(f"folder:    {product.folder}")
    print(f"size:      {size(product.bytes)}, made in {duration(product.seconds)}")
    print(f"made:      {_when(product.made)}; last used {_when(product.used)}")
    if made_with := manifest.get("made_with"):
        print(f"made with: {', '.join(f'{name} {value}' for name, value in made_with.items())}")
    for key in ("epochs_done", "notes"):
        if manifest.get(key):
            print(textwrap.shorten(f"{key + ':':10} {json.dumps(manifest[key])}", 400, placeholder=" ..."))
    for title, values in (("parameters:", manifest.get("params", {})), ("upstream:", manifest.get("upstream", {}))):
        print(title)
        for key, value in values.items():
            print(f"  {key}: {value if isinstance(value, str) else json.dumps(value)}")
    print("files:")
    for entry in manifest.get("files", []):
        print(f"  {entry['name']}  {size(entry['size'])}  sha256 {entry['sha256']}")
    return 0


def _verify(given: argparse.Namespace) -> int:
    found, broken, mended, busy, left = products(given.store), [], [], 0, 0
    for product in Runtime().bar(found, "verifying"):
        wrong = problems(product)
        if not wrong:
            continue
        if is_busy(product.folder):
            busy += 1
            continue
        broken += wrong
        if given.mend:
            with locked(product.folder) as free:
                done = mend(product) if free else None
            mended += [done] if done else []
            left += len(problems(find(given.store, product.name))) if product.folder.is_dir() else 0
    print("\n".join([*broken, *mended] or ["every file is as it was written"]))
    if halves := half_written(given.store):
        print(
            f"{len(halves)} files that killed processes left half written ({halves[0]}); "
            "they are not read, gc removes them"
        )
    notes = f", {busy} left out: another process builds them" if busy else ""
    print(f"{len(found)} products, {size(sum(x.bytes for x in found))}, {len(broken)} problems{notes}")
    if broken and not given.mend:
        print("a run that opens them builds them anew; --mend puts them aside now")
    return 1 if left or (broken and not given.mend) else 0


def _rebuild(given: argparse.Namespace) -> int:
    found, now = made_by_other_code(given.store, given.stage)
    freed, kept = remove(Garbage(found, [], 0, [], []))
    print(f"removed: {len(found) - len(kept)} products, {size(freed)}; the next run builds what it needs of them")
    return _settled(given.store, now, kept)


def _accept(given: argparse.Namespace) -> int:
    found, now = made_by_other_code(given.store, given.stage)
    kept = [x.name for x in found if not accept(x, now)]
    print(f"accepted: {len(found) - len(kept)} products")
    return _settled(given.store, now, kept)


def _settled(store: Path, now: Mapping[str, str], kept: Sequence[str]) -> int:
    for name in kept:
        print(f"left as it is: {name}: another process holds its lock")
    if not kept:
        forget_code(store, now)
    return 1 if kept else 0


def _gc(given: argparse.Namespace) -> int:
    products(given.store)  # refuses what is no store
    there, gone = remembered_runs(given.store)
    outputs = outermost([*(given.outputs or _usual_outputs(given.store, there)), *there])
    garbage = _garbage(given, outputs)
    named = ", ".join(map(str, outputs[:_MOST_NAMED])) + (", ..." if len(outputs) > _MOST_NAMED else "")
    print(f"run folders: {garbage.runs} below {named}")
    if moved := [x for x in gone if not any(x.is_relative_to(o.resolve()) for o in outputs)]:
        print(
            f"not there any more: {', '.join(map(str, moved[:_MOST_NAMED]))}{', ...' if moved[_MOST_NAMED:] else ''} "
            f"({len(moved)} in all); if they were moved, name the place with --outputs DIR"
        )
    for name in garbage.busy:
        print(f"left alone: {name}: another process builds it")
    status = _remove(given, outputs, garbage)
    if garbage.unknown and not given.forget_unknown:
        named = "; ".join(garbage.unknown[:_MOST_NAMED]) + ("; ..." if garbage.unknown[_MOST_NAMED:] else "")
        raise SegError(
            f"of {len(garbage.unknown)} run folders nobody can tell what they refer to, so every product is kept "
            f"(remove them first, or give --forget-unknown): {named}"
        )
    return status


def _garbage(given: argparse.Namespace, outputs: Sequence[Path]) -> Garbage:
    """What can go; no product, while there is a run of which nobody can tell what it needs."""
    garbage = find_garbage(given.store, outputs)
    return replace(garbage, products=[]) if garbage.unknown and not given.forget_unknown else garbage


def _remove(given: argparse.Namespace, outputs: Sequence[Path], garbage: Garbage) -> int:
    """Say what goes, ask, and remove it; the exit status."""
    if not garbage.products and not garbage.leftovers:
        print("nothing to remove")
        return 0
    if garbage.products:
        print(format_products(garbage.products))
    for path in garbage.leftovers:
        inside = path.is_relative_to(given.store)
        print(f"{path.relative_to(given.store) if inside else path}: left of a broken {'build' if inside else 'run'}")
    freed = sum(x.bytes for x in garbage.products) + sum(size_of(x) for x in garbage.leftovers)
    print(f"to remove: {len(garbage.products)} products, {len(garbage.leftovers)} leftovers, {size(freed)}")
    if given.dry_run:
        print("dry run: nothing was removed")
        return 0
    if not given.yes and not _confirmed():
        print("nothing was removed")
        return 1
    # While it was asked, another run may have begun.
    freed, kept = remove(_garbage(given, outputs).within(garbage))
    print(f"removed: {size(freed)}")
    for name in kept:
        print(f"kept: {name}: another process holds its lock")
    return 0


def _usual_outputs(store: Path, remembered: list[Path]) -> list[Path]:
    """Where the runs of a store are unless somebody says otherwise: beside it, and where a run would put them."""
    places = [store.parent] if any((store.parent / x).is_dir() for x in ("runs", "sweeps")) else []
    places += [Path("outputs")] if Path("outputs").is_dir() else []
    if not places and not remembered:
        raise SegError(f"{store}: where are the runs that use it? Name their folder with --outputs DIR")
    return places


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
    mind_pipes()
    status = main()
    flush()
    sys.exit(status)
