"""report.html of a sweep."""

import re
from pathlib import Path

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


def test_a_sweeps_runs_are_linked_and_the_best_is_marked(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    status, printed = call(tmp_path, "-m", *TINY, "threshold=0.2,0.4,0.6", f"hydra.sweep.dir={folder}")
    assert status == 0, printed
    text = (folder / "report.html").read_text()
    assert str(tmp_path) not in text
    assert re.findall(r'<a href="([^"#]+)"', text) == [f"threshold%3D0.{i}/metrics.csv" for i in (2, 4, 6)]
    for i in (2, 4, 6):
        assert (folder / f"threshold=0.{i}/metrics.csv").is_file()
    assert text.count('<tr class="best">') == 1 and "data:image/" in text
    assert "<code>python -m seg.run -m " in text and " threshold=0.2,0.4,0.6" in text
