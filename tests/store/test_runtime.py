"""Progress where there is no terminal: lines of the log, with the time left."""

import logging
from itertools import count

import tqdm.std

from seg.store import Runtime
from seg.store.runtime import so_far


def test_lines_in_the_log(monkeypatch, caplog):
    clock = count(0.0, 4.0)  # seconds: every look at the clock is four later
    monkeypatch.setattr(tqdm.std, "time", lambda: next(clock))
    caplog.set_level(logging.INFO)
    for items, total in ((range(100), "100"), (iter(range(100)), "?")):
        caplog.clear()
        runtime = Runtime(accelerator="cpu")
        before = so_far.set("2 of 5, about 1 min 0 s left" if total == "100" else "")
        assert list(runtime.bar(items, "walking")) == [*range(100)]
        so_far.reset(before)
        lines = [record.getMessage() for record in caplog.records]
        assert 5 <= len(lines) <= 30 and all("\r" not in line and f" of {total} " in line for line in lines)
        start = "[2 of 5, about 1 min 0 s left] walking: " if total == "100" else "walking: "
        assert all(line.startswith(start) and line.endswith(" left") for line in lines)
    caplog.clear()
    list(Runtime(accelerator="cpu").bar(range(3), "soon done"))
    assert not caplog.records
