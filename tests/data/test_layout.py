"""Where the official layout is looked for, and the hash of what it contains."""

import os
import shutil
from pathlib import Path

import pytest

from seg.data.layout import MissingDataError, layout_fingerprint, layout_folder, missing_parts

FILES = (
    "images/beagle_3.jpg",
    "annotations/trimaps/beagle_3.png",
    "annotations/xmls/beagle_3.xml",
    "annotations/trainval.txt",
    "annotations/test.txt",
)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    layout = tmp_path / "root/oxford-iiit-pet"
    for name in FILES:
        (layout / name).parent.mkdir(parents=True, exist_ok=True)
        (layout / name).write_text(name)
    return layout


def test_folder_and_missing_parts(layout: Path, tmp_path: Path) -> None:
    assert layout_folder(layout) == layout_folder(layout.parent) == layout
    assert missing_parts(layout) == missing_parts(layout.parent) == ()
    assert missing_parts(tmp_path / "nowhere") == ("oxford-iiit-pet",)
    shutil.rmtree(layout / "images")
    (layout / "annotations/test.txt").unlink()
    assert missing_parts(layout) == ("images", "annotations/test.txt")


def test_fingerprint_is_of_the_content_only(layout: Path, tmp_path: Path) -> None:
    before = layout_fingerprint(layout.parent, None)
    moved = tmp_path / "elsewhere"
    shutil.copytree(layout, moved)
    (moved / "images/._x.jpg").write_bytes(b"x")
    (moved / "readme.md").write_bytes(b"x")
    assert layout_fingerprint(moved, None) == before == layout_fingerprint(layout, None)
    (moved / "images/beagle_3.jpg").rename(moved / "images/beagle_4.jpg")
    assert layout_fingerprint(moved, None) != before


@pytest.mark.parametrize("name", [*FILES, "annotations/list.txt"])
def test_fingerprint_sees_every_file(layout: Path, tmp_path: Path, name: str) -> None:
    cache = tmp_path / "cache/hashes.json"
    before = layout_fingerprint(layout, cache)
    assert layout_fingerprint(layout, cache) == before
    with (layout / name).open("ab") as file:
        file.write(b" ")
    after = layout_fingerprint(layout, cache)
    assert after != before
    assert after == layout_fingerprint(layout, None)


def test_fingerprint_cache_saves_reading(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "hashes.json"
    read: list[str] = []
    real = Path.read_bytes

    def spy(path: Path) -> bytes:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", spy)
    before = layout_fingerprint(layout, cache)
    assert "beagle_3.jpg" in read
    read.clear()
    assert layout_fingerprint(layout, cache) == before
    assert read == ["hashes.json"]
    # Same size, another time and content: only this file is read again.
    changed = layout / "images/beagle_3.jpg"
    changed.write_bytes(b"x" * changed.stat().st_size)
    os.utime(changed, (1, 1))
    read.clear()
    assert layout_fingerprint(layout, cache) != before
    assert read == ["hashes.json", "beagle_3.jpg"]


@pytest.mark.parametrize("content", ["", "[]", '{"folder": 1}', '{"folder": "PLACE", "files": {"images/x.jpg": 3}}'])
def test_fingerprint_survives_a_broken_cache(layout: Path, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "hashes.json"
    cache.write_text(content.replace("PLACE", str(layout.resolve())))
    assert layout_fingerprint(layout, cache) == layout_fingerprint(layout, None)


def test_fingerprint_survives_an_unwritable_cache(layout: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert layout_fingerprint(layout, tmp_path / "file/hashes.json") == layout_fingerprint(layout, None)


def test_fingerprint_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError):
        layout_fingerprint(tmp_path, None)
