"""What other code made is told by name, and removed or accepted; equal builds give equal files."""

import importlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from within import TINY, call

from seg.store import Store
from seg.store.__main__ import main
from seg.store.code import Code
from seg.store.inventory import products

MODULE = '''"""Two stages and what they use."""

from pathlib import Path
from typing import Any

from seg.store import Parameters, Stage, Store, param


class Shape(Parameters):
    side: int = param(default=2)


class First(Stage):
    shape: Shape

    def build(self, out: Path, store: Store) -> None:
        (out / "x").write_text("1")  # one

    def load(self, path: Path, store: Store) -> str:
        return (path / "x").read_text()


class Then(Stage):
    first: First

    def build(self, out: Path, store: Store) -> None:
        (out / "x").write_text(store.get(self.first) + "2")

    def load(self, path: Path, store: Store) -> str:
        return (path / "x").read_text()
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """The top stage of a module of a user's own, with one text of it changed; as a new process sees it."""
    from seg.store import parameters
    from seg.store import store as module
    from seg.store.code import place

    path = tmp_path / "mine_of_code.py"
    monkeypatch.syspath_prepend(tmp_path)
    defined = dict(parameters._defined)

    def make(source: str) -> Any:
        path.write_text(source)
        place.cache_clear()
        sys.modules.pop("mine_of_code", None)
        importlib.invalidate_caches()
        found = importlib.import_module("mine_of_code")
        here = Code()
        monkeypatch.setattr(here, "_files", [])
        monkeypatch.setattr(module, "code_here", lambda root: here)
        return found.Then(first=found.First(shape=found.Shape()))

    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    yield make
    sys.dont_write_bytecode = before
    sys.modules.pop("mine_of_code", None)
    place.cache_clear()
    parameters._defined.clear()
    parameters._defined.update(defined)


def told(store: Store, stage: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        new = Store(store.root, store.runtime)
        new.tell_of_other_code([stage])
        new.tell_of_other_code([stage])
    return [r.getMessage() for r in caplog.records]


def test_what_other_code_made_is_told_once_by_name(
    new_store: Store, mine: Callable[[str], Any], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = mine(MODULE)
    assert new_store.get(stage) == "12"
    code = new_store.manifest(stage)["code"]  # type: ignore[index]
    assert sorted(code) == ["First", "Shape", "Then"] and all(re.fullmatch("[0-9a-f]{16}", x) for x in code.values())
    assert told(new_store, stage, caplog) == []
    # A comment, a docstring and the order of lines say nothing.
    assert told(new_store, mine(MODULE.replace("# one", "# another")), caplog) == []
    changed = mine(MODULE.replace('"1"', '"3"'))
    (said,) = told(new_store, changed, caplog)
    assert (
        "First, Shape, Then" in said and f"python -m seg.store rebuild First Shape Then store={new_store.root}" in said
    )
    assert Store(new_store.root, new_store.runtime).get(changed) == "12"  # it is used all the same

    assert main(["accept", "First", "--store", str(new_store.root)]) == 0
    (said,) = told(new_store, changed, caplog)
    assert "First" not in said and "Shape, Then" in said
    assert main(["accept", f"store={new_store.root}"]) == 0
    assert told(new_store, changed, caplog) == []
    assert main(["accept", "First", "--store", str(new_store.root)]) == 1
    assert "no run has told of other code of it" in capsys.readouterr().err

    again = mine(MODULE.replace('"1"', '"4"'))
    assert len(told(new_store, again, caplog)) == 1
    assert main(["rebuild", f"store={new_store.root}"]) == 0
    assert products(new_store.root) == []
    assert Store(new_store.root, new_store.runtime).get(again) == "42" and told(new_store, again, caplog) == []


def test_code_is_looked_at_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seg.refiner.pamr import PAMR
    from seg.store import code as module

    first = Code()
    first._files, first._known = [tmp_path / "code.json"], {}
    found = first.of_class(PAMR)
    first._keep()
    monkeypatch.setattr(module, "_look", lambda source: pytest.fail("looked at again"))
    second = Code()
    second._files, second._known = [], json.loads((tmp_path / "code.json").read_text())
    assert second.of_class(PAMR) == found


def test_two_stores_built_alike_are_equal_file_by_file(tmp_path: Path) -> None:
    """All but what tells of time; so two stores can be compared by their manifests."""
    chain = ["pipeline=cam_affinity", "refiner.scores.affinity.epochs=1", "refiner.scores.affinity.channels=8"]
    chain += ["segmenter=unet", "segmenter.epochs=2", "segmenter.net.width=4", "segmenter.net.depth=2"]
    contents = []
    for name in ("one", "two"):
        status, said = call(tmp_path, *TINY, *chain, f"store={name}", f"hydra.run.dir=run_{name}", "figures=false")
        assert status == 0, said
        contents.append(content(tmp_path / name))
    one, two = contents
    assert len(one) > 30 and one.keys() == two.keys()
    assert [path for path in one if one[path] != two[path]] == []


def content(store: Path) -> dict[str, Any]:
    """What is in a store's files by name, without the times that a build took."""
    out: dict[str, Any] = {}
    for path in store.glob("*/*/**/*"):
        if not path.is_file() or path.suffix == ".lock":
            continue
        name = path.relative_to(store).as_posix()
        out[name] = path.read_bytes()
        if path.name == "history.csv":  # its last column is the time of each epoch
            out[name] = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
            assert "seconds" in path.read_text().splitlines()[0].rpartition(",")[2]
        if path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            # Those of history.csv are of times, as are the manifest's own.
            files = [entry for entry in manifest["files"] if entry["name"] != "history.csv"]
            out[name] = {**manifest, "files": files, "seconds": 0, "history": 0, "crc32": 0}
    return out
