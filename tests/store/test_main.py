"""Looking after a store: what is in it, and what no run refers to."""

import errno
import shutil
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from filelock import FileLock

from seg.store import Stage, Store, param
from seg.store.__main__ import main, name_of, products
from seg.store.run_folders import remember_run, remembered_runs


class Count(Stage):
    """Writes its number."""

    number: int = param(1)

    def build(self, out, store):
        (out / "sub").mkdir()
        (out / "sub" / "number.txt").write_text(str(self.number) * 1000)

    def load(self, path, store):
        return self.number


class Doubled(Stage):
    """Doubles a number."""

    of: Count

    def build(self, out, store):
        (out / "number.txt").write_text(str(2 * store.get(self.of)))


def doubled(number):
    return Doubled(of=Count(number=number))


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """Two pairs of products: ``Doubled`` of 3 and of 4, and their numbers."""
    monkeypatch.chdir(tmp_path)
    store = Store(Path("outputs/store"))
    for number in (3, 4):
        store.ensure(doubled(number))
    return store


def refer(*stages, name="one"):
    """A run folder that needs some products."""
    folder = Path("outputs/runs") / name
    folder.mkdir(parents=True, exist_ok=True)
    remember_run(Path("outputs/store"), folder, [f"{up.id}@7" for stage in stages for up in stage.walk()])
    return folder


def names(store):
    return {name_of(x) for x in products(store.root)}


def test_ls_lists_the_products_the_largest_first_also_broken_ones(filled, capsys):
    (filled.folder(Count(number=4)) / "manifest.json").write_text("{")
    main(["ls", "--store", "outputs/store"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1].split("/")[0] for line in lines[:4]] == ["Count", "Count", "Doubled", "Doubled"]
    one, other = (next(line for line in lines if Count(number=n).key in line) for n in (3, 4))
    assert "kB " in one and time.strftime("%Y-%m-%d") in one and "unfinished" in other and "unfinished" not in one
    assert lines[-1].startswith("4 products, ")


def test_a_store_that_is_not_there(filled, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["gc", "store=nowhere"])
    assert capsys.readouterr().err == "error: nowhere: there is no store; name another with store=DIR\n"


def test_gc_keeps_what_a_run_refers_to(filled, capsys):
    refer(doubled(3))
    part = filled.root / "Count" / ("cd" * 8 + ".part")
    part.mkdir()
    (part.parent / "notes.txt").touch()
    before = sorted(filled.root.rglob("*"))
    main(["gc", "--dry-run", "store=outputs/store"])
    printed = capsys.readouterr().out
    assert Count(number=4).key in printed and Count(number=3).key not in printed
    assert "would remove 3 products" in printed and sorted(filled.root.rglob("*")) == before
    main(["gc"])
    assert "to remove: 3 products" in capsys.readouterr().out
    assert names(filled) == {doubled(3).id, Count(number=3).id}
    assert (part.parent / "notes.txt").exists() and len(list(filled.root.glob("*/*.lock"))) == 2


def test_gc_never_takes_what_another_process_builds(filled, capsys):
    folder = filled.folder(Count(number=4))
    part = folder.with_name("ab" * 8 + ".part")
    part.mkdir()
    with FileLock(folder.with_suffix(".lock")), FileLock(part.with_suffix(".lock")):
        main(["gc"])
    assert part.is_dir() and names(filled) == {Count(number=4).id, f"Count/{part.name}"}
    assert f"kept: Count/{folder.name}: another process" in capsys.readouterr().out


def test_a_damaged_record_of_a_run_stops_gc(filled, capsys):
    refer(doubled(3))
    (record,) = (filled.root / "runs").glob("*.json")
    for content in (b'{"products": ', b'{"folder": "/x", "products": []}', b"\xff"):
        record.write_bytes(content)
        with pytest.raises(SystemExit, match="2"):
            main(["gc"])
        assert capsys.readouterr().err.startswith(f"error: {record}: is damaged")
    assert len(names(filled)) == 4


def test_a_run_counts_as_long_as_its_folder_is_there(filled):
    refer(doubled(3), name="../../elsewhere/run")
    gone = refer(doubled(4), name="two")
    main(["gc"])
    assert len(names(filled)) == 4
    shutil.rmtree(gone)
    main(["gc"])
    assert names(filled) == {doubled(3).id, Count(number=3).id}
    assert len(list((filled.root / "runs").glob("*.json"))) == 1


def test_a_store_on_a_read_only_disk_keeps_no_records(filled, monkeypatch):
    monkeypatch.setattr("seg.store.run_folders.write_json", Mock(side_effect=OSError(errno.EROFS, "read only")))
    refer(doubled(3))
    assert not list(remembered_runs(filled.root))
