"""report.html: what it says, what it shows, and that a real browser can use it."""

import csv
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from seg.data.prepared import PreparedData
from seg.format import duration, size
from seg.masks import MaskSet
from seg.report import gallery as galleries
from seg.report.gallery import make_gallery, sample
from seg.report.page import LIMIT, write_page
from seg.store import Runtime
from seg.supervision.scores import StoredScores

sys.path.insert(0, str(Path(__file__).parents[1]))
import chromium

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
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "seg.run", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has seeds and a prediction."""
    here = tmp_path_factory.mktemp("run")
    printed = run(here, *TINY, *UNET, "hydra.run.dir=out")
    assert "out/report.html" in printed
    return here / "out"


@pytest.fixture(scope="module")
def untrue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the same pictures without any truth."""
    here = tmp_path_factory.mktemp("untrue")
    run(here, *TINY, "pipeline=cam", "hydra.run.dir=first", "figures=false")
    (toy,) = (here / "outputs/store/ToyPets").glob("*/oxford-iiit-pet")
    for trimap in (toy / "annotations/trimaps").glob("*.png"):
        trimap.unlink()
    data = ["data=oxford_pet", f"data.root={toy.parent}", "data.size=64", "weights=null"]
    run(here, *(x for x in TINY if not x.startswith("data.")), *data, "pipeline=cam", "hydra.run.dir=out")
    assert not (here / "first/report.html").exists()
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
    with (made / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        cells = [row["split"], row["images"], f"{float(row['miou']):.4f}", f"{float(row['iou_foreground']):.4f}"]
        found = re.search(
            rf"<tr><th[^>]*>{re.escape(row['stage']).replace('>', '&gt;')}</th><td>{row['split']}.*</tr>", text
        )
        assert found is not None and all(cell in found.group() for cell in cells)


def test_the_command_and_the_differences(made: Path) -> None:
    text = text_of(made / "report.html")
    assert "python -m seg.run " + " ".join([*TINY, *UNET]) in text
    for key, old, new in [("epoch", "12", "1"), ("segmenter", "none", "unet"), ("segmenter.net.width", "16", "4")]:
        row = rf"<code>{re.escape(key)}</code></th><td><code>{old}</code></td><td><code>{new}</code>"
        assert re.search(row, text), key
    assert "<code>segmenter.lr</code>" not in text  # comes with the choice


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


def test_without_truth_nothing_is_measured_and_the_pictures_are_there(untrue: Path) -> None:
    text = text_of(untrue / "report.html")
    assert "Nothing was measured" in text and "not measured, for want of a truth" in text
    assert text.count("<li data-label") == 24
    assert "worst IoU" not in text and '<option value="name">' in text
    assert ">truth</button>" not in text and ">seeds</button>" in text


def test_figures_false_writes_no_report(made: Path) -> None:
    run(made.parent, *TINY, "figures=false", "hydra.run.dir=plain")
    assert (made.parent / "plain/metrics.json").is_file()
    assert not (made.parent / "plain/report.html").exists()


# -- the sample ----------------------------------------------------------------------------------------


def many(data: PreparedData, count: int, classes: int, side: int = 16) -> PreparedData:
    """``count`` images of noise, the last third for the test."""
    rng = np.random.default_rng(0)
    return dataclasses.replace(
        data,
        classes=tuple(f"class <{i}>" for i in range(classes)),
        images=rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
        truth=rng.integers(0, 3, (count, side, side), dtype=np.uint8),
        ids=[f"image_{i}" for i in range(count)],
        labels=np.arange(count) % classes,
        is_test=np.arange(count) >= count * 2 // 3,
        has_truth=np.ones(count, bool),
        sizes=np.full((count, 2), (300, 400)),
    )


def masks_of(data: PreparedData) -> dict[str, MaskSet]:
    rng = np.random.default_rng(1)
    values = rng.random((len(data), 8, 8)).astype(np.float16)
    scores = StoredScores(data, np.arange(len(data)), values)
    return {"CAM (label) >= 0.5": MaskSet(scores, 0.5, 0.5), "seeds": MaskSet(scores, 0.4, 0.6)}


def test_the_sample_is_even_over_splits_and_classes(data: PreparedData) -> None:
    big = many(data, 600, 10)
    chosen = sample(big, np.arange(600), 40)
    assert len(set(chosen.tolist())) == 40
    for part in (chosen, chosen[:20]):
        groups = {(bool(big.is_test[r]), int(big.labels[r])) for r in part}
        assert len(groups) == 20
    few = sample(big, np.arange(600), 7)
    assert len(few) == 7 and len({int(big.labels[r]) for r in few}) >= 5 and 0 < big.is_test[few].sum() < 7
    assert sorted(sample(big, np.arange(5), 40).tolist()) == [0, 1, 2, 3, 4]


def test_a_small_group_does_not_shorten_the_sample(data: PreparedData) -> None:
    big = many(data, 90, 3)
    rows = np.flatnonzero((big.labels != 0) | (np.arange(90) == 0))
    assert len(sample(big, rows, 30)) == 30


def test_worst_first_and_the_iou_is_that_of_the_mask(data: PreparedData) -> None:
    small = many(data, 12, 3)
    gallery = make_gallery(masks_of(small), "ignore", Runtime(progress=False))
    ious = [card.ious["seeds"] for card in gallery.cards]
    assert len(ious) == 12 and ious == sorted(ious) and gallery.total == 12
    card = gallery.cards[0]
    row = small.ids.index(card.id)
    mask = masks_of(small)["seeds"].at(np.asarray([row]))[0]
    counted = (small.truth[row] < 2) & (mask != 255)
    pred, truth = mask[counted] == 1, small.truth[row][counted] == 1
    assert card.ious["seeds"] == pytest.approx((pred & truth).sum() / (pred | truth).sum())
    assert card.width / card.height == pytest.approx(400 / 300, rel=0.1)
    assert gallery.columns == ["photo", "score map", "seeds", "truth"]


def test_the_pictures_stay_below_their_limit(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(galleries, "MOST_CHARACTERS", 300_000)
    noise = many(data, 60, 5, side=96)  # noise is what JPEG can do least about
    gallery = make_gallery(masks_of(noise), "ignore", Runtime(progress=False))
    assert 5 <= len(gallery.cards) < 60 and gallery.total == 60
    assert sum(len(uri or "") for card in gallery.cards for uri in card.pictures.values()) <= 300_000
    assert {card.label for card in gallery.cards} == set(noise.classes)


def test_names_are_escaped(tmp_path: Path) -> None:
    values = {"title": "<script>alert(1)</script>", "written": "", "swept": [], "rows": [], "total": 0, "lines": []}
    page = write_page(tmp_path / "x.html", "sweep.html", values | {"command": None, "picture": None, "drawn": None})
    assert "<script>alert" not in page.read_text() and "&lt;script&gt;alert" in page.read_text()


def test_durations_and_sizes_for_people() -> None:
    assert [duration(x) for x in (None, 0.04, 9.96, 38, 725, 11040)] == [
        "–", "0.0 s", "10.0 s", "38 s", "12 min 5 s", "3 h 4 min",
    ]  # fmt: skip
    assert [size(x) for x in (None, 0, 999, 1200, 45_300_000, 9.99e5)] == [
        "–",
        "0 B",
        "999 B",
        "1.2 kB",
        "45 MB",
        "999 kB",
    ]


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
    assert names == ["photo", "score map", "seeds", "PlainUNet prediction", "truth"]
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


@needs_browser
def test_paper_has_the_pictures_and_no_controls(page: chromium.Page) -> None:
    page.send("Emulation.setEmulatedMedia", media="print")
    assert not page.js("document.getElementById('controls').checkVisibility()")
    assert page.js("document.querySelector('#cards img:not([hidden])').checkVisibility()")
    page.send("Emulation.setEmulatedMedia", media="")


@needs_browser
def test_without_truth_it_works_too(untrue: Path, tmp_path: Path) -> None:
    page = chromium.Page(str(chromium.find()), tmp_path)
    try:
        page.open(untrue / "report.html")
        page.js("document.querySelectorAll('#controls [data-show]')[0].click()")
        assert {one[0].split(": ")[1] for one in page.js(PICTURES)} == {"photo"}
        names = page.js(f"{SHOWN}.map(card => card.dataset.name)")
        assert len(names) == 24 and page.errors == []
    finally:
        page.close()


@needs_browser
def test_a_sweep_sorts_and_links(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    run(tmp_path, "-m", *TINY[:4], "epoch=1", *TINY[6:], "threshold=0.2,0.4,0.6", f"hydra.sweep.dir={folder}")
    page = chromium.Page(str(chromium.find()), tmp_path / "profile")
    try:
        page.open(folder / "report.html")
        assert page.errors == []
        links = page.js("[...document.querySelectorAll('tbody a')].map(x => [x.getAttribute('href'), x.href])")
        assert [short for short, _ in links] == [f"threshold%3D0.{i}/metrics.csv" for i in (2, 4, 6)]
        for i in (2, 4, 6):
            assert (folder / f"threshold=0.{i}/metrics.csv").is_file()
        column = "[...document.querySelectorAll('tbody tr')].map(x => Number(x.children[1].dataset.value))"
        before = page.js(column)
        page.js("document.querySelectorAll('thead button')[1].click()")
        assert page.js(column) == sorted(before, reverse=True)
        assert page.js("document.querySelectorAll('th')[1].ariaSort") == "descending"
        page.js("document.querySelectorAll('thead button')[1].click()")
        assert page.js(column) == sorted(before)
        assert page.js("document.querySelectorAll('tr.best').length") == 1
        assert page.js("document.images[0].naturalWidth") > 300
        command = page.js("document.querySelectorAll('pre')[1].textContent")
        assert command.startswith("python -m seg.run -m ") and " threshold=0.2..0.6:0.2" in command
    finally:
        page.close()
