"""Progress where nobody watches a bar: seldom, and with the time left."""

import itertools
import logging
import sys
from collections.abc import Iterator

import pytest

from seg.store import Runtime
from seg.store.progress import Lines


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO)
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    return clock


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "seg.store.progress"]


def test_a_line_every_half_minute_at_most(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    when: list[int] = []
    for item in Lines(range(100), "walking"):
        clock.now += 4
        if len(lines(caplog)) > len(when):
            when.append(item)
    assert lines(caplog)[0] == "walking: 8 of 100 (8 %), 4.00s/it, 06:08 left"
    assert len(lines(caplog)) == len(when) == 12  # every 32 seconds of 400
    assert {b - a for a, b in itertools.pairwise(when)} == {8}


def test_short_stages_say_nothing_and_every_item_comes_through(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    def items() -> Iterator[int]:
        for i in range(5):
            clock.now += 5.9
            yield i

    assert list(Lines(items(), "short", total=5)) == [0, 1, 2, 3, 4]
    assert lines(caplog) == []


def test_the_last_item_has_no_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in Lines([1, 2], "two"):
        clock.now += 60
    assert lines(caplog) == ["two: 1 of 2 (50 %), 60.00s/it, 01:00 left"]


@pytest.mark.parametrize(
    ("total", "seconds", "said"),
    [
        (180, 1 / 3, "x: 90 of 180 (50 %), 3.00it/s, 00:30 left"),
        (3610, 10.0, "x: 3 of 3610 (0 %), 10.00s/it, 10:01:10 left"),
        (None, 1 / 3, "x: 90, 3.00it/s"),
    ],
)
def test_rates_and_unknown_totals(
    clock: Clock, caplog: pytest.LogCaptureFixture, total: int | None, seconds: float, said: str
) -> None:
    for _ in Lines(iter(range(total or 100)), "x", total):
        clock.now += seconds + 1e-9
        if lines(caplog):
            break
    assert lines(caplog) == [said]


def test_the_rate_is_that_of_all_items_so_far(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for item in Lines(range(100), "x"):
        clock.now += 40 if item == 0 else 80
        if item == 1:
            break
    clock.now += 1000
    assert lines(caplog) == ["x: 1 of 100 (1 %), 40.00s/it, 1:06:00 left"]


def test_the_runtime_logs_without_a_terminal_and_is_silent_if_told_to(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    for progress in (True, False):
        for _ in Runtime(progress=progress).bar(range(3), "long"):
            clock.now += 31
    assert lines(caplog) == [
        "long: 1 of 3 (33 %), 31.00s/it, 01:02 left",
        "long: 2 of 3 (67 %), 31.00s/it, 00:31 left",
    ]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_no_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(Runtime().bar(range(3), "bar")) == [0, 1, 2]
    assert "bar:" in capsys.readouterr().err
    assert lines(caplog) == []
