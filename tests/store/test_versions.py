"""What a stage computes does not change under an unchanged version, and so under an unchanged key.

``versions.json`` has, by stage, its version and a hash of its code. ``python tests/store/test_versions.py`` writes it.
"""

import ast
import hashlib
import importlib
import io
import json
import pkgutil
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import seg
from seg.store import Stage

RECORD = Path(__file__).with_name("versions.json")
COMMAND = "python tests/store/test_versions.py"

#: What computes nothing that is kept.
ASIDE = ("seg.store", "seg.config", "seg.errors", "seg.files", "seg.format", "seg.version")


def code(source: str) -> str:
    """A module's code without comments, docstrings and white space; the same for all versions of Python."""
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    }
    out: list[str] = []
    for kind, text, start in tokens(source):
        if kind in ("COMMENT", "NL", "ENCODING", "ENDMARKER") or (kind == "STRING" and start in docstrings):
            continue
        if kind in ("INDENT", "DEDENT", "NEWLINE"):
            text = kind
        if text != "NEWLINE" or (out and out[-1] not in ("NEWLINE", "INDENT")):  # what a docstring leaves
            out.append(text)
    return "\0".join(out)


def tokens(source: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Kind, text and place of every token. An f-string is one, as it was before Python 3.12."""
    lines, inside, begun = source.splitlines(keepends=True), 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            inside, begun = inside + 1, begun if inside else token.start
        elif kind == "FSTRING_END":
            inside -= 1
            if not inside:
                yield "STRING", between(lines, begun, token.end), begun
        elif not inside:
            yield kind, token.string, token.start


def between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one place to another, as tokens have them: lines from 1, characters from 0."""
    rows = lines[start[0] - 1 : end[0]]
    rows[-1] = rows[-1][: end[1]]
    return "".join([rows[0][start[1] :], *rows[1:]])


@cache
def place(module: str) -> Path | None:
    """The file of a module; None if there is no such module."""
    path = Path(seg.__file__).parent.parent.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of the package that a module imports, inside functions too."""
    path, out = place(module), set()
    assert path is not None
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            out |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{name.name}" for name in node.names}
            out |= {name if name.startswith("seg.") and place(name) else node.module for name in names}
    return frozenset(name for name in out if name.partition(".")[0] == "seg" and place(name))


@cache
def code_hash(module: str) -> str:
    path = place(module)
    assert path is not None
    return hashlib.sha256(code(path.read_text(encoding="utf-8")).encode()).hexdigest()


def subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


@cache
def stages() -> dict[str, type[Stage]]:
    """The package's stages by name; those that are only bases of others have no products."""
    for module in pkgutil.walk_packages(seg.__path__, "seg."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    own = {cls for cls in subclasses(Stage) if cls.__module__.startswith("seg.")}
    return {cls.__name__: cls for cls in own if not own & set(subclasses(cls))}


def modules_of(stage: type[Stage]) -> set[str]:
    """The modules whose code a stage runs: its own, its bases', and what they import that defines no stage."""
    with_stages = {cls.__module__ for cls in subclasses(Stage)}
    out = {cls.__module__ for cls in stage.__mro__ if issubclass(cls, Stage) and not cls.__module__.startswith(ASIDE)}
    waiting = list(out)
    while waiting:
        for name in imported(waiting.pop()) - with_stages - out:
            if not name.startswith(ASIDE):
                out.add(name)
                waiting.append(name)
    return out


def current() -> dict[str, dict[str, str | int]]:
    """What the record should say."""
    return {
        name: {
            "version": stage.version,
            "code": hashlib.sha256("".join(sorted(map(code_hash, modules_of(stage)))).encode()).hexdigest()[:16],
        }
        for name, stage in sorted(stages().items())
    }


def write() -> None:
    lines = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in current().items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def test_no_code_changes_under_an_unchanged_version() -> None:
    written, now = json.loads(RECORD.read_text(encoding="utf-8")), current()
    changed = [name for name in now if now[name] != written.get(name)]
    silent = [name for name in changed if name in written and written[name]["version"] == now[name]["version"]]
    assert not silent, f"raise the version of {', '.join(silent)}, or say that nothing changes: {COMMAND}"
    assert not changed and set(written) == set(now), f"other versions, or other stages: write them down: {COMMAND}"


def test_what_a_stage_runs_is_found() -> None:
    found = {name: modules_of(stage) for name, stage in stages().items()}
    assert {"CAM", "Classifier", "Evaluated", "Given", "Prepared", "Segmenter", "Threshold", "Walk"} <= set(found)
    assert not {"Stage", "Training", "ScoreStage", "Source"} & set(found)
    assert "seg.nets.walk" in found["Walk"] and "seg.nets.walk" not in found["Classifier"]
    # Of its base, and what that imports inside a function.
    assert {"seg.train.training", "seg.train.loop", "seg.nets.backbones"} <= found["Classifier"]
    assert {"seg.supervision.scores", "seg.nets.maps"} <= found["CAM"]
    assert "seg.nets.unet" in found["Segmenter"] and "seg.data.decode" in found["Prepared"]
    # What another stage's version stands for is not its own.
    assert "seg.supervision.classifier" not in found["CAM"]
    assert not [name for names in found.values() for name in names if name.startswith(ASIDE)]


BEFORE = '''"""A module."""

import math


class A:
    """A class."""

    size = 3  # of it

    def area(self, x):
        """The area."""
        if x:
            x += 1
            x *= 2
        text = f"{x!r:>{self.size}} of 'a'" "b"
        return math.pi, text
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# of it", "# of something else"),
        ("  # of it", ""),
        ('"""The area."""', '"""What is\n        inside."""\n'),
        ('        """The area."""\n', ""),
        ('"""A module."""\n', ""),
        ("x += 1", "x+=1"),
        ("x += 1\n", "x += 1\n\n            # a comment\n"),
        ("return math.pi, text", "return (  # why\n            math.pi, text)"),
    ],
)
def test_what_is_no_code_does_not_count(old: str, new: str) -> None:
    assert old in BEFORE
    changed = code(BEFORE.replace(old, new))
    expected = code(BEFORE.replace("math.pi, text", "(math.pi, text)")) if "return" in old else code(BEFORE)
    assert changed == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 3", "size = 4"),
        ("            x *= 2", "        x *= 2"),  # no longer under the if
        ("!r:>{", "!r:<{"),
        ("'a'", "'A'"),
        ('"b"', '" b"'),
        ("import math", "import cmath as math"),
        ("x += 1", "x -= 1"),
        ('        """The area."""\n', '        text = """The area."""\n'),
        ("            x += 1\n", ""),
    ],
)
def test_what_is_code_does(old: str, new: str) -> None:
    assert old in BEFORE and code(BEFORE.replace(old, new)) != code(BEFORE)


def test_the_code_is_told_in_the_same_way_by_every_python() -> None:
    """Its digest, as this file's first version gave it under Python 3.11; later ones see parts of f-strings."""
    assert hashlib.sha256(code(BEFORE).encode()).hexdigest()[:16] == "f22d366465adc6e5"
    assert '\0f"{x!r:>{self.size}} of \'a\'"\0"b"\0' in code(BEFORE)


def test_a_change_without_a_version_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = current()
    record = tmp_path / "versions.json"
    monkeypatch.setitem(globals(), "RECORD", record)
    write()
    test_no_code_changes_under_an_unchanged_version()
    for change, message in (
        ({"code": "0"}, r"raise the version of CAM, or say that nothing changes: python tests/store"),
        ({"code": "0", "version": 99}, "write them down"),
        ({"version": 99}, "write them down"),
    ):
        record.write_text(json.dumps(entry | {"CAM": entry["CAM"] | change}))
        with pytest.raises(AssertionError, match=message):
            test_no_code_changes_under_an_unchanged_version()
    record.write_text(json.dumps(entry | {"Gone": entry["CAM"]}))
    with pytest.raises(AssertionError, match="write them down"):
        test_no_code_changes_under_an_unchanged_version()


if __name__ == "__main__":
    write()
