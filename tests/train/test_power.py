"""A loss of power at every point: whatever the disk holds then, the next run gives what an undisturbed one gives."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from line import Line, damaged_files, make, same
from safetensors.torch import load_file

from seg.store import Runtime, Stage, Store, param

#: The calls after which a file system may hold something else if the power goes.
CALLS = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir")


@dataclass
class OnDisk:
    """What of a file or folder is on the disk: its content, or the names in it."""

    content: bytes = b""
    names: "dict[str, OnDisk]" = field(default_factory=dict)
    is_folder: bool = False


class Disk:
    """What would be left of a folder after a loss of power, noted after every call that changes it.

    The content of a file is as of its last fsync. Names are taken both ways that a file system may have them: at once
    ("eager", as a journal of names alone has them), and as of the last fsync of their folder ("lazy").
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.told = 0
        self.worlds: dict[tuple[tuple[str, bytes | None], ...], int] = {}
        self._known: dict[int, OnDisk] = {}
        for name in CALLS:
            monkeypatch.setattr(os, name, self._noting(name, getattr(os, name)))

    def _noting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            out = call(*args, **kwargs)
            if name == "fsync":
                self._sync(Path(os.readlink(f"/proc/self/fd/{args[0]}")))
            self._note()
            return out

        return noting

    def _of(self, path: Path) -> OnDisk:
        return self._known.setdefault(path.stat().st_ino, OnDisk(is_folder=path.is_dir()))

    def _sync(self, path: Path) -> None:
        if path.is_dir():
            self._of(path).names = {one.name: self._of(one) for one in path.iterdir()}
        else:
            self._of(path).content = path.read_bytes()

    def _note(self) -> None:
        paths = list(self.root.rglob("*"))
        eager = {
            path.relative_to(self.root).as_posix(): None if path.is_dir() else self._of(path).content for path in paths
        }
        lazy = dict(_below(self._of(self.root)))
        for world in (eager, lazy):
            self.worlds.setdefault(tuple(sorted(world.items())), self.told)
        # The number of a file that is gone may be given to another.
        alive = {path.stat().st_ino for path in (*paths, self.root)}
        self._known = {number: one for number, one in self._known.items() if number in alive}

    def after(self, folder: Path) -> Iterator[tuple[Path, int]]:
        """Each that there may be, as a folder of its own, and what had been told when it was first so."""
        for number, (world, told) in enumerate(self.worlds.items()):
            place = folder / str(number)
            place.mkdir(parents=True)
            for name, content in world:
                if content is None:
                    (place / name).mkdir(parents=True)
                else:
                    (place / name).write_bytes(content)
            yield place, told


def _below(folder: OnDisk, place: str = "") -> Iterator[tuple[str, bytes | None]]:
    for name, one in folder.names.items():
        yield place + name, None if one.is_folder else one.content
        yield from _below(one, f"{place}{name}/")


@pytest.mark.parametrize("keep", ["all", "last"])
def test_a_training_survives_a_loss_of_power_at_any_point(
    new_store: Store, tmp_path: Path, runtime: Runtime, keep: str
) -> None:
    stage = make(keep=keep)
    new_store.root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(new_store.root, patch)

        def tell(_: Any) -> None:
            disk.told += 1

        new_store.with_callback(tell).ensure(stage)
    expected = load_file(new_store.folder(stage) / stage.file_name)
    assert disk.told == 3 and len(disk.worlds) > 20
    resumed = set()
    for place, told in disk.after(tmp_path / "worlds"):
        Line.trained.clear()
        store = Store(place, runtime)
        found = store.get(stage).state_dict()
        assert same({name: value.cpu() for name, value in found.items()}, expected), place
        # No epoch that was told of is trained again, so that one is lost at most: that which was being trained.
        assert len(Line.trained) <= 10 * (3 - told), (place, told)
        assert stage.history(store)["epoch"].tolist() == [1, 2, 3]
        resumed.add(len(Line.trained) // 10)
        if Line.trained:
            assert not damaged_files(store.folder(stage)), place
    assert resumed == {0, 1, 2, 3}


class Two(Stage):
    """Two files, one of them in a folder."""

    number: int = param(1)

    def build(self, out: Path, store: Store) -> None:
        (out / "sub").mkdir()
        (out / "sub/a.txt").write_text("a" * self.number)
        (out / "b.txt").write_text("b" * self.number)

    def load(self, path: Path, store: Store) -> str:
        return (path / "sub/a.txt").read_text() + (path / "b.txt").read_text()


def test_a_product_survives_a_loss_of_power_at_any_point(new_store: Store, tmp_path: Path, runtime: Runtime) -> None:
    stage = Two(number=3)
    new_store.root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(new_store.root, patch)
        new_store.ensure(stage)
    built = set()
    for place, _ in disk.after(tmp_path / "worlds"):
        # What has the name of a product is one: nothing has to be built anew.
        there = (place / "Two" / stage.key).exists()
        assert not there or not damaged_files(place / "Two" / stage.key), place
        store = Store(place, runtime)
        assert store.get(stage) == "aaabbb"
        built.add(len(store.builds))
    assert built == {0, 1}
