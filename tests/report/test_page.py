"""From a template to a file, and what names can do in it."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd

from seg.report.run_page import data_uri, write_page

#: A name that would add elements and attributes if it were not escaped.
ATTACK = '" onfocus="owned = 1" x="\' onclick=\'owned = 1\'></title><script>owned = 1</script>{{ 7 * 7 }}\ud800'
PIXEL = data_uri(b"\xff\xd8", ".jpg")


def run(folder: Path, name: str) -> Path:
    """The page of a run in which everything that a user, a folder or a file may name is called so."""
    card = {"id": name, "label": name, "split": name, "ious": {name: 0.5}, "pictures": {name: PIXEL}}
    values: dict[str, Any] = {
        **dict.fromkeys(("title", "written", "device", "command", "border", "resolution", "heading"), name),
        "seconds": 1.0,
        "figures": pd.DataFrame({"stage": [name], "mIoU": 0.5}),
        "notes": [name],
        "true_masks": 1,
        "classes": pd.DataFrame({"class": [name]}),
        "cards": [card],
        "total": 1,
        "legend": [(0, name, "#fff")],
        "curves": None,
    }
    return write_page(folder / "y.html", values)


class Tags(HTMLParser):
    """The elements of a page with the names of their attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


def test_names_are_escaped(tmp_path: Path) -> None:
    """A name adds no element and no attribute, wherever it stands."""
    usual, attacked = Tags(run(tmp_path, "name")).found, run(tmp_path, ATTACK)
    assert Tags(attacked).found == usual and len(usual) > 30
