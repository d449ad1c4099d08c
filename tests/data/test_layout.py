"""The hash of files' contents, and what remembers it."""

import os
import shutil
from pathlib import Path

import pytest

from seg.data.layout import content_fingerprint, files_by_stem, nfc
from seg.data.read_report import ReadReport

FILES = ("a.jpg", "b.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    for name in FILES:
        (tmp_path / "files" / name).write_text(name)
    return tmp_path / "files"


def fingerprint(folder: Path, cache: Path | None = None) -> str:
    return content_fingerprint(str(folder), [(p.name, p) for p in sorted(folder.iterdir())], cache)


def test_fingerprint_is_of_names_and_contents(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == before
    (tmp_path / "copy/a.jpg").rename(tmp_path / "copy/c.jpg")
    assert fingerprint(tmp_path / "copy") != before
    (folder / "b.png").write_text("other")
    assert fingerprint(folder) != before


def test_the_cache_saves_reading(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache/hashes.json"
    read: list[str] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path.name), real(path))[1])
    before = fingerprint(folder, cache)
    assert read == ["hashes.json", *FILES]
    read.clear()
    assert fingerprint(folder, cache) == before and read == ["hashes.json"]
    # Same size, another time and content: only this file is read again.
    (folder / "a.jpg").write_bytes(b"x" * 5)
    os.utime(folder / "a.jpg", (1, 1))
    read.clear()
    assert fingerprint(folder, cache) != before and read == ["hashes.json", "a.jpg"]


@pytest.mark.parametrize("content", ["", "[]", '{"folder": 1}', '{"folder": "PLACE", "files": {"images/x.jpg": 3}}'])
def test_a_broken_or_unwritable_cache_is_done_without(folder: Path, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "hashes.json"
    cache.write_text(content.replace("PLACE", str(folder)))
    assert fingerprint(folder, cache) == fingerprint(folder) == fingerprint(folder, cache / "below/a/file")


def test_files_by_stem(folder: Path) -> None:
    found = ReadReport()
    for name in ("a.PNG", "._a.jpg", "notes.txt", "cafe\u0301.jpg"):
        (folder / name).touch()
    files = files_by_stem(folder, (".jpg", ".png"), found)
    assert {stem: path.name for stem, path in files.items()} == {
        "a": "a.jpg",
        "b": "b.png",
        nfc("cafe\u0301"): "cafe\u0301.jpg",
    }
    assert sorted(found.warnings.values()) == [1, 1]
