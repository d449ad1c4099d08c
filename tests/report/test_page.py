"""From a template to a file."""

from pathlib import Path

from seg.report.page import write_page


def test_names_are_escaped(tmp_path: Path) -> None:
    values = {"title": "<script>alert(1)</script>", "written": "", "swept": [], "rows": [], "total": 0, "lines": []}
    page = write_page(tmp_path / "x.html", "sweep.html", values | {"command": None, "picture": None, "drawn": None})
    assert "<script>alert" not in page.read_text() and "&lt;script&gt;alert" in page.read_text()
