"""report.html: what it says and what it shows."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from within import call

from seg.data.prepared import Prepared, PreparedData
from seg.format import size
from seg.report.page import LIMIT
from seg.report.run_page import MOST_CLASSES, by_class
from seg.store import Store
from seg.supervision.mask import read_ids

TINY = [
    "data.prepared.source.images=24",
    "data.prepared.source.breeds=2",
    "data.prepared.source.size=48",
    "data.size=64",
    "epoch=1",
    "threshold=0.5",
    "runtime.accelerator=cpu",
    "runtime.threads=1",
    "evaluation.panel=0",
]
UNET = ["segmenter=unet", "segmenter.epochs=1", "segmenter.net.width=4", "segmenter.net.depth=2"]


def run(folder: Path, *arguments: str) -> str:
    status, printed = call(folder, *arguments)
    assert status == 0, printed
    return printed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has seeds and a prediction."""
    here = tmp_path_factory.mktemp("run")
    printed = run(here, *TINY, *UNET, "hydra.run.dir=out")
    assert "out/report.html" in printed
    return here / "out"


@pytest.fixture(scope="module")
def classes(made: Path) -> Path:
    """The folder of a run whose masks tell classes apart."""
    run(made.parent, *TINY, *UNET, "task=classes", "hydra.run.dir=classes")
    return made.parent / "classes"


@pytest.fixture(scope="module")
def untrue(store: Store, data: PreparedData, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on 32 pictures without any ground truth."""
    here = tmp_path_factory.mktemp("untrue")
    shutil.copytree(store.folder(prepared.source) / "oxford-iiit-pet", here / "oxford-iiit-pet")
    shutil.rmtree(here / "oxford-iiit-pet/annotations/trimaps")
    options = ["data=oxford_pet", f"data.root={here}", "data.size=64", "weights=null", "pipeline=cam"]
    run(here, *(x for x in TINY if not x.startswith("data.")), *options, "hydra.run.dir=out")
    return here / "out"


def text_of(path: Path) -> str:
    """The page without its pictures."""
    return re.sub(r"data:image/[^\"]*", "", path.read_text())


def test_the_figures_are_those_of_the_table(made: Path) -> None:
    text = text_of(made / "report.html")
    assert "python -m seg.run " + " ".join([*TINY, *UNET]) in text
    with (made / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        cells = [row["split"], row["images"], f"{float(row['miou']):.4f}", f"{float(row['iou_foreground']):.4f}"]
        found = re.search(
            rf"<tr><th[^>]*>{re.escape(row['stage']).replace('>', '&gt;')}</th><td>{row['split']}.*</tr>", text
        )
        assert found is not None and all(cell in found.group() for cell in cells)


def test_time_and_size_of_every_stored_stage(made: Path) -> None:
    text = text_of(made / "report.html")
    for stage in ("ToyPets", "Prepared", "Classifier", "CAM", "Segmenter", "Predicted"):
        (folder,) = (made.parent / "outputs/store" / stage).glob("*[!k]")
        total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        row = re.search(rf"<tr><th scope=\"row\">{stage}</th>.*</tr>", text)
        assert row is not None and folder.name in row.group() and size(total) in row.group()


def test_nothing_in_the_page_has_to_be_fetched(made: Path) -> None:
    text = text_of(made / "report.html")
    assert not re.search(r"(src|href)=\"(?!#|\"|data:)", text)
    assert "url(" not in text and "@import" not in text and "http:" not in text and "https:" not in text
    assert "default-src 'none'" in text
    assert (made / "report.html").stat().st_size < LIMIT


def test_of_classes_it_has_the_iou_of_each_and_what_is_taken_for_what(made: Path, classes: Path) -> None:
    text = text_of(classes / "report.html")
    with (classes / "classes.csv").open() as file:
        rows = [x for x in csv.DictReader(file) if (x["stage"], x["split"]) == ("PlainUNet prediction", "test")]
    assert len(rows) == 3 and rows[0]["class"] == "background"
    colours = ("#000000", "#800000", "#008000")
    for row, colour in zip(rows, colours, strict=True):
        said = f"{float(row['iou']):.4f}" if row["iou"] else "–"
        bar = rf'<i style="background:{colour}"></i>{row["class"]}</th><td class="bar".*<span>{said}</span>'
        assert re.search(bar, text), row
        assert f'<i style="background:{colour}"></i>{row["class"]}</span>' in text  # the legend of the pictures
        if int(row["pixels_of_target"]):
            share = 100 * int(row["pixels_right"]) / int(row["pixels_of_target"])
            own = rf'class="right".* title="{row["class"]}, called {row["class"]}: {share:.1f} %"'
            assert share < 0.5 or re.search(own, text), row
    assert "IoU classes</th>" in text and "IoU foreground" not in text
    assert 'href="#classes"' in text
    plain = text_of(made / "report.html")
    assert "IoU foreground" in plain and 'id="classes"' not in plain
    assert not (made / "classes.csv").exists()


def test_without_target_nothing_is_measured_and_the_pictures_are_there(untrue: Path) -> None:
    text = text_of(untrue / "report.html")
    assert "Nothing was measured" in text and "not measured, for want of ground truth" in text
    assert text.count('class="open"') == 32
    assert "the worst come first" not in text and ">ground truth</span>" not in text and ">seeds</span>" in text


def test_what_to_annotate_next(made: Path) -> None:
    text = text_of(made / "report.html")
    ids = read_ids(made / "annotate_next.txt")
    shown = re.findall(r"<figcaption><b>(\w+)</b> \w+, [01]\.\d\d</figcaption>", text)
    assert shown == ids[:20] and len(ids) == 16  # those of trainval
    assert "of which CAM (label) &gt;= 0.5, PlainUNet prediction disagree most" in text  # seeds are the first again
    assert "labelled.list=annotate_next.txt labelled.count=16" in text
    assert not (made / "true_masks.txt").exists() and "true_masks.txt" not in text


def test_true_masks_are_named_and_in_no_figure_of_trainval(made: Path) -> None:
    first = read_ids(made / "annotate_next.txt")[:4]
    listed = f"labelled.list={made / 'annotate_next.txt'}"
    printed = run(made.parent, *TINY, *UNET, listed, "labelled.count=4", "hydra.run.dir=few")
    assert "true masks: 4, of trainval images that are left out of trainval's figures" in printed
    few = made.parent / "few"
    assert sorted(read_ids(few / "true_masks.txt")) == sorted(first)
    assert not set(first) & set(read_ids(few / "annotate_next.txt"))
    text = text_of(few / "report.html")
    assert "ground truth of 4 trainval images was learnt from; no figure is of them" in text
    both = [json.loads((folder / "metrics.json").read_text()) for folder in (made, few)]
    assert "true_masks" not in both[0]["header"]
    assert (both[1]["header"]["true_masks"], both[1]["header"]["share"]) == (4, 0.3)
    old, new = ({(row["stage"], row["split"]): row for row in one["rows"]} for one in both)
    for (stage, split), row in new.items():
        assert row["images"] == old[stage, split]["images"] - (4 if split == "trainval" else 0)
        if split == "test" and "prediction" not in stage:
            assert row == old[stage, split]


@pytest.mark.parametrize("count", [3, 100])  # all classes, and the most that are shown
def test_what_masks_take_classes_for(count: int) -> None:
    matrix = np.diag(np.arange(1000, 1000 + count))
    matrix[-2, -1] = 50
    row = {"stage": "seeds", "split": "test", "matrix": matrix.tolist(), "coverage": 1.0, "iou_background": 0.5}
    row["iou_by_class"] = {f"class {i}": 0.25 for i in range(1, count)}
    found = by_class([row, row | {"stage": "prediction"}, row | {"coverage": 0.5}])
    assert found is not None and (found.stage, found.pixels) == ("prediction", matrix.sum())
    assert len(found.figures) == count and len(found.names) == len(found.shares) == min(count, MOST_CLASSES)
    assert found.names[0] == "background" and found.names[-2:] == [f"class {count - 2}", f"class {count - 1}"]
    assert found.shares[-2, -1] == 50 / matrix[-2].sum() and found.shares[-1, -1] == 1
    assert by_class([]) is None and by_class([{"stage": "seeds", "split": "test", "coverage": 1.0}]) is None
