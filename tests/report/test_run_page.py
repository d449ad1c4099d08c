"""report.html: what it says, what it shows, and that a real browser can use it."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import chromium
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

needs_browser = pytest.mark.skipif(chromium.find() is None, reason="no chromium here (apt install chromium)")


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


@pytest.fixture(scope="module")
def page(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """The report, open in a browser."""
    program = chromium.find()
    assert program is not None
    page = chromium.Page(program, tmp_path_factory.mktemp("profile"))
    page.open(made / "report.html")
    yield page
    page.close()


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
    assert 'href="#classes"' in text and 'data-codes="' in text
    plain = text_of(made / "report.html")
    assert "IoU foreground" in plain and 'id="classes"' not in plain and "data-codes=" not in plain
    assert not (made / "classes.csv").exists()


def test_without_target_nothing_is_measured_and_the_pictures_are_there(untrue: Path) -> None:
    text = text_of(untrue / "report.html")
    assert "Nothing was measured" in text and "not measured, for want of ground truth" in text
    assert text.count("<li data-label") == 32
    assert "worst IoU" not in text and '<option value="name">' in text
    assert ">ground truth</button>" not in text and ">seeds</button>" in text


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


# -- in a browser --------------------------------------------------------------------------------------

SHOWN = "[...document.querySelectorAll('#cards li:not([hidden])')]"
PICTURES = f"{SHOWN}.map(card => [...card.querySelectorAll('img')].filter(x => x.checkVisibility()).map(x => x.alt))"


@needs_browser
def test_it_opens_without_complaint_and_asks_for_nothing(page: chromium.Page, made: Path) -> None:
    assert page.errors == []
    outside = [url for url in page.requests if not url.startswith("data:")]
    assert outside == [(made / "report.html").absolute().as_uri()]
    broken = "[...document.images].filter(x => x.checkVisibility() && !(x.complete && x.naturalWidth)).length"
    assert page.js(broken) == 0


@needs_browser
def test_toggles_change_the_picture(page: chromium.Page) -> None:
    names = page.js("[...document.querySelectorAll('#controls [data-show]')].map(x => x.textContent)")
    assert names == ["photo", "score map", "seeds", "PlainUNet prediction", "ground truth"]
    for i, name in enumerate(names):
        page.js(f"document.querySelectorAll('#controls [data-show]')[{i}].click()")
        pictures = page.js(PICTURES)
        assert len(pictures) == 24 and all(len(one) == 1 and one[0].endswith(f": {name}") for one in pictures)
        pressed = "[...document.querySelectorAll('#controls [aria-pressed=true]')].map(x => x.textContent)"
        assert page.js(pressed) == [name]
    sources = page.js(f"{SHOWN}.map(card => new Set([...card.querySelectorAll('img')].map(x => x.src)).size)")
    assert min(sources) >= 4  # seeds may be as the prediction is; the others differ


@needs_browser
def test_filter_and_order(page: chromium.Page) -> None:
    change = "const x = document.getElementById('{}'); x.value = '{}'; x.dispatchEvent(new Event('change'))"

    def choose(name: str, value: str) -> list[dict[str, str]]:
        page.js(f"(() => {{ {change.format(name, value)} }})()")
        found: list[dict[str, str]] = page.js(f"{SHOWN}.map(card => ({{...card.dataset}}))")
        return found

    cards = choose("order", "worst 1")
    ious = [float(card["ious"].split()[1]) for card in cards]
    assert len(cards) == 24 and ious == sorted(ious) and len(set(ious)) > 1
    ious = [float(card["ious"].split()[0]) for card in choose("order", "worst 0")]
    assert ious == sorted(ious) and len(set(ious)) > 1
    ious = [float(card["ious"].split()[1]) for card in choose("order", "best 1")]
    assert ious == sorted(ious, reverse=True)
    names = [card["name"] for card in choose("order", "name")]
    assert sorted(names) == sorted(set(names)) and len(names) == 24
    one = cards[0]["label"]
    some = choose("label", one)
    assert len(some) == 12 and {card["label"] for card in some} == {one}
    assert "of 12 of 24" in page.js("document.getElementById('status').textContent")
    both = choose("split", "test")
    assert 0 < len(both) < 12 and {(card["label"], card["split"]) for card in both} == {(one, "test")}
    choose("split", "")
    assert len(choose("label", "")) == 24


@needs_browser
def test_by_keyboard(page: chromium.Page) -> None:
    page.js("document.querySelectorAll('#controls [data-show]')[0].focus()")
    page.press("Tab")
    page.press("Enter")
    pressed = "document.querySelector('#controls [aria-pressed=true]').textContent"
    assert page.js(pressed) == "score map"
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("3")
    assert page.js(pressed) == "seeds"
    page.js("document.querySelector('#cards .open').focus()")
    page.press("Enter")
    assert page.js("document.getElementById('zoom').open")
    title = "document.getElementById('zoomed').textContent"
    first = page.js(title)
    wide = "document.querySelector('#large img').getBoundingClientRect().width"
    assert page.js(wide) > 2 * page.js("document.querySelector('#cards img:not([hidden])').clientWidth")
    page.press("ArrowRight")
    second = page.js(title)
    assert first != second and second.endswith(": seeds")
    page.press("1")
    assert page.js(title).endswith(": photo") and page.js("document.querySelector('#large img').alt").endswith(
        ": photo"
    )
    page.press("ArrowLeft")
    assert page.js(title) == first.replace("seeds", "photo")
    page.press("Escape")
    assert not page.js("document.getElementById('zoom').open")
    assert page.js("document.activeElement.className") == "open"
    assert page.errors == []


@needs_browser
def test_every_picture_has_words_and_no_page_is_wider_than_the_window(page: chromium.Page) -> None:
    assert page.js("[...document.images].every(x => x.alt.length > 3)")
    unnamed = (
        "[...document.querySelectorAll('button, select')].filter(x => !(x.ariaLabel || x.textContent.trim())).length"
    )
    assert page.js(unnamed) == 0
    for width in (1280, 360):
        page.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        assert page.js("document.documentElement.scrollWidth <= innerWidth"), width
    page.send("Emulation.clearDeviceMetricsOverride")
    page.send("Emulation.setEmulatedMedia", media="print")  # paper has the pictures and no controls
    assert not page.js("document.getElementById('controls').checkVisibility()")
    assert page.js("document.querySelector('#cards img:not([hidden])').checkVisibility()")
    page.send("Emulation.setEmulatedMedia", media="")


@needs_browser
def test_without_target_it_works_too(untrue: Path, tmp_path: Path) -> None:
    page = chromium.Page(str(chromium.find()), tmp_path)
    try:
        page.open(untrue / "report.html")
        page.js("document.querySelectorAll('#controls [data-show]')[0].click()")
        assert {one[0].split(": ")[1] for one in page.js(PICTURES)} == {"photo"}
        names = page.js(f"{SHOWN}.map(card => card.dataset.name)")
        assert len(names) == 32 and page.errors == []
    finally:
        page.close()
