"""Looking after a store: what is in it, what is damaged, what nobody needs."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from within import TINY, call

from seg.files import read_json
from seg.store import Stage, Store, param
from seg.store.__main__ import main
from seg.store.inventory import find, problems, products, stale, without_epoch
from seg.store.run_folders import remember_run, remembered_runs

ROOT = Path(__file__).parents[2]


class Count(Stage):
    """Writes its number."""

    number: int = param(1)

    def build(self, out: Path, store: Store) -> None:
        (out / "sub").mkdir()
        (out / "sub" / "number.txt").write_text(str(self.number) * 1000)

    def load(self, path: Path, store: Store) -> int:
        return self.number


class Doubled(Stage):
    """Doubles a number."""

    of: Count

    def build(self, out: Path, store: Store) -> None:
        (out / "number.txt").write_text(str(2 * store.get(self.of)))

    def load(self, path: Path, store: Store) -> None:
        return None


class Shown(Stage):
    """Is never stored."""

    stored: ClassVar[bool] = False
    of: Doubled

    def load(self, path: Path, store: Store) -> None:
        return store.get(self.of)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with ``outputs/runs``."""
    (tmp_path / "outputs/runs").mkdir(parents=True)
    monkeypatch.setenv("COLUMNS", "160")  # whatever terminal the tests run in
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def filled(place: Path) -> Store:
    """Two pairs of products: ``Doubled`` of 3 and of 4."""
    store = Store(Path("outputs/store"))
    for number in (3, 4):
        store.ensure(Doubled(of=Count(number=number)))
    return store


def refer(*stages: Stage, name: str = "one") -> None:
    """A run folder that needs some products."""
    folder = Path("outputs/runs") / name
    folder.mkdir(parents=True, exist_ok=True)
    remember_run(Path("outputs/store"), folder, [stage.id for stage in stages])


def names(store: Store) -> set[str]:
    return {x.name for x in products(store.root)}


def name(stage: Stage) -> str:
    return f"{type(stage).__name__}/{stage.key}"


@pytest.fixture
def held() -> Iterator[Callable[[Path], None]]:
    """Let another process hold a lock until the test ends."""
    processes = []

    def hold(path: Path) -> None:
        code = "import sys, filelock; l = filelock.FileLock(sys.argv[1]); l.acquire(); print('x', flush=True); input()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "x\n"

    yield hold
    for process in processes:
        process.communicate("\n", timeout=30)


# -- ls, show ------------------------------------------------------------------------------------------


def test_ls_says_what_there_is(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--sort", "size", "--store", "outputs/store"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["stage", "key", "size", "time"]
    assert [line.split()[0] for line in lines[1:5]] == ["Count", "Count", "Doubled", "Doubled"]
    key = Count(number=3).key
    (line,) = [line for line in lines if key in line]
    assert "number=3" in line and time.strftime("%Y-%m-%d") in line
    assert lines[-1].startswith("4 products, ")
    product = find(filled.root, key)
    assert product.bytes == 1000 + (product.folder / "manifest.json").stat().st_size
    assert main(["verify"]) == 0
    assert "every file is as it was written" in capsys.readouterr().out


def test_last_used_is_when_it_was_loaded(filled: Store) -> None:
    stage = Doubled(of=Count(number=3))
    path = filled.folder(stage) / "manifest.json"
    for file in (path, path.with_name("number.txt")):
        os.utime(file, (1_000_000, 1_000_000))
    made = find(filled.root, stage.key)
    assert made.made == made.used == 1_000_000
    Store(filled.root).ensure(stage)  # is not looked into
    assert find(filled.root, stage.key).used == 1_000_000
    fresh = Store(filled.root)
    fresh.get(Shown(of=stage))
    product = find(filled.root, stage.key)
    assert product.made == 1_000_000 and abs(product.used - time.time()) < 60
    recent = time.time() - 600
    os.utime(path, (recent, recent))
    Store(filled.root).get(stage)  # within the hour: not worth a write
    assert path.stat().st_mtime == pytest.approx(recent, abs=1)


def test_show_by_the_beginning_of_a_key(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Doubled(of=Count(number=3))
    assert main(["show", stage.key[:9], "store=outputs/store"]) == 0
    shown = capsys.readouterr().out
    assert f"of: {name(stage.of)}" in shown
    assert read_json(filled.folder(stage) / "manifest.json")["files"][0]["crc32"] in shown
    assert main(["show", f"Count/{stage.of.key}"]) == 0
    assert "number: 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "ffffffffffffffffffff"], "no product"),
        (["show", ""], "may be any of"),
        (["gc", "store=nowhere"], "nowhere: there is no store"),
    ],
)
def test_bad_input_is_one_line(
    filled: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and len(said.splitlines()) == 1


# -- verify --------------------------------------------------------------------------------------------


def flip(folder: Path) -> None:
    path = folder / "sub/number.txt"
    path.write_text(path.read_text()[:-1] + "x")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "checksum": (flip, "sub/number.txt has another checksum"),
    "size": (lambda x: (x / "sub/number.txt").write_text("33"), "sub/number.txt has 2 bytes, not 1000"),
    "missing": (lambda x: (x / "sub/number.txt").unlink(), "sub/number.txt is missing"),
    "manifest": (lambda x: (x / "manifest.json").write_text('{"stage": "Cou'), "manifest.json is damaged"),
    "no manifest": (lambda x: (x / "manifest.json").unlink(), "manifest.json is missing"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_verify_names_what_is_broken_and_repair_moves_it(
    filled: Store, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    stage = Count(number=3)
    DAMAGE[what][0](filled.folder(stage))
    assert main(["verify"]) == 1
    printed = capsys.readouterr().out
    assert f"{name(stage)}: {DAMAGE[what][1]}" in printed and "1 damaged" in printed
    assert main(["verify", "--repair"]) == 0
    printed = capsys.readouterr().out
    assert DAMAGE[what][1] in printed and f"moved to {stage.key}.damaged; the next run" in printed
    assert main(["verify"]) == 0 and name(stage) not in names(filled) and len(names(filled)) == 3
    store = Store(filled.root)
    assert store.get(Count(number=3)) == 3 and store.builds == [stage.id]
    assert stale(filled.root) == [filled.folder(stage).with_suffix(".damaged")]
    refer(*(Doubled(of=Count(number=n)) for n in (3, 4)))
    assert main(["gc", "--yes"]) == 0
    assert stale(filled.root) == [] and len(names(filled)) == 4


def test_a_product_under_a_wrong_name_is_broken(filled: Store) -> None:
    folder = filled.folder(Count(number=3))
    other = folder.with_name("0" * 16)
    shutil.copytree(folder, other)
    assert problems(find(filled.root, "0" * 16)) == {"manifest.json": f"is of {name(Count(number=3))}"}


def test_what_is_being_built_is_not_broken(
    filled: Store, capsys: pytest.CaptureFixture[str], held: Callable[[Path], None]
) -> None:
    folder = filled.folder(Count(number=3))
    (folder / "manifest.json").unlink()
    held(folder.with_name(folder.name + ".lock"))
    assert main(["verify"]) == 0
    assert "1 left out" in capsys.readouterr().out


# -- gc ------------------------------------------------------------------------------------------------


def test_gc_dry_run_says_it_and_removes_nothing(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    refer(Doubled(of=Count(number=3)))
    before = sorted(filled.root.rglob("*"))
    assert main(["gc", "--dry-run", "store=outputs/store"]) == 0
    printed = capsys.readouterr().out
    assert Count(number=4).key in printed and Count(number=3).key not in printed
    assert "to remove: 2 products, 0 others" in printed and "dry run" in printed
    assert sorted(filled.root.rglob("*")) == before


@pytest.mark.parametrize(("answer", "left"), [("", 4), ("n", 4), ("YES", 2)])
def test_gc_asks_first(filled: Store, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    refer(Doubled(of=Count(number=3)))
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    assert main(["gc"]) == (0 if left == 2 else 1)
    assert len(names(filled)) == left


def test_a_run_that_begins_while_gc_asks_keeps_its_products(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(prompt: str) -> str:
        refer(Doubled(of=Count(number=4)), name="new")
        return "y"

    monkeypatch.setattr("builtins.input", begin)
    assert main(["gc"]) == 0
    assert names(filled) == {name(Doubled(of=Count(number=4))), name(Count(number=4))}


def test_gc_never_takes_what_another_process_holds(
    filled: Store, capsys: pytest.CaptureFixture[str], held: Callable[[Path], None]
) -> None:
    folder = filled.folder(Count(number=4))
    broken = folder.with_name("ab" * 8 + ".part")
    broken.mkdir()
    held(folder.with_name(folder.name + ".lock"))
    held(broken.with_name("ab" * 8 + ".lock"))
    assert main(["gc", "--yes"]) == 0
    assert folder.is_dir() and broken.is_dir() and names(filled) == {name(Count(number=4))}
    assert f"left alone: Count/{folder.name}" in capsys.readouterr().out


def test_gc_works_on_a_full_disk(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock can be made there, by no other process either."""
    refer(Doubled(of=Count(number=3)))
    for lock in filled.root.glob("*/*.lock"):
        lock.unlink()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("filelock.FileLock.acquire", full)
    assert main(["gc", "--yes"]) == 0
    assert names(filled) == {name(Doubled(of=Count(number=3))), name(Count(number=3))}


def test_gc_takes_what_broken_builds_and_trainings_left(
    filled: Store, held: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    refer(Doubled(of=Count(number=3)), Doubled(of=Count(number=4)))
    part = filled.root / "Count" / ("cd" * 8 + ".part")
    part.mkdir()
    (part / "half").write_text("half")
    alone, foreign = (filled.root / "Count" / name for name in ("ef" * 8 + ".lock", "notes.txt"))
    for path in (part.with_suffix(".lock"), alone, foreign):
        path.touch()
    assert {path.name for path in stale(filled.root)} == {part.name, alone.name}
    free, busy = (filled.folder(Count(number=n)) / "state.pt.12ab34cd.tmp" for n in (3, 4))
    for path in (free, busy):
        path.write_text("half")
    held(busy.parent.with_suffix(".lock"))
    assert main(["verify"]) == 0
    assert "2 half written files of killed processes" in capsys.readouterr().out
    assert main(["gc", "--yes"]) == 0
    assert f"{free}: left by a killed process" in capsys.readouterr().out
    assert not any(path.exists() for path in (part, part.with_suffix(".lock"), alone, free))
    assert foreign.exists() and busy.exists() and len(names(filled)) == 4


def test_files_that_a_power_cut_left_in_runs_folders_are_removed(filled: Store) -> None:
    refer(Doubled(of=Count(number=3)), Doubled(of=Count(number=4)))
    run = Path("outputs/runs/one")
    (run / "models").mkdir()
    left = [run.parent / f"{x}.12ab34cd.tmp" for x in ("one/metrics.json", "one/models/segmenter.json", "results.csv")]
    kept = [run / "notes.tmp", run / "run.log.12ab34ce.tmp"]  # a user's own, and a new one
    for path in left + kept:
        path.write_text("half")
    for path in left + kept[:1]:
        os.utime(path, (0, 0))
    assert main(["gc", "--yes"]) == 0
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)
    assert len(names(filled)) == 4


@pytest.mark.parametrize("content", ['{"products": ', '{"folder": "/x", "products": []}', "\xff"])
def test_a_damaged_record_of_a_run_stops_gc(filled: Store, capsys: pytest.CaptureFixture[str], content: str) -> None:
    refer(Doubled(of=Count(number=3)))
    (record,) = (filled.root / "runs").glob("*.json")
    record.write_bytes(content.encode("latin-1"))
    assert main(["gc", "--yes"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {record}: is damaged") and said.count("\n") == 1
    assert len(names(filled)) == 4


def test_a_run_counts_as_long_as_its_folder_is_there(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Doubled(of=Count(number=3))
    refer(kept, name="../../elsewhere/x/run")
    refer(Doubled(of=Count(number=4)), name="two")
    assert main(["gc", "--yes"]) == 0 and len(names(filled)) == 4
    shutil.rmtree("outputs/runs/two")
    assert main(["gc", "--yes"]) == 0
    assert f"{Path('outputs/runs/two').resolve()}: a run's folder that is gone" in capsys.readouterr().out
    assert names(filled) == {name(kept), name(kept.of)} and len(list((filled.root / "runs").glob("*.json"))) == 1
    assert not list(filled.root.glob("*/*.part")) and len(list(filled.root.glob("*/*.lock"))) == 2


# -- with real runs ------------------------------------------------------------------------------------


def test_what_a_run_refers_to_is_what_it_finds_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*more: str) -> str:
        status, printed = call(tmp_path, *TINY, *more)
        assert status == 0, printed
        return printed

    run("hydra.run.dir=outputs/runs/a")
    store = Path("outputs/store")
    everything = {x.name for x in products(store)}
    ((_, folder, needed),) = remembered_runs(store)
    assert (folder, set(map(without_epoch, needed))) == (Path("outputs/runs/a").resolve(), everything)
    assert main(["verify"]) == 0
    assert call(tmp_path, "hydra.run.dir=outputs/runs/b", "data=image_folder", "data.root=nowhere")[0] == 1
    run("hydra.run.dir=outputs/runs/c", "threshold=0.3")
    shutil.rmtree("outputs/runs/a")
    assert main(["gc", "--yes"]) == 0
    left = {x.name for x in products(store)}
    assert {x.partition("/")[0] for x in everything - left} == {"Evaluated"}
    assert "building" not in run("hydra.run.dir=outputs/runs/d", "threshold=0.3")
