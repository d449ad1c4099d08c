"""Code as a hash, which is part of a stage's key: an edit rebuilds what it touches."""

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from seg.store.parameters import Parameters

#: Where this package computes. The rest of it (store, files, config, reports) changes no product.
COMPUTING = ("data", "evaluation", "masks", "methods", "nets", "refiner", "segmenter", "supervision", "train")

_ROOT = Path(__file__).parents[2]


def code_hash(cls: type) -> str:
    """Hash of the code of a class and its bases, as of :func:`source_hash`."""
    bases: list[Any] = [base for base in cls.__mro__ if issubclass(base, Parameters)]
    return source_hash(*(base for base in bases if not base.__module__.startswith("seg.store")))


@cache
def source_hash(*objects: Any) -> str:
    """Hash of the modules that define classes or functions, and of the modules that these import, transitively.

    Imports are followed to the computing packages of ``seg``, and from a user's module to others below the same folder
    (of an installed package: to its own). What was typed into a notebook is hashed by its own text.
    """
    found: dict[str, Path] = {}
    digests = []
    for one in objects:
        module = sys.modules.get(one.__module__)
        file, spec = getattr(module, "__file__", None), getattr(module, "__spec__", None)
        if file is not None and Path(file).is_file():
            found[spec.name if spec else one.__module__] = Path(file)
        else:
            with suppress(OSError, TypeError, SyntaxError):
                digests.append(_digest(ast.parse(textwrap.dedent(inspect.getsource(one)))))
    waiting = list(found.items())
    while waiting:
        new = {name: path for name, path in _followed(*waiting.pop()) if name not in found}
        found |= new
        waiting += new.items()
    # Without their names: a script that is run is ``__main__``, and has another name where it is imported.
    digests += sorted(_parsed(path)[0] for path in found.values())
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]


@cache
def _followed(module: str, path: Path) -> list[tuple[str, Path]]:
    """The imports of a module that matter, with their files."""
    parents = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    out = []
    for dots, target, name in _parsed(path)[1]:
        if dots:
            target = ".".join([*parents[: len(parents) - dots + 1], *([target] if target else [])])
        for imported in (f"{target}.{name}", target):
            if file := _find(module, path, imported):
                out.append((imported, file))
                break
    return out


def _find(user: str, path: Path, module: str) -> Path | None:
    """The file of a module that another imports, which is not imported for it; None if it does not matter."""
    top, *rest = module.split(".")
    own = user.partition(".")[0]
    if top == "seg":
        if not rest or rest[0] not in COMPUTING:
            return None
        root = _ROOT
    elif own == "seg":
        return None
    else:
        root = path.parents[user.count(".") + (path.name == "__init__.py")]
        if top != own and root.name.endswith("-packages"):
            return None
    file = root.joinpath(top, *rest)
    return next((p for p in (file.with_name(f"{file.name}.py"), file / "__init__.py") if p.is_file()), None)


@cache
def _parsed(path: Path) -> tuple[str, list[tuple[int, str, str]]]:
    """The digest of a module, and ``(dots, module, name)`` of each of its imports, those in functions too."""
    tree = ast.parse(path.read_bytes())
    return _digest(tree), list(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((0, name.name, "") for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or "", name.name) for name in node.names)
        elif not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            yield from _imports(node)


def _digest(tree: ast.Module) -> str:
    """Hash of a syntax tree without its docstrings; comments are not in it."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
