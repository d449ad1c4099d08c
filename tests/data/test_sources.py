"""The drawn sources as stages."""

import pytest

from seg.data.dataset import Dataset
from seg.data.prepared import Prepared
from seg.data.toys import ToyPets, ToyScenes
from seg.store import Store


def test_the_toy_is_drawn_once_and_says_that_it_is_one(
    store: Store, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = prepared.source
    dataset: Dataset = store.get(source)
    assert "TOY" in source.title and "32 drawn" in source.title
    assert store.get(prepared).title == source.title
    assert len(dataset.records) == 32 and len(dataset.classes) == 2
    assert {r.split for r in dataset.records} == {"trainval", "test"}
    monkeypatch.setattr("seg.data.toy.generate.draw_toy_pets", lambda *_, **__: pytest.fail("drawn again"))
    again: Dataset = Store(store.root, store.runtime).get(ToyPets(images=32, breeds=2, size=48))
    assert again.records == dataset.records


def test_what_is_drawn_enters_the_key() -> None:
    changes = ({}, {"images": 40}, {"breeds": 3}, {"size": 64}, {"seed": 1})
    keys = {toy(**changed).key for toy in (ToyPets, ToyScenes) for changed in changes}  # type: ignore[arg-type]
    assert len(keys) == 10 and ToyPets(labels="species").key not in keys
