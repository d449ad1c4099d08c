"""The arithmetic of the table, and the table as JSON and Markdown, with known values."""

import json
from pathlib import Path

import pytest

from benchmark.__main__ import main, parse
from benchmark.lab import Lab
from benchmark.machine import describe
from benchmark.measure import Sample, interleaved
from benchmark.report import as_markdown, write_report
from benchmark.rows import Goal, Row
from seg.errors import SegError


def test_median_and_interquartile_range() -> None:
    sample = Sample((4.0, 1.0, 2.0, 3.0, 100.0))
    assert (sample.median, sample.spread) == (3, 2)
    assert Sample((7.0,)).spread == 0
    assert sample.scaled(2).values == (8, 2, 4, 6, 200)
    assert str(Sample((1.0, 1.0), "MB")) == "1 MB (IQR 0, n=2)"


def test_measurements_take_turns_after_a_warm_up() -> None:
    called: list[str] = []
    samples = interleaved([lambda: called.append("a"), lambda: called.append("b")], repeats=2, warm_up=1)
    assert called == ["a", "b"] * 3
    assert [len(s.values) for s in samples] == [2, 2]


@pytest.mark.parametrize(
    ("goal", "ratio", "met"),
    [
        (Goal("speed", 2), 4, True),
        (Goal("speed", 5), 4, False),
        (Goal("cost", 0.25), 0.25, True),
        (Goal("cost", 0.2), 0.25, False),
        (None, 4, None),
    ],
)
def test_ratios_and_goals(goal: Goal | None, ratio: float, met: bool | None) -> None:
    row = Row("x", Sample((1.0,)), "y", Sample((4.0,)), goal)
    assert (row.ratio, row.met) == (ratio, met)


def test_a_goal_of_its_own() -> None:
    row = Row("x", Sample((1.4,)), goal=Goal("value", 1.5))
    assert (row.ratio, row.met, row.goal_text) == (None, True, "<= 1.5 s")
    assert Row("x", Sample((1.6,)), goal=Goal("value", 1.5)).met is False


ROWS = {
    "walk": [
        Row("walk | 56", Sample((0.5, 0.5)), "dense", Sample((100.0,)), Goal("speed", 150), note="once"),
        Row("memory", Sample((9.0,), "MB"), goal=Goal("value", 300)),
    ]
}


def test_markdown() -> None:
    text = as_markdown({"cpu": "a cpu", "versions": {"torch": "2"}}, ROWS, {"sweep": "no data"})
    assert "* cpu: a cpu\n* versions: torch 2\n" in text
    assert "| walk \\| 56 [1] | 0.5 s (IQR 0, n=2) | dense | 100 s (n=1) | 200 | >= 150x the speed | yes |" in text
    assert "| memory | 9 MB (n=1) |  |  |  | <= 300 MB | yes |" in text
    assert "\n1. once\n" in text and "* sweep: no data\n" in text


def test_json(tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "folder", describe("scripts/bench"), ROWS, {"sweep": "no data"})
    report = json.loads((tmp_path / "new" / "folder" / "bench.json").read_text())
    first, second = report["rows"]
    assert (first["case"], first["ratio"], first["met"]) == ("walk", 200, True)
    assert first["ours"] == {"median": 0.5, "spread": 0, "n": 2, "unit": "s", "values": [0.5, 0.5]}
    assert second["baseline"] is None and second["goal"] == {"of": "value", "bound": 300}
    assert report["without"] == {"sweep": "no data"}
    assert {"cpu", "cores", "torch_threads", "memory_gib", "versions", "date", "command"} <= report["header"].keys()
    assert (tmp_path / "new" / "folder" / "bench.md").read_text().startswith("# Bench\n")


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SegError, match="--only wlak: no such case; there are cam"):
        parse(["--only", "wlak"])
    assert main(["--weights", str(tmp_path / "none.pth")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_data_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEG_DATA", "/somewhere")
    assert parse([]).data == Path("/somewhere")
    monkeypatch.delenv("SEG_DATA")
    assert parse([]).data == Path("../shared")


def test_drawn_pictures_stand_in_and_it_is_said(tmp_path: Path) -> None:
    lab = Lab(tmp_path, data=tmp_path / "nothing")
    assert not lab.has_photos
    assert "data=toy_pets" in lab.overrides(20)
    assert lab.data_note().startswith("TOY")
