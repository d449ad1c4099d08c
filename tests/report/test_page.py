"""From a template to a file, and what names can do in it."""

from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

from seg.report.run_page import data_uri, write_page

#: Names that would add elements or attributes if they were not escaped.
ATTACKS = (
    "</script><script>window.owned = 1</script></title><img src=x onerror='window.owned = 1'>",
    '" onfocus="window.owned = 1" autofocus x="',
    "' onfocus='window.owned = 1' autofocus='",
    "{{ 7 * 7 }}{% include 'x' %}\ud800",
)
PIXEL = data_uri(b"\xff\xd8", ".jpg")


def run(folder, name):
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

    def __init__(self, page):
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, [name for name, _ in attrs]))


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_are_escaped(tmp_path, attack):
    """A name adds no element and no attribute, wherever it stands."""
    usual, attacked = Tags(run(tmp_path, "name")).found, run(tmp_path, attack)
    assert Tags(attacked).found == usual and len(usual) > 30
