"""Files: whole or not at all, under names and with modes that disturb nobody; arrays of rows."""

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from seg.errors import SegError
from seg.files import (
    DiskError,
    atomic_path,
    io_error,
    read_json,
    rows_file,
    seal,
    sync_tree,
    unseal,
    writable,
    write_json,
)


def everything(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def dies():
        with atomic_path(path) as tmp:
            tmp.write_text("half")
            raise RuntimeError("in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        dies()
    assert path.read_text() == "old" and everything(tmp_path) == ["a.json"]
    with atomic_path(path) as tmp:
        tmp.write_text("new")
    assert path.read_text() == "new" and everything(tmp_path) == ["a.json"]
    assert read_json(tmp_path / "none.json") is None and read_json(path / "below.json") is None
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert path.read_text() == "new" and everything(tmp_path) == ["a.json"]
    write_json(path, value := {"a": [1, 2.5, None], "b": {"c": "ä"}})
    assert read_json(path) == value


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.json"
    with atomic_path(path) as one, atomic_path(path) as two:
        assert one != two and one.parent == two.parent == tmp_path and one.suffix == two.suffix == ".tmp"
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one" and everything(tmp_path) == ["a.json"]  # which was moved last


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_the_mode_is_that_of_a_plain_file(tmp_path):
    write_json(tmp_path / "written.json", {"a": 1})
    with atomic_path(tmp_path / "narrow") as tmp:
        tmp.chmod(0o600)
    (tmp_path / "plain").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_what_can_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    assert writable(tmp_path) and writable(tmp_path / "a/b/c") and not writable(tmp_path / "file/a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.bool_])
def test_rows_come_back_as_they_were_written(tmp_path, dtype):
    """As NumPy itself would have written them, to the last byte, however many batches they came in."""
    rows = (np.random.default_rng(0).random((1234, 3, 2)) * 2).astype(dtype)
    with rows_file(tmp_path / "a.npy", dtype) as file:
        for start, end in ((0, 1), (1, 1), (1, 9), (9, 10), (10, 1234)):
            file.write(rows[start:end])
        assert file.shape == (3, 2)
    np.save(tmp_path / "b.npy", rows)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert np.load(tmp_path / "a.npy", mmap_mode="r").dtype == dtype


def test_rows_are_converted_and_have_one_shape(tmp_path):
    rows = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    with rows_file(tmp_path / "a.npy", np.float16) as file:
        file.write(rows)
        for other in ((2, 5), (2,), (0, 5)):
            with pytest.raises(ValueError, match=r"rows of .* among rows of \(4,\)"):
                file.write(np.zeros(other))
        file.write(rows[::-1])
    loaded = np.load(tmp_path / "a.npy")
    assert loaded.dtype == np.float16 and np.array_equal(loaded, np.concatenate([rows, rows[::-1]]))


def test_what_is_synced_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noted_sync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        calls.append(("fsync", "folder" if path.is_dir() else path.read_text()))
        fsync(descriptor)

    def noted_replace(source, target):
        calls.append(("replace", target.name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    with atomic_path(tmp_path / "a.txt", synced=True) as tmp:
        tmp.write_text("content")
    assert calls == [("fsync", "content"), ("replace", "a.txt")]
    calls.clear()
    with atomic_path(tmp_path / "b.txt") as tmp:
        tmp.write_text("a picture, say")
    assert calls == [("replace", "b.txt")]
    (tmp_path / "sub").mkdir()
    for number in range(9):
        (tmp_path / "sub" / f"{number}").write_text(f"{number}")
    calls.clear()
    sync_tree(tmp_path)
    assert sorted(calls[:-1]) == sorted(("fsync", x) for x in ["content", "a picture, say", *map(str, range(9))])
    assert calls[-1] == ("fsync", "folder")


@pytest.mark.parametrize(
    "value", [{"a": (1, 2), 3: "b", "c": float("nan"), "d": None, "e": 0.1}, {"crc32": "old", "x": "ü"}]
)
def test_what_is_sealed_is_unsealed_after_json(value):
    plain = json.loads(json.dumps({k: v for k, v in value.items() if k != "crc32"}))
    assert repr(unseal(json.loads(json.dumps(seal(value))))) == repr(plain)


def test_a_changed_seal_or_value_is_damaged():
    sealed = seal({"miou": 0.3314, "row": [1, 2]})
    assert unseal(sealed) == {"miou": 0.3314, "row": [1, 2]}
    for changed in ({"miou": 0.3315}, {"row": [1, 3]}, {"more": 1}, {"crc32": "00000000"}, {"crc32": None}):
        assert unseal(sealed | changed) is None
    assert unseal([1]) is None and unseal(None) is None
    assert unseal({"without": "a seal"}) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EIO])
def test_an_error_of_a_disk_names_place_and_remedy(number):
    error = RuntimeError("a library's own words")
    error.__cause__ = OSError(number, "")
    found = io_error(error, "Number 1", "/store")
    expected = rf"^Number 1: /store: {os.strerror(number)}; make room .*, or choose another store=;"
    assert isinstance(found, DiskError) and re.search(expected, str(found))
    other = io_error(OSError(number, "", "/elsewhere/run.log"), "run", "/store")
    assert "/elsewhere/run.log: " in str(other)


def test_other_errors_are_not_of_a_disk():
    for error in (ValueError("no space left on device"), SegError("x"), FileNotFoundError(errno.ENOENT, "", "x")):
        assert io_error(error, "run", "/store") is None
    memory = io_error(MemoryError("cannot allocate"), "CAM 1", "/store")
    assert "CAM 1: out of memory (cannot allocate); lower runtime.batch_size" in str(memory)
    assert not isinstance(memory, DiskError)
