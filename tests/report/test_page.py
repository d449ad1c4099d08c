"""From a template to a file, and what names can do in it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from seg.report.page import data_uri, write_page
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
    card = {"id": name, "label": name, "split": name, "ious": {name: 0.5}, "pictures": {name: PIXEL}}
    classes = {"stage": name, "split": name, "ious": [{"class": name}]}
    values: dict[str, Any] = {
        **dict.fromkeys(("title", "written", "device", "command", "border", "resolution"), name),
        "seconds": 1.0,
        "is_known": True,
        "figures": [{"stage": name, "mIoU": 0.5}],
        "marks": [name],
        "true_masks": 1,
        "qualities": [{"stage": name, "quality": 0.5}],
        "worse": [name],
        "classes": classes | {"confusion": pd.DataFrame([["1"]], index=[name], columns=[name])},
        "cards": [card],
        "total": 1,
        "legend": [(0, name, "#fff")],
        "scale": "#000, #fff",
        "training": None,
        "costs": [{"product": name}],
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
        assert Tags(attacked).found == usual and len(usual) > 30


def test_a_table_links_to_no_other_machine(tmp_path: Path) -> None:
    row: dict[str, Any] = dict.fromkeys(
        ("miou", "iou_background", "iou_foreground", "held_out_accuracy", "seconds", "status", "error"), ""
    )
    rows = [row | {"epoch": "1", "folder": x} for x in ("//localhost:9/x", "javascript:alert(1)", "/abs", "epoch=1")]
    page = write_sweep_page(Sweep(tmp_path, ["epoch"]), rows, None, [], [], None)
    links = re.findall('<a href="([^"#]+)"', page.read_text())
    assert links == ["/localhost%3A9/x/", "javascript%3Aalert%281%29/", "/abs/", "epoch%3D1/"]
