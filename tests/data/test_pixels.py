"""Labelled pixels from files and from ground truth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg.data.image_folder import ImageFolder
from seg.data.pixels import LabelledPixels, PixelLabels
from seg.data.prepared import Pool, Prepared, PreparedData
from seg.errors import SegError
from seg.store import Store

HEADING = "file,x,y,class\n"


@pytest.fixture
def pool(photos: Callable[..., Path]) -> Pool:
    """Cats and dogs, 60 x 40 pixels each, whose masks tell the classes apart."""
    return Pool(data=Prepared(source=ImageFolder(root=str(photos())), size=32), task="classes")


def write(tmp_path: Path, text: str, name: str = "points.csv") -> dict[str, Any]:
    (tmp_path / name).write_text(text)
    return {"points": str(tmp_path / name)}


def test_points_and_scribbles_of_files(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    given = write(tmp_path, f"{HEADING}cat1.png,59,39,cat\ndog/dog2.png,0,20.7,background\ncat1.png,3,4,background\n")
    (tmp_path / "drawn").mkdir()
    scribble = np.zeros((40, 60), np.uint8)
    scribble[5, 10:20], scribble[6, 30] = 255, 2
    Image.fromarray(scribble).save(tmp_path / "drawn/dog1.png")
    pixels: LabelledPixels = new_store.get(PixelLabels(pool=pool, scribbles=str(tmp_path / "drawn"), **given))
    data: PreparedData = new_store.get(pool.data)
    grid = {name: pixels.grid(data.row_of[name], (40, 60)) for name in ("cat1", "dog1", "dog2")}
    assert (grid["cat1"][39, 59], grid["cat1"][4, 3], grid["dog2"][20, 0]) == (1, 0, 0)
    assert [(one != 255).sum() for one in grid.values()] == [2, 11, 1]
    assert not grid["dog1"][5, 10:20].any() and grid["dog1"][6, 30] == 2
    assert pixels.classes(data.row_of["dog1"]) == [2] and pixels.classes(data.row_of["dog2"]) == []
    assert not pixels.has(data.row_of["cat2"])


def test_json_says_what_csv_says(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    cells = [("cat1.png", 7, 9, "cat"), ("dog3.png", 1, 2, "background")]
    csv = write(tmp_path, HEADING + "".join(",".join(map(str, row)) + "\n" for row in cells))
    objects = [dict(zip(("file", "x", "y", "class"), row, strict=True)) for row in cells]
    one, two = (
        new_store.get(PixelLabels(pool=pool, **p)) for p in (csv, write(tmp_path, json.dumps(objects), "p.json"))
    )
    for name in ("first", "at", "codes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,x,y,klass\ncat1.png,1,1,cat\n", r"points.csv line 2: lacks class; a point has file,x,y,class$"),
        (f"{HEADING}cat1.png,1,1,cat\ncat2.png,one,1,cat\n", r"points.csv line 3: one, 1 are no pixels x,y"),
        (f"{HEADING}cat1.png,60,1,cat\n", r"points.csv line 2: the point x=60 y=1 is outside of cat1.png, 60 x 40$"),
        (f"{HEADING}cat1.png,1,1,catt\n", r"points.csv line 2: 'catt' is no class of cat1.png, .* cat, background;"),
        (f"{HEADING}cow1.png,1,1,cat\n", r"points.csv line 2: 'cow1.png' is no image of the data"),
        (HEADING, r"pixels.points=.*points.csv: has no point"),
    ],
)
def test_a_line_that_fits_nothing_is_named(
    new_store: Store, pool: Pool, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SegError, match=message) as refused:
        PixelLabels(pool=pool, **write(tmp_path, text)).check(new_store)
    assert "\n" not in str(refused.value) and not new_store.has(pool.data)


def test_a_scribble_of_a_class_that_its_image_lacks_is_refused(new_store: Store, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    Image.fromarray(np.full((40, 60), 2, np.uint8)).save(tmp_path / "drawn/cat1.png")
    with pytest.raises(SegError, match=r"drawn/cat1.png: 'dog' is no class of cat1.png"):
        PixelLabels(pool=pool, scribbles=str(tmp_path / "drawn")).check(new_store)


def test_simulated_ones_are_trainvals_and_an_oracle(store: Store, data: PreparedData, prepared: Prepared) -> None:
    stages = [PixelLabels(pool=Pool(data=prepared), simulate="points", seed=seed) for seed in (0, 1)]
    assert stages[0].is_oracle and not PixelLabels(pool=stages[0].pool).is_oracle
    one, two = map(store.get, stages)
    counts = np.diff(one.first)
    assert not counts[data.is_test].any() and (counts[~data.is_test] == 2).all()
    assert not np.array_equal(one.at, two.at)
    row = int(np.flatnonzero(~data.is_test)[0])
    target, grid = data.original_target(row), one.grid(row, tuple(data.sizes[row].tolist()))
    np.testing.assert_array_equal(grid[grid != 255] > 0, target[grid != 255] > 0)
