"""The download, from a server of the test's own."""

import functools
import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from seg.data.official_layout import read_official_layout
from seg.data.oxford_pet import download_oxford_pet, is_complete, missing_data_message
from seg.errors import SegError

pets = pytest.importorskip("torchvision.datasets").OxfordIIITPet


class Handler(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()


def archive(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve two tiny archives in place of the official ones; yields the folder they are served from."""
    folder = tmp_path / "server"
    folder.mkdir()
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    md5 = {
        "images": archive(folder / "images.tar.gz", {f"images/pug_{i}.jpg": picture.getvalue() for i in (1, 2)}),
        "annotations": archive(
            folder / "annotations.tar.gz",
            {"annotations/trainval.txt": b"pug_1 1 1 1\n", "annotations/test.txt": b"pug_2 1 1 1\n"},
        ),
    }
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Handler, "asked", [])
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    base = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setattr(pets, "_RESOURCES", tuple((f"{base}/{name}.tar.gz", sum_) for name, sum_ in md5.items()))
    yield folder
    httpd.shutdown()
    httpd.server_close()


def ids(root: Path) -> list[str]:
    return [record.id for record in read_official_layout(root).records]


def test_download(server: Path, tmp_path: Path) -> None:
    root = tmp_path / "deep/data"
    download_oxford_pet(root)
    assert ids(root) == ["pug_1", "pug_2"]
    assert is_complete(root)
    assert not (root / "oxford-iiit-pet/.unpacking").exists()
    Handler.asked.clear()
    download_oxford_pet(root)
    assert Handler.asked == []  # complete: the network is left alone
    assert socket.getdefaulttimeout() is None


def test_archives_put_there_by_hand_need_no_network(server: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data/oxford-iiit-pet"
    folder.mkdir(parents=True)
    for path in server.iterdir():
        path.rename(folder / path.name)
    download_oxford_pet(tmp_path / "data")
    assert ids(tmp_path / "data") == ["pug_1", "pug_2"]
    assert Handler.asked == []


def test_what_a_killed_download_left_is_not_taken_for_whole(server: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    download_oxford_pet(root)
    layout = root / "oxford-iiit-pet"
    (layout / ".unpacking").touch()
    (layout / "images/pug_2.jpg").unlink()
    (layout / "annotations/own.txt").write_text("mine")
    assert not is_complete(root)
    assert "cut off" in missing_data_message(root)
    download_oxford_pet(root)
    assert ids(root) == ["pug_1", "pug_2"]
    assert is_complete(root)
    assert (layout / "annotations.incomplete0/own.txt").read_text() == "mine"


def test_incomplete_lists_are_fetched_again(server: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    download_oxford_pet(root)
    (root / "oxford-iiit-pet/annotations/test.txt").unlink()
    download_oxford_pet(root / "oxford-iiit-pet")
    assert ids(root) == ["pug_1", "pug_2"]


def test_checksum_mismatch(server: Path, tmp_path: Path) -> None:
    with (server / "images.tar.gz").open("ab") as file:
        file.write(b"tampered")
    with pytest.raises(SegError, match="checksum mismatch") as error:
        download_oxford_pet(tmp_path / "data")
    assert "\n" not in str(error.value)
    assert "images.tar.gz" in str(error.value)
    assert not is_complete(tmp_path / "data")


def test_missing_on_the_server(server: Path, tmp_path: Path) -> None:
    (server / "annotations.tar.gz").unlink()
    with pytest.raises(SegError, match=r"cannot download .*File not found"):
        download_oxford_pet(tmp_path / "data")
    assert not is_complete(tmp_path / "data")


def test_archives_without_the_lists(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    md5 = archive(server / "annotations.tar.gz", {"annotations/list.txt": b"", "annotations/trainval.txt": b""})
    (images, sum_), (url, _) = pets._RESOURCES
    monkeypatch.setattr(pets, "_RESOURCES", ((images, sum_), (url, md5)))
    with pytest.raises(SegError, match=r"lacks annotations/test\.txt"):
        download_oxford_pet(tmp_path / "data")


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pets, "_RESOURCES", ((f"http://127.0.0.1:{port}/images.tar.gz", "0" * 32),))
    with pytest.raises(SegError, match="offline, or the server is away") as error:
        download_oxford_pet(tmp_path / "data")
    message = str(error.value)
    assert "\n" not in message
    assert "refused" in message
    assert "images.tar.gz and annotations.tar.gz" in message
    assert str(tmp_path / "data/oxford-iiit-pet") in message


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError, match="cannot download to"):
        download_oxford_pet(tmp_path / "file/data")


def test_missing_data_message_gives_both_ways(tmp_path: Path) -> None:
    message = missing_data_message(tmp_path)
    assert "\n" not in message
    assert str(tmp_path) in message
    assert "data.download=true" in message
    assert "images.tar.gz and annotations.tar.gz" in message
    assert str(tmp_path / "oxford-iiit-pet") in message
