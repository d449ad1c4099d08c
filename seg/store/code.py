"""The code that a stage runs, as a hash: what made a product is written beside it, and compared when it is used."""

import ast
import hashlib
import importlib.util
import io
import json
import sys
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from seg.files import write_json
from seg.store.parameters import Parameters
from seg.store.stage import Stage

#: What computes nothing that is kept.
ASIDE = ("seg.store", "seg.config", "seg.errors", "seg.files", "seg.format", "seg.version")

#: Beside Python's own compiled files, or where these cannot be written in the store: what was found of each module.
CACHE = "code.json"


def code(source: str) -> str:
    """A module's code without comments, docstrings and white space; the same for all versions of Python."""
    return _code(source, ast.parse(source))


def _code(source: str, tree: ast.Module) -> str:
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    }
    out: list[str] = []
    for kind, text, start in _tokens(source):
        if kind in ("COMMENT", "NL", "ENCODING", "ENDMARKER") or (kind == "STRING" and start in docstrings):
            continue
        if kind in ("INDENT", "DEDENT", "NEWLINE"):
            text = kind
        if text != "NEWLINE" or (out and out[-1] not in ("NEWLINE", "INDENT")):  # what a docstring leaves
            out.append(text)
    return "\0".join(out)


def _tokens(source: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Kind, text and place of every token. An f-string is one, as it was before Python 3.12."""
    lines, inside, begun = source.splitlines(keepends=True), 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            inside, begun = inside + 1, begun if inside else token.start
        elif kind == "FSTRING_END":
            inside -= 1
            if not inside:
                yield "STRING", _between(lines, begun, token.end), begun
        elif not inside:
            yield kind, token.string, token.start


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one place to another, as tokens have them: lines from 1, characters from 0."""
    rows = lines[start[0] - 1 : end[0]]
    rows[-1] = rows[-1][: end[1]]
    return "".join([rows[0][start[1] :], *rows[1:]])


@cache
def place(module: str) -> Path | None:
    """The file of a module, which is not imported for it; None if there is no such module."""
    top, *rest = module.split(".")
    file = getattr(sys.modules.get(top), "__file__", None)
    with suppress(ImportError, ValueError):  # of a name that cannot be one
        if file is None and (spec := importlib.util.find_spec(top)) is not None:
            file = spec.origin
    if file is None or not Path(file).is_file():
        return None
    path = Path(file).parent.joinpath(*rest)
    return (
        next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None) if rest else Path(file)
    )


def _look(source: str) -> dict[str, Any]:
    """Of a module: the hash of its code, what it imports (inside functions too), and its classes with their bases."""
    tree = ast.parse(source)
    imports: list[list[str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [[name.name, ""] for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports += [[node.module, name.name] for name in node.names]
    classes = {
        node.name: [str(getattr(base, "id", getattr(base, "attr", ""))) for base in node.bases]
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    digest = hashlib.sha256(_code(source, tree).encode()).hexdigest()
    return {"code": digest, "imports": imports, "classes": classes}


@cache
def code_here(store: Path) -> "Code":
    """The code of this process, looked at once."""
    return Code(store)


class Code:
    """What the modules of this process are made of.

    To look at a module takes some milliseconds, so what was found is kept by the content of its file.

    Args:
        store: root of a store, where that is kept if it cannot be kept beside the package.
    """

    def __init__(self, store: Path | None = None) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        self._modules: dict[str, dict[str, Any]] = {}
        self._hashes: dict[type, str | None] = {}
        self._files = [Path(__file__).parent / "__pycache__" / CACHE, *([store / CACHE] if store else [])]
        for path in self._files:
            with suppress(OSError, ValueError):
                known = json.loads(path.read_text(encoding="utf-8"))
                self._known |= known if isinstance(known, dict) else {}

    def of(self, stage: Stage) -> dict[str, str]:
        """Hash of the code of every class that a product is made by, upstream too, by the class's name.

        A class whose file is not there (it was typed into an interpreter) is left out.
        """
        classes: dict[type, None] = {}
        seen: set[int] = set()
        waiting: list[Parameters] = [stage]
        while waiting:
            part = waiting.pop()
            if id(part) not in seen:
                seen.add(id(part))
                classes[type(part)] = None
                waiting += _parts(part)
        hashes = {cls.__name__: self.of_class(cls) for cls in classes}
        self._keep()
        return {name: found for name, found in sorted(hashes.items()) if found is not None}

    def of_class(self, cls: type[Parameters]) -> str | None:
        """Hash of the modules whose code a class runs; None where one of its own has no file."""
        if cls not in self._hashes:
            modules = self.modules_of(cls)
            found = [self._module(name).get("code") for name in modules]
            whole = all(found) and bool(modules)
            text = "".join(sorted(map(str, found)))
            self._hashes[cls] = hashlib.sha256(text.encode()).hexdigest()[:16] if whole else None
        return self._hashes[cls]

    def modules_of(self, cls: type[Parameters]) -> set[str]:
        """The modules whose code a class runs: its own, its bases', and what they import that defines no stage."""
        out = {
            base.__module__
            for base in cls.__mro__
            if issubclass(base, Parameters) and not base.__module__.startswith(ASIDE)
        }
        tops = {name.partition(".")[0] for name in out} | {"seg"}
        waiting = list(out)
        while waiting:
            for name in self.imported(waiting.pop()) - out:
                if name.partition(".")[0] in tops and not name.startswith(ASIDE) and not self.defines_stages(name):
                    out.add(name)
                    waiting.append(name)
        return out

    def imported(self, module: str) -> set[str]:
        """The modules that a module imports, inside functions too."""
        out = set()
        for name, part in self._module(module).get("imports", ()):
            inner = f"{name}.{part}"
            out.add(inner if part and place(inner) else name)
        return {name for name in out if place(name)}

    def defines_stages(self, module: str) -> bool:
        """Whether a class of a module is a stage, which has a version and a hash of its own."""
        return any(self._is_stage(module, name, set()) for name in self._module(module).get("classes", ()))

    def _is_stage(self, module: str, name: str, seen: set[tuple[str, str]]) -> bool:
        if (module, name) in seen:
            return False
        seen.add((module, name))
        if name == "Stage" and module.startswith("seg.store"):
            return True
        found = self._module(module)
        if name in found.get("classes", ()):
            return any(self._is_stage(module, base, seen) for base in found["classes"][name])
        origins = [origin for origin, part in found.get("imports", ()) if part == name and place(origin)]
        return any(self._is_stage(origin, name, seen) for origin in origins)

    def _module(self, name: str) -> dict[str, Any]:
        if name not in self._modules:
            self._modules[name] = {}
            path = place(name)
            with suppress(OSError, SyntaxError, UnicodeDecodeError, AttributeError):
                data = path.read_bytes()  # type: ignore[union-attr]
                content = hashlib.sha256(data).hexdigest()[:32]
                if not _is_whole(self._known.get(content)):
                    self._known[content] = _look(data.decode("utf-8"))
                    self._new = True
                self._modules[name] = self._known[content]
        return self._modules[name]

    _new = False

    def _keep(self) -> None:
        if not self._new:
            return
        self._new = False
        for path in self._files:
            with suppress(OSError):
                if path.parent.is_dir():
                    write_json(path, self._known)
                    return


def _is_whole(found: object) -> bool:
    return isinstance(found, Mapping) and {"code", "imports", "classes"} <= found.keys()


def _parts(value: Parameters) -> list[Parameters]:
    """The stages and other objects with parameters that a stage is made of."""
    own = [x for x in vars(value).values() if isinstance(x, Parameters)]
    return own + ([x for x in value.upstream().values() if x not in own] if isinstance(value, Stage) else [])
