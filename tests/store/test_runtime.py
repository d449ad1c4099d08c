"""Progress where there is no terminal: lines of the log, with the time left."""

import logging
import time

import pytest

from seg.store import Runtime, runtime


def test_lines_in_the_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(runtime, "EVERY", 0.05)
    caplog.set_level(logging.INFO)
    for items in (range(10), iter(range(10))):
        caplog.clear()
        assert [(item, time.sleep(0.03))[0] for item in Runtime(accelerator="cpu").bar(items, "walking")] == [
            *range(10)
        ]
        lines = [record.getMessage() for record in caplog.records]
        assert 2 <= len(lines) <= 7 and all(line.startswith("walking: ") and "\r" not in line for line in lines)
    caplog.clear()
    list(Runtime(accelerator="cpu").bar(range(10), "soon done"))
    assert not caplog.records
