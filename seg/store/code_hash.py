"""The code of a stage as a hash, which is part of its key: an edit rebuilds what it touches."""

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from seg.store.parameters import Parameters

#: Where this package computes. The rest of it (store, files, config, reports) changes no product.
COMPUTING = ("data", "evaluation", "masks", "methods", "nets", "refiner", "segmenter", "supervision", "train")

_ROOT = Path(__file__).parents[2]


class Module(NamedTuple):
    """What matters of a module.

    Attributes:
        digest: hash of its syntax tree without docstrings; comments are not in the tree.
        imports: ``(dots, module, name)`` of every import, those inside functions too.
        classes: the names of the bases of each class.
    """

    digest: str
    imports: list[tuple[int, str, str]]
    classes: dict[str, list[str]]


@cache
def code_hash(cls: type) -> str:
    """Hash of the modules that define a class and its bases, and of the modules that these import, transitively.

    Imports are followed to the computing packages of ``seg``, and from a user's module to others below the same folder
    (of an installed package: to its own). An imported stage is not followed: where it is used, it is upstream, and
    its own key tells of its code. A class that was typed into a notebook is hashed by its own text.
    """
    found: dict[str, Path] = {}
    texts = []
    for base in cls.__mro__:
        if issubclass(base, Parameters) and not base.__module__.startswith("seg.store"):
            if place := _place(base):
                found[place[0]] = place[1]
            else:
                with suppress(OSError, TypeError, SyntaxError):
                    texts.append(_digest(ast.parse(textwrap.dedent(inspect.getsource(base)))))
    waiting = list(found.items())
    while waiting:
        new = {name: path for name, path in _followed(*waiting.pop()).items() if name not in found}
        found |= new
        waiting += new.items()
    # Without their names: a script that is run is ``__main__``, and has another name where it is imported.
    texts += sorted(_look(path).digest for path in found.values())
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _place(cls: type) -> tuple[str, Path] | None:
    """Name and file of the module that defines a class; None if it has no file."""
    module = sys.modules.get(cls.__module__)
    file, spec = getattr(module, "__file__", None), getattr(module, "__spec__", None)
    if file is None or not Path(file).is_file():
        return None
    return (spec.name if spec and cls.__module__ == "__main__" else cls.__module__), Path(file)


@cache
def _followed(module: str, path: Path) -> dict[str, Path]:
    """The imports of a module that matter, with their files."""
    out = {}
    is_package = path.name == "__init__.py"
    for dots, target, name in _look(path).imports:
        if dots:
            parents = module.split(".") if is_package else module.split(".")[:-1]
            target = ".".join([*parents[: len(parents) - dots + 1], *([target] if target else [])])
        if inner := _find(module, path, f"{target}.{name}"):
            out[f"{target}.{name}"] = inner
        elif (outer := _find(module, path, target)) and not _is_stage(target, outer, name):
            out[target] = outer
    return out


@cache
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


def _is_stage(module: str, path: Path, name: str) -> bool:
    """Whether a name in a module is a stage's class."""
    look = _look(path)
    if name in look.classes:
        return any(base == "Stage" or (base != name and _is_stage(module, path, base)) for base in look.classes[name])
    return any(
        _is_stage(target, file, name)
        for _, target, imported in look.imports
        if imported == name and target != module and (file := _find(module, path, target))
    )


@cache
def _look(path: Path) -> Module:
    tree = ast.parse(path.read_bytes())
    classes = {
        node.name: [str(getattr(base, "id", getattr(base, "attr", ""))) for base in node.bases]
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    return Module(_digest(tree), list(_imports(tree)), classes)


def _imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((0, name.name, "") for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or "", name.name) for name in node.names)
        elif not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            yield from _imports(node)


def _digest(tree: ast.Module) -> str:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
