"""From a template to a file, and what names and tables of others can do in it."""

import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest

from seg.evaluation.table import ClassFigures
from seg.report.gallery import Card, Gallery
from seg.report.page import data_uri, write_page
from seg.report.run_page import ByClass
from seg.sweep.page import write_sweep_report

needs_browser = pytest.mark.skipif(chromium.find() is None, reason="no chromium here (apt install chromium)")

#: What would run, or ask another machine, if it got into a page as it is.
ATTACKS = (
    "<script>window.owned = 1</script>",
    "</script><script>window.owned = 1</script>",
    "</title><svg onload='window.owned = 1'>",
    '<img src=x onerror="window.owned = 1">',
    '" onmouseover="window.owned = 1" autofocus onfocus="window.owned = 1" x="',
    "' onfocus='window.owned = 1' autofocus='",
    "javascript:window.owned=1",
    "<a href='javascript:window.owned=1' id=bait>x</a>",
    "<img src='http://localhost:9/leak'><link rel=stylesheet href='http://localhost:9/leak.css'>",
    "<meta http-equiv=refresh content='0; url=http://localhost:9/'><base href='http://localhost:9/'>",
    "<iframe srcdoc='<script>parent.owned = 1</script>'></iframe>",
    "{{ 7 * 7 }}{% include 'x' %}",
    "a\x1b[31m\x00\x07b\u202egpj.exe\ud800",
)
PIXEL = data_uri(b"\xff\xd8", ".jpg")


def sweep(folder: Path, name: str) -> Path:
    values = {"title": name, "written": name, "swept": [name], "total": 1, "lines": [name], "command": name}
    row = {"cell": [name], "figures": [0.5] * 3, "accuracy": None, "seconds": 1.0, "status": name, "error": name}
    rows = [row | {"link": "x", "target": name, "best": False}]
    return write_page(folder / "x.html", "sweep.html", values | {"rows": rows, "picture": None, "drawn": name})


def run(folder: Path, name: str, *classes: tuple[str, ...]) -> Path:
    """The page of a run in which everything that a user, a folder or a file may name is called so.

    ``classes`` are those of its images; by default it is one, of one class.
    """
    cards = [Card(name, one, name, 8, 8, {name: PIXEL}, {name: 0.5}, {name: [0, 1]}) for one in classes or ((name,),)]
    figures = ("miou", "iou_background", "iou_foreground", "pixel_accuracy", "per_image_miou", "coverage")
    row = dict.fromkeys(figures, 0.5)
    values: dict[str, Any] = {
        "title": name,
        "written": name,
        "seconds": 1.0,
        "device": name,
        "rows": [row | {"stage": name, "split": name, "images": 1, "oracle": True, "masks_used": name}],
        "gallery": Gallery(cards, [name], [name], 1),
        "next_ones": [Card(name, (name,), name, 8, 8, {"photo": PIXEL, "votes": PIXEL})],
        "compared": [name],
        "several": True,
        "by_class": ByClass(name, name, [ClassFigures(name, 0.5, 1, 1, 1)], [name] * 2, np.full((2, 2), 0.5)),
        "legend": [(0, name, "#fff")],
        "scale": "#000, #fff",
        "start": 0,
        "command": name,
        "is_known": True,
        "border": name,
        "resolution": name,
        "partial": True,
        "true_masks": 0,
        "training": None,
        "reliability": None,
        "curves": [],
        "costs": [{"stage": name, "what": name, "product": name, "seconds": 1.0, "bytes": 1}],
    }
    return write_page(folder / "y.html", "run.html", values)


class Tags(HTMLParser):
    """The elements of a page with the names of their attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


@pytest.mark.parametrize("attack", ["".join(ATTACKS), ATTACKS[4], ATTACKS[-1]])
def test_names_are_escaped(tmp_path: Path, attack: str) -> None:
    """A name adds no element and no attribute, wherever it stands."""
    for make in (sweep, run):
        usual, attacked = Tags(make(tmp_path, "name")).found, make(tmp_path, attack)
        assert Tags(attacked).found == usual and len(usual) > 50
        text = attacked.read_text(encoding="utf-8")
        assert not set("\x1b\x00\x07\u202e") & set(text)
        if "\x00" in attack:
            assert "a\ufffd[31m\ufffd\ufffdb\ufffdgpj.exe\ufffd" in text


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    program = chromium.find()
    assert program is not None
    page = chromium.Page(program, tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


def opened(browser: chromium.Page, path: Path) -> list[str]:
    """What the page asked for beside itself, once everything in it was clicked."""
    browser.requests.clear()
    browser.errors.clear()
    browser.open(path)
    browser.js("document.querySelectorAll('button, #bait').forEach(x => { x.click(); x.focus(); })")
    browser.js("new Promise(done => setTimeout(done, 100))")
    assert browser.js("window.owned") is None
    return [url for url in browser.requests if not url.startswith(("data:", path.absolute().as_uri()))]


@needs_browser
def test_names_do_nothing_in_a_browser(browser: chromium.Page, tmp_path: Path) -> None:
    names = "".join(ATTACKS)
    for made in (sweep(tmp_path, names), run(tmp_path, names)):
        assert opened(browser, made) == []
        assert browser.errors == []  # the policy had nothing to stop, and let our own script run


SEVERAL = (("cat", "dog"), ("dog",), ("no class",))


def test_a_filter_by_class_knows_images_of_several(tmp_path: Path) -> None:
    text = run(tmp_path, "x", *SEVERAL).read_text(encoding="utf-8")
    assert re.findall(r'<option value="(\d+)">([^<]*)<', text) == [("0", "cat"), ("1", "dog"), ("2", "no class")]
    assert re.findall(r'<li data-label="([^"]*)"', text) == ["0 1", "1", "2"]
    assert "cat, dog, x" in text and 'data-codes="0 1"' in text and 'data-code="0"' in text


@needs_browser
def test_images_are_found_by_each_of_their_classes(browser: chromium.Page, tmp_path: Path) -> None:
    browser.open(run(tmp_path, "x", *SEVERAL))
    choose = "const x = document.getElementById('label'); x.value = '{}'; x.dispatchEvent(new Event('change'))"
    for value, count in (("0", 1), ("1", 2), ("2", 1), ("", 3)):
        browser.js(f"(() => {{ {choose.format(value)} }})()")
        assert browser.js("document.querySelectorAll('#cards li:not([hidden])').length") == count
    # An enlarged picture says what its own colours mean.
    browser.js("document.querySelector('#cards .open').click()")
    assert browser.js("[...document.querySelectorAll('#key span')].map(x => x.textContent)") == ["x"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where a page would send what it has taken."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def attacked(page: Path, attack: str, listener: socket.socket) -> Path:
    """The page as if nothing were escaped."""
    attack = attack.replace("localhost:9", f"127.0.0.1:{listener.getsockname()[1]}")
    text = page.read_text(encoding="utf-8")
    assert text.count('<main id="main">') == 1
    out = page.with_name("attacked.html")
    out.write_text(text.replace('<main id="main">', f'<main id="main">{attack}<b title="{attack}">x</b>'))
    return out


@needs_browser
def test_the_policy_stops_what_would_not_be_escaped(
    browser: chromium.Page, tmp_path: Path, listener: socket.socket
) -> None:
    """As if the first defence had failed. A page that leads elsewhere no policy in it stops; it takes nothing along."""
    for attack in ATTACKS[:11]:
        if "http-equiv=refresh" not in attack:
            opened(browser, attacked(sweep(tmp_path, "name"), attack, listener))
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_table_links_to_no_other_machine(tmp_path: Path) -> None:
    row: dict[str, Any] = dict.fromkeys(
        ("miou", "iou_background", "iou_foreground", "held_out_accuracy", "seconds", "status", "error"), ""
    )
    rows = [row | {"epoch": "1", "folder": x} for x in ("//localhost:9/x", "javascript:alert(1)", "/abs", "epoch=1")]
    page = write_sweep_report(tmp_path, rows, ["epoch"], None, [], None)
    links = re.findall('<a href="([^"#]+)"', page.read_text())
    assert links == ["/localhost%3A9/x/", "javascript%3Aalert%281%29/", "/abs/", "epoch%3D1/"]
