"""The ground truth as supervision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seg.data.image_folder import ImageFolder
from seg.data.prepared import Pool, Prepared, PreparedData
from seg.errors import SegError
from seg.store import Store
from seg.supervision.mask import LabelledSubset, TargetScores, read_ids


def test_the_target_is_the_score_and_its_border_is_unknown(store: Store, data: PreparedData, pool: Pool) -> None:
    scores = store.get(TargetScores(pool=pool))
    target = data.target(scores.rows[:3])
    expected = np.select([target == 0, target == 1], [0.0, 1.0], np.nan)
    np.testing.assert_array_equal(scores.argmax(np.arange(3))[0], expected)
    assert (target == 254).any()


def test_labels_are_not_blended_at_another_size(store: Store, pool: Pool) -> None:
    scores = store.get(TargetScores(pool=pool))
    made = scores.argmax(np.arange(3), (17, 23))[0]
    assert made.shape == (3, 17, 23) and set(np.unique(made[~np.isnan(made)])) == {0, 1}
    twice = scores.argmax(np.arange(3), (128, 128))[0]
    np.testing.assert_array_equal(twice[:, ::2, ::2], scores.argmax(np.arange(3))[0])
    np.testing.assert_array_equal(twice[:, 1::2, 1::2], scores.argmax(np.arange(3))[0])


def test_data_without_a_target_are_refused_before_they_are_decoded(
    new_store: Store, photos: Callable[..., Path]
) -> None:
    pool = Pool(data=Prepared(source=ImageFolder(root=str(photos())), size=32))
    with pytest.raises(SegError, match="no trainval image has ground truth; use supervision=cam or bbox"):
        TargetScores(pool=pool).check(new_store)
    with pytest.raises(SegError, match=r"no image of the data has ground truth.*data\.images=all"):
        Pool(data=pool.data, images="with_masks").check(new_store)
    assert not new_store.has(pool.data)


# -- of a few images -----------------------------------------------------------------------------------


def test_draws_are_nested_of_one_seed_and_even_over_classes(store: Store, data: PreparedData, pool: Pool) -> None:
    rows = [set(store.get(LabelledSubset(pool=pool, count=n, seed=3)).rows.tolist()) for n in (2, 4, 9)]
    assert [len(one) for one in rows] == [2, 4, 9] and rows[0] < rows[1] < rows[2]
    assert not data.is_test[list(rows[2])].any()
    for one in rows:
        assert np.ptp(np.bincount(data.labels[list(one)], minlength=2)) <= 1
    others = {tuple(store.get(LabelledSubset(pool=pool, count=4, seed=seed)).rows) for seed in range(5)}
    assert len(others) > 1


def test_a_list_names_them(store: Store, data: PreparedData, pool: Pool, tmp_path: Path) -> None:
    rows = np.flatnonzero(~data.is_test)[[5, 2, 9]]
    ids = [data.ids[row] for row in rows]
    path = tmp_path / "list.txt"
    path.write_text(f"# image\tnote\n{ids[0]}\t0.93\tcat\n\n{ids[1]}\n{ids[2]}\n{ids[1]}\n")
    assert read_ids(path) == ids
    every = LabelledSubset(pool=pool, file=str(path))
    assert store.get(every).rows.tolist() == sorted(rows)
    first = LabelledSubset(pool=pool, file=str(path), count=2)
    assert store.get(first).rows.tolist() == sorted(rows[:2])
    # What it means is the key: not where it lies, how it goes on, or the seed of no draw.
    other = tmp_path / "other.txt"
    other.write_text(f"{ids[0]}\n{ids[1]}\n")
    assert LabelledSubset(pool=pool, file=str(other), count=2, seed=7).key == first.key != every.key


def test_what_there_is_not_is_refused_before_the_work(
    store: Store, data: PreparedData, pool: Pool, tmp_path: Path
) -> None:
    first = data.ids[int(np.flatnonzero(~data.is_test)[0])]
    for count, text, message in (
        (100, None, r"^labelled\.count=100: only \d+ trainval images that get a mask have ground truth; lower it$"),
        (0, f"nobody\n{first}\nnone\n", r"2 of its ids are of no trainval image .*\(nobody, none\); take"),
        (3, f"{first}\n", r"^labelled\.count=3: .* names only 1 images; lower it$"),
        (0, "# nothing\n", r"list\.txt: not read; give a text file with an image id per line$"),
    ):
        (tmp_path / "list.txt").write_text(text or "")
        few = LabelledSubset(pool=pool, count=count, file=str(tmp_path / "list.txt") if text else None)
        for refused in (few.check, lambda own, few=few: own.get(few)):
            with pytest.raises(SegError, match=message):
                refused(store)
