"""The sources as stages."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from seg.data.dataset import Dataset
from seg.data.prepared import Prepared
from seg.data.sources import OxfordPet, ToyPets
from seg.errors import SegError
from seg.store import Store

Official = Callable[..., Path]


def test_the_toy_is_drawn_once_and_says_that_it_is_one(
    store: Store, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = prepared.source
    dataset: Dataset = store.get(source)
    assert dataset.is_toy and "TOY" in source.title and "32 drawn" in source.title
    assert store.get(prepared).title == source.title
    assert len(dataset.records) == 32 and len(dataset.classes) == 2
    assert {r.split for r in dataset.records} == {"trainval", "test"}
    monkeypatch.setattr("seg.data.toy.pets.draw_toy_pets", lambda *_, **__: pytest.fail("drawn again"))
    again: Dataset = Store(store.root, store.runtime).get(ToyPets(images=32, breeds=2, size=48))
    assert again.records == dataset.records


def test_what_is_drawn_enters_the_key() -> None:
    keys = {ToyPets(**changed).key for changed in ({}, {"images": 40}, {"breeds": 3}, {"size": 64}, {"seed": 1})}  # type: ignore[arg-type]
    assert len(keys) == 5


def test_species_are_other_labels_of_the_same_pictures(official: Official, store: Store, prepared: Prepared) -> None:
    root = official()
    breeds, species = OxfordPet(root=str(root)), OxfordPet(root=str(root), labels="species")
    assert breeds.key == OxfordPet(root=str(root), labels="breed").key != species.key
    assert breeds.params() == {"content": breeds.fingerprint}  # as before there was a choice
    assert "labels" not in ToyPets().params() and ToyPets(labels="species").key != ToyPets().key
    drawn: Dataset = store.get(ToyPets(images=32, breeds=2, size=48, labels="species"))
    theirs: Dataset = store.get(prepared.source)
    assert set(drawn.classes) <= {"cat", "dog"} and [r.id for r in drawn.records] == [r.id for r in theirs.records]
    with pytest.raises(SegError, match=r"OxfordPet.labels='colour': must be one of breed, species"):
        OxfordPet(root=str(root), labels="colour")  # type: ignore[arg-type]


def test_the_content_is_the_identity_wherever_it_lies(official: Official, tmp_path: Path) -> None:
    root = official()
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    one, two = OxfordPet(root=str(root)), OxfordPet(root=str(copy), title="other", cache=str(tmp_path / "c.json"))
    assert one.key == two.key
    assert OxfordPet(root=str(root / "oxford-iiit-pet")).key == one.key
    trimap = copy / "oxford-iiit-pet/annotations/trimaps/beagle_1.png"
    trimap.write_bytes(trimap.read_bytes() + b"\0")
    assert OxfordPet(root=str(copy)).key != one.key


def test_with_a_cache_the_files_are_hashed_once(
    official: Official, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = official(), tmp_path / "cache.json"
    key = OxfordPet(root=str(root), cache=str(cache)).key
    assert cache.exists()
    monkeypatch.setattr(Path, "read_bytes", lambda p: p.open("rb").read() if p == cache else pytest.fail(str(p)))
    assert OxfordPet(root=str(root), cache=str(cache)).key == key


def test_without_data_both_ways_to_get_them_are_named(tmp_path: Path, new_store: Store) -> None:
    source = OxfordPet(root=str(tmp_path / "none"))
    for refused in (lambda: source.check(new_store), lambda: source.key):
        with pytest.raises(SegError, match=r"data.download=true.*annotations.tar.gz") as error:
            refused()
        assert "\n" not in str(error.value) and str(tmp_path / "none") in str(error.value)
    source.acquire()  # nothing was asked to be fetched
    assert not (tmp_path / "none").exists()


def test_download_fetches_what_is_not_there(
    official: Official, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("seg.data.sources.download_oxford_pet", asked.append)
    OxfordPet(root=str(official()), download=True).acquire()
    assert asked == []
    OxfordPet(root=str(tmp_path / "none"), download=True).acquire()
    assert asked == [tmp_path / "none"]


def test_bad_boxes_and_empty_classes_are_refused_before_any_work(official: Official, new_store: Store) -> None:
    root = official("bad")
    xml = root / "oxford-iiit-pet/annotations/xmls/beagle_1.xml"
    good = xml.read_text()
    for wrong in (good.replace("<xmax>25", "<xmax>5"), good.replace("<xmax>25", "<xmax>900"), good[:-30]):
        xml.write_text(wrong)
        with pytest.raises(SegError, match=r"beagle_1\.xml") as error:
            OxfordPet(root=str(root)).check(new_store)
        assert "\n" not in str(error.value)
    xml.write_text(good)
    OxfordPet(root=str(root)).check(new_store)
    trainval = root / "oxford-iiit-pet/annotations/trainval.txt"
    trainval.write_text("\n".join(x for x in trainval.read_text().splitlines() if "beagle" not in x) + "\n")
    with pytest.raises(SegError, match="empty class: 'beagle'"):
        OxfordPet(root=str(root)).check(new_store)
    assert not new_store.root.exists()
