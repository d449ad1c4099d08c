"""Progress where nobody watches a bar: seldom, and with the time left."""

import itertools
import logging
import sys
from collections.abc import Iterator

import pytest

from seg.store import Runtime
from seg.store.progress import describe, log_progress


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "seg.store.progress"]


def test_a_line_every_half_minute_at_most(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock, when = Clock(), []
    for item in log_progress(range(100), "walking", clock=clock):
        clock.now += 4
        if len(lines(caplog)) > len(when):
            when.append(item)
    assert lines(caplog)[0] == "walking: 8 of 100 (8 %), 4.0 s each, 06:08 left"
    assert len(lines(caplog)) == len(when) == 12  # every 32 seconds of 400
    assert {b - a for a, b in itertools.pairwise(when)} == {8}


def test_short_stages_say_nothing_and_every_item_comes_through(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()

    def items() -> Iterator[int]:
        for i in range(5):
            clock.now += 5.9
            yield i

    assert list(log_progress(items(), "short", total=5, clock=clock)) == [0, 1, 2, 3, 4]
    assert lines(caplog) == []


def test_the_last_item_has_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    for _ in log_progress([1, 2], "two", clock=clock):
        clock.now += 60
    assert lines(caplog) == ["two: 1 of 2 (50 %), 60.0 s each, 01:00 left"]


def test_rates_and_unknown_totals() -> None:
    assert describe(90, 180, 30) == "90 of 180 (50 %), 3.0/s, 00:30 left"
    assert describe(10, 3610, 100) == "10 of 3610 (0 %), 10.0 s each, 10:00:00 left"
    assert describe(90, None, 30) == "90, 3.0/s"


def test_the_runtime_logs_without_a_terminal_and_is_silent_if_told_to(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    monkeypatch.setattr("seg.store.progress.log_progress.__defaults__", (None, 30.0, clock))
    for progress in (True, False):
        for _ in Runtime(progress=progress).bar(range(3), "long"):
            clock.now += 31
    assert lines(caplog) == [
        "long: 1 of 3 (33 %), 31.0 s each, 01:02 left",
        "long: 2 of 3 (66 %), 31.0 s each, 00:31 left",
    ]


def test_a_terminal_gets_a_bar_and_no_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(Runtime().bar(range(3), "bar")) == [0, 1, 2]
    assert "bar:" in capsys.readouterr().err
    assert lines(caplog) == []
