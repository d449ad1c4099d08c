"""The store: once, whole or not at all."""

import errno
import logging
import zlib
from pathlib import Path
from typing import ClassVar
from unittest.mock import Mock

import pytest
import torch

import seg
import seg.store.manifest
from seg.errors import SegError
from seg.store import Stage, Store, param
from seg.store.runtime import so_far

calls: list[str] = []


class Number(Stage):
    """Writes its number; may be told to fail half-way."""

    fail: ClassVar[bool] = False
    number: int = param(1)

    def build(self, out, store):
        calls.append(f"build {self.number}")
        (out / "sub").mkdir()
        (out / "sub" / "half.txt").write_text("half")
        if self.fail:
            raise SegError("the build failed")
        (out / "number.txt").write_text(str(self.number))
        return {"note": self.number}

    def load(self, path, store):
        calls.append(f"load {self.number}")
        return int((path / "number.txt").read_text())


class Double(Stage):
    """Doubles a number."""

    of: Number

    def build(self, out, store):
        calls.append("build double")
        (out / "number.txt").write_text(str(2 * store.get(self.of)))

    def load(self, path, store):
        return int((path / "number.txt").read_text())


class View(Stage):
    """Not stored."""

    stored: ClassVar[bool] = False
    of: Double

    def load(self, path, store):
        return f"<{store.get(self.of)}>"


@pytest.fixture(autouse=True)
def _no_calls():
    calls.clear()


def everything(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) if folder.exists() else []


def test_a_product_is_built_once_with_what_it_needs(new_store):
    view = View(of=Double(of=Number(number=21)))
    assert not new_store.has(view)
    assert new_store.get(view) == new_store.get(view) == "<42>"
    assert calls == ["build 21", "build double", "load 21"] and new_store.has(view)
    # Another process, and equal stages made anew, find it.
    assert new_store.builds == [view.of.of.id, view.of.id]
    assert Store(new_store.root).get(View(of=Double(of=Number(number=21.0)))) == "<42>"
    assert [c for c in calls if c.startswith("build")] == ["build 21", "build double"]


def test_the_manifest(new_store, manifest):
    double = Double(of=Number(number=4))
    new_store.get(double)
    found = manifest(new_store.folder(double.of))
    assert found["stage"] == "Number" and found["key"] == double.of.key
    assert found["params"] == {"number": 4} and found["notes"] == {"note": 4} and 0 <= found["seconds"] < 60
    assert {f["name"]: (f["size"], f["crc32"]) for f in found["files"]} == {
        "number.txt": (1, f"{zlib.crc32(b'4'):08x}"),
        "sub/half.txt": (4, f"{zlib.crc32(b'half'):08x}"),
    }
    assert manifest(new_store.folder(double))["upstream"] == {"of": f"Number/{double.of.key}"}
    assert found["made_with"]["torch"] == torch.__version__.partition("+")[0]
    assert (found["made_with"]["device"], found["made_with"]["processes"]) == ("cpu", 1)


class Meddler(Stage):
    """Asks for what its key does not tell of."""

    of: Double

    def build(self, out, store):
        store.get(self.of.of)  # upstream of what is upstream
        store.get(Number(number=5))


def test_a_build_that_asks_for_what_is_not_upstream_is_a_mistake(new_store):
    other, stage = Number(number=5), Meddler(of=Double(of=Number(number=3)))
    for _ in range(2):
        with pytest.raises(TypeError, match=rf"^a build asked for {other.id}, which is not upstream of it"):
            new_store.get(stage)
        assert not new_store.has(stage) and new_store.has(stage.of)
        assert new_store.get(other) == 5  # outside of a build everybody may; then it is there


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_text("6"), Path.unlink, lambda path: (path.unlink(), path.mkdir())],
    ids=["flipped", "gone", "a folder"],
)
def test_a_damaged_file_is_noticed_when_it_is_used_and_built_anew(new_store, caplog, damage):
    double = Double(of=Number(number=5))
    new_store.ensure(double.of)
    damage(new_store.folder(double.of) / "number.txt")
    assert Store(new_store.root, new_store.runtime).get(double) == 10
    (warning,) = messages(caplog)
    assert warning == f"{double.of.id}: number.txt is damaged; it is built again"
    assert Store(new_store.root, new_store.runtime).get(double.of) == 5 and len(messages(caplog)) == 1


def test_a_file_is_read_once_in_a_process_and_its_size_compared_each_time(new_store, monkeypatch):
    monkeypatch.setattr("seg.store.store._OPEN_PRODUCTS", 1)
    read: list[str] = []
    crc32 = seg.store.manifest.file_crc32
    monkeypatch.setattr("seg.store.manifest.file_crc32", lambda path: read.append(path.name) or crc32(path))
    number = Number(number=5)
    new_store.ensure(number)
    store = Store(new_store.root, new_store.runtime)
    for n in (5, 6, 5, 6, 5):
        assert store.get(Number(number=n)) == n
    assert read.count("number.txt") == 4  # of both numbers, when it was written and at the first use
    assert calls.count("load 5") == 3
    store.get(Number(number=6))
    (store.folder(number) / "number.txt").write_text("55555")
    assert store.get(number) == 5 and store.builds.count(number.id) == 1


def test_a_disk_that_damages_all_or_may_not_be_read_is_a_clear_line(new_store, monkeypatch):
    number = Number(number=5)
    with monkeypatch.context() as broken:
        broken.setattr("seg.store.store.entry_of", lambda folder, path: {"name": path.name, "size": 9, "crc32": ""})
        with pytest.raises(SegError, match=rf"{number.key}: damaged as soon as written"):
            new_store.get(number)
    new_store.get(number)
    refused = Mock(side_effect=PermissionError(errno.EACCES, "Permission denied"))
    monkeypatch.setattr("seg.store.manifest.file_crc32", refused)
    with pytest.raises(SegError, match=r"\.txt: cannot be read \(Permission denied\)"):
        Store(new_store.root, new_store.runtime).get(number)
    assert (new_store.folder(number) / "number.txt").is_file()


def messages(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(new_store, monkeypatch):
    double = Double(of=Number(number=5))
    monkeypatch.setattr(Number, "fail", True)
    with pytest.raises(SegError, match="the build failed"):
        new_store.get(double)
    assert not new_store.folder(double.of).exists() and not new_store.has(double)
    monkeypatch.setattr(Number, "fail", False)
    assert new_store.get(double) == 10
    assert not [name for name in everything(new_store.root) if name.endswith(".part")]


def test_plan_says_what_would_happen_and_writes_nothing(new_store):
    view = View(of=Double(of=Number(number=7)))
    planned = [(p.stage, p.status, p.depth) for p in new_store.plan([view])]
    assert planned == [(view, "on the fly", 0), (view.of, "build", 1), (view.of.of, "build", 2)]
    assert everything(new_store.root) == [] and calls == []
    new_store.get(view.of.of)
    before = everything(new_store.root)
    planned = new_store.plan([view, view.of])
    assert [p.status for p in planned] == ["on the fly", "build", "built", "see above"]
    assert everything(new_store.root) == before


def test_an_unwritable_store_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError, match=r"file/store: cannot write to the store.*choose another store="):
        Store(tmp_path / "file" / "store").get(Number())


def test_a_flipped_bit_of_a_manifest_is_noticed(new_store, caplog):
    number = Number(number=5)
    new_store.ensure(number)
    path = new_store.folder(number) / "manifest.json"
    written, expected = path.read_bytes(), new_store.manifest(number)
    for place in range(0, len(written), 7):
        flipped = bytearray(written)
        flipped[place] ^= 1 << place % 7
        path.write_bytes(flipped)
        assert new_store.manifest(number) in (None, expected), bytes(flipped[place - 20 : place + 20])
    path.write_bytes(b"\xff" + written)
    store = Store(new_store.root, new_store.runtime)
    assert not store.has(number) and store.plan([number])[0].status == "build"
    assert store.get(number) == 5 and store.has(number)
    assert messages(caplog) == [f"{number.id}: manifest.json is damaged; it is built again"]


def test_a_build_says_how_far_the_run_is(new_store, caplog):
    new_store.ensure(Number(number=1))
    folder = new_store.folder(Number(number=1))
    manifest = seg.store.manifest.read_manifest(folder)
    seg.store.manifest.write_manifest(folder, {**manifest, "seconds": 45})
    two, three = Double(of=Number(number=2)), Double(of=Number(number=3))
    new_store.expect([Number(number=1), two.of, two, three.of, three])
    caplog.set_level(logging.INFO)
    for stage in (two, three):
        new_store.ensure(stage)
    said = [message.partition("building ")[2] for message in caplog.messages if "building" in message]
    assert said[:2] == ["(1 of 4, at least 1 min 30 s left)", "(2 of 4, at least 45 s left)"] and said[3] == "(4 of 4)"
    caplog.clear()
    new_store.ensure(Number(number=5))  # nobody has told of it
    assert "(" not in caplog.text and so_far.get() == ""
