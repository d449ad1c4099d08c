"""What a stage computes does not change under an unchanged version, and so under an unchanged key.

``versions.json`` has, by stage, its version and a hash of its code. ``python tests/store/test_versions.py`` writes it.
"""

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import seg
from seg.store import Stage
from seg.store.code import ASIDE, Code, code

CODE = Code()
RECORD = Path(__file__).with_name("versions.json")
COMMAND = "python tests/store/test_versions.py"


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
    return CODE.modules_of(stage)


def current() -> dict[str, dict[str, str | int]]:
    """What the record should say."""
    return {
        name: {
            "version": stage.version,
            "code": str(CODE.of_class(stage)),
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
    assert {"CAM", "Classifier", "Evaluated", "Pretrained", "Prepared", "Segmenter", "Threshold", "Walk"} <= set(found)
    assert not {"Stage", "Training", "ScoreStage", "Source"} & set(found)
    assert "seg.nets.walk" in found["Walk"] and "seg.nets.walk" not in found["Classifier"]
    # Of its base, and what that imports inside a function.
    assert {"seg.train.training", "seg.train.loop", "seg.nets.backbones"} <= found["Classifier"]
    assert {"seg.supervision.scores", "seg.nets.resize"} <= found["CAM"]
    assert "seg.nets.unet" in found["Segmenter"] and "seg.data.decode" in found["Prepared"]
    # What another stage's version stands for is not its own.
    assert "seg.supervision.classifier" not in found["CAM"]
    assert not [name for names in found.values() for name in names if name.startswith(ASIDE)]


def test_which_modules_define_stages_is_told_without_importing_them() -> None:
    stages()  # imports all
    with_stages = {cls.__module__ for cls in subclasses(Stage) if cls.__module__.startswith("seg.")}
    names = [module.name for module in pkgutil.walk_packages(seg.__path__, "seg.")]
    assert {name for name in names if CODE.defines_stages(name) and not name.startswith(ASIDE)} == with_stages


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
