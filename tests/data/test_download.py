"""The downloads of Oxford-IIIT Pet and Pascal VOC, from a server of the test's own."""

import functools
import hashlib
import shutil
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from seg.data.pets import OxfordPet
from seg.data.sources import Source
from seg.data.voc import Voc
from seg.errors import SegError
from seg.store import Store

datasets = pytest.importorskip("torchvision.datasets")
Served = tuple[Callable[[Path], Source], Path, Path]


def pack(archive: Path, files: dict[str, Path]) -> str:
    """Write an archive; its checksum."""
    with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as tar:
        for name, path in files.items():
            tar.add(path, name)
    return hashlib.md5(archive.read_bytes()).hexdigest()


@pytest.fixture(params=["pets", "voc"])
def served(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    official: Callable[..., Path],
    voc: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Served]:
    """The source by its root, the last archive that is fetched, and the folder below the root that is unpacked."""
    out = tmp_path / "server"
    out.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=str(out)))
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{httpd.server_port}"
    if request.param == "pets":
        folder = official("original") / "oxford-iiit-pet"
        names = ("images", "annotations")
        parts = tuple((f"{url}/{n}.tar.gz", pack(out / f"{n}.tar.gz", {n: folder / n})) for n in names)
        monkeypatch.setattr(datasets.OxfordIIITPet, "_RESOURCES", parts)
        yield lambda root: OxfordPet(root=str(root), download=True), out / "annotations.tar.gz", Path(folder.name)
    else:
        from torchvision.datasets.voc import DATASET_YEAR_DICT as YEARS

        root = voc("original")
        for path in root.rglob("*.xml"):
            path.write_text(path.read_text().replace(">apple<", ">bird<").replace(">pear<", ">cat<"))
        archive = out / YEARS["2012"]["filename"]
        md5 = pack(archive, {"VOCdevkit/VOC2012": root / "VOCdevkit/VOC2012"})
        monkeypatch.setitem(YEARS, "2012", YEARS["2012"] | {"url": f"{url}/{archive.name}", "md5": md5})
        yield lambda root: Voc(root=str(root), download=True), archive, Path("VOCdevkit/VOC2012")
    httpd.shutdown()
    httpd.server_close()


def test_download_and_again(served: Served, tmp_path: Path, new_store: Store) -> None:
    make, archive, folder = served
    root = tmp_path / "deep/data"
    own = root / folder / ("" if folder.name.startswith("VOC") else "annotations")
    own.mkdir(parents=True)
    (own / "own.txt").write_text("mine")
    make(root).acquire()
    assert new_store.get(make(root)).records and socket.getdefaulttimeout() is None
    # What lay there is renamed.
    assert [p.read_text() for p in own.parent.glob(f"{own.name}.incomplete-*/own.txt")] == ["mine"]
    # What a killed download left is not taken for whole.
    (root / folder / ".unpacking").touch()
    gone = next((root / folder).rglob("*.jpg"))
    gone.unlink()
    with pytest.raises(SegError, match=r"a download that was cut off.*data\.download=true"):
        new_store.get(make(root))
    make(root).acquire()
    assert gone.is_file() and not (root / folder / ".unpacking").exists() and new_store.get(make(root)).records
    shutil.rmtree(archive.parent)
    make(root).acquire()  # complete: nothing is fetched


def test_archives_put_there_by_hand_are_used(served: Served, tmp_path: Path, new_store: Store) -> None:
    make, archive, folder = served
    place = tmp_path / "data" / (folder if folder.name.startswith("oxford") else "")
    shutil.move(archive.parent, place)
    make(tmp_path / "data").acquire()
    assert new_store.get(make(tmp_path / "data")).records


def test_a_download_that_fails(served: Served, tmp_path: Path) -> None:
    make, archive, _ = served
    archive.write_bytes(archive.read_bytes() + b"tampered")
    with pytest.raises(SegError, match="corrupted") as error:
        make(tmp_path / "data").acquire()
    assert "\n" not in str(error.value) and "unpack the official" in str(error.value)
    archive.unlink()
    with pytest.raises(SegError, match=r"cannot download .*404.*; try again, or"):
        make(tmp_path / "data").acquire()
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError, match="cannot download"):
        make(tmp_path / "file/data").acquire()


@pytest.mark.parametrize(("make", "archive"), [(OxfordPet, "annotations.tar.gz"), (Voc, "VOCtrainval")])
def test_without_data_both_ways_to_get_them_are_named(
    tmp_path: Path, new_store: Store, make: Callable[..., Source], archive: str
) -> None:
    source = make(root=str(tmp_path / "none"))
    source.acquire()  # nothing was asked to be fetched
    assert not (tmp_path / "none").exists()
    for refused in (lambda: source.check(new_store), lambda: source.key):
        with pytest.raises(SegError, match=rf"missing: .*data\.download=true.*{archive}.*data\.root") as error:
            refused()
        assert "\n" not in str(error.value) and str(tmp_path / "none") in str(error.value)
