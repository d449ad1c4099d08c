"""report.html of a sweep, in a browser."""

from pathlib import Path

import chromium
import pytest
from within import call

TINY = [
    "data.prepared.source.images=24",
    "data.prepared.source.breeds=2",
    "data.prepared.source.size=48",
    "data.size=64",
    "epoch=1",
    "runtime.accelerator=cpu",
    "runtime.threads=1",
    "evaluation.panel=0",
]


@pytest.mark.skipif(chromium.find() is None, reason="no chromium here (apt install chromium)")
def test_a_sweep_sorts_and_links(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    status, printed = call(tmp_path, "-m", *TINY, "threshold=0.2,0.4,0.6", f"hydra.sweep.dir={folder}")
    assert status == 0, printed
    assert str(tmp_path) not in (folder / "report.html").read_text()
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
        assert command.startswith("python -m seg.run -m ") and " threshold=0.2,0.4,0.6" in command
    finally:
        page.close()
