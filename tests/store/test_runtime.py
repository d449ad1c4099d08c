"""Progress where nobody watches a bar: seldom, and with the time left."""

import logging

import pytest

from seg.store import Runtime


def test_a_line_every_half_minute_at_most(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    caplog.set_level(logging.INFO)
    items = []
    for item in Runtime(accelerator="cpu").bar(range(100), "walking"):
        items.append(item)
        now += 4
    lines = [record.getMessage() for record in caplog.records]
    assert items == list(range(100)) and len(lines) == 12  # every 32 seconds of 400
    assert lines[0] == "walking: 8 of 100 (8 %), 6 min 8 s left"
    caplog.clear()
    for _ in Runtime(accelerator="cpu").bar(iter([1, 2, 3]), "unknown"):
        now += 29
    assert [record.getMessage() for record in caplog.records] == ["unknown: 2"]
