"""From a template to a file, and what names can do in it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg.evaluation.table import ClassFigures
from seg.methods.quality import Quality
from seg.report.gallery import Card, Gallery
from seg.report.page import data_uri, write_page
from seg.report.run_page import ByClass
from seg.sweep.page import write_sweep_page
from seg.sweep.results import Sweep

#: Names that would add elements or attributes if they were not escaped.
ATTACKS = (
    "</script><script>window.owned = 1</script></title><img src=x onerror='window.owned = 1'>",
    '" onfocus="window.owned = 1" autofocus x="',
    "' onfocus='window.owned = 1' autofocus='",
    "{{ 7 * 7 }}{% include 'x' %}\ud800",
)
PIXEL = data_uri(b"\xff\xd8", ".jpg")


def sweep(folder: Path, name: str) -> Path:
    values = {"title": name, "written": name, "swept": [name], "total": 1, "lines": [name], "command": name}
    row = {"cell": [name], "figures": [0.5] * 3, "accuracy": None, "seconds": 1.0, "status": name, "error": name}
    rows = [row | {"link": "x", "target": name, "best": False}]
    return write_page(folder / "x.html", "sweep.html", values | {"rows": rows, "picture": None, "drawn": name})


def run(folder: Path, name: str) -> Path:
    """The page of a run in which everything that a user, a folder or a file may name is called so."""
    cards = [Card(name, (name,), name, 8, 8, {name: PIXEL}, {name: 0.5})]
    figures = ("miou", "iou_background", "iou_foreground", "pixel_accuracy", "per_image_miou", "coverage")
    row = dict.fromkeys(figures, 0.5)
    values: dict[str, Any] = {
        "title": name,
        "written": name,
        "seconds": 1.0,
        "device": name,
        "rows": [row | {"stage": name, "split": name, "images": 1, "oracle": True, "masks_used": name}],
        "qualities": {name: {name: Quality(0.5, 0.5, 1.0, 0.0, np.zeros(0))}},
        "worse": [name],
        "gallery": Gallery(cards, [name], 1),
        "next_ones": [Card(name, (name,), name, 8, 8, {"photo": PIXEL, "votes": PIXEL})],
        "compared": [name],
        "several": True,
        "by_class": ByClass(name, name, [ClassFigures(name, 0.5, 1, 1, 1)], [name] * 2, np.full((2, 2), 0.5)),
        "legend": [(0, name, "#fff")],
        "scale": "#000, #fff",
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


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_are_escaped(tmp_path: Path, attack: str) -> None:
    """A name adds no element and no attribute, wherever it stands."""
    for make in (sweep, run):
        usual, attacked = Tags(make(tmp_path, "name")).found, make(tmp_path, attack)
        assert Tags(attacked).found == usual and len(usual) > 50


def test_a_table_links_to_no_other_machine(tmp_path: Path) -> None:
    row: dict[str, Any] = dict.fromkeys(
        ("miou", "iou_background", "iou_foreground", "held_out_accuracy", "seconds", "status", "error"), ""
    )
    rows = [row | {"epoch": "1", "folder": x} for x in ("//localhost:9/x", "javascript:alert(1)", "/abs", "epoch=1")]
    page = write_sweep_page(Sweep(tmp_path, ["epoch"]), rows, None, [], [], None)
    links = re.findall('<a href="([^"#]+)"', page.read_text())
    assert links == ["/localhost%3A9/x/", "javascript%3Aalert%281%29/", "/abs/", "epoch%3D1/"]
