"""A short form of ``scripts/faults``: a few kills, damages and full disks, in a process of its own that forks."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults.tracing import watch

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.faults, pytest.mark.skipif(sys.platform != "linux", reason="uses /proc")]


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """The outcomes by what was tried."""
    out = tmp_path_factory.mktemp("faults") / "faults.json"
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "faults", "--short", "--only=damages,full,kills", f"--out={out}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert out.exists(), ended.stderr
    return {outcome["what"]: outcome for outcome in json.loads(out.read_text())}


def _assert_good(outcome):
    mild = ("bytes: ", "left for good: ")
    assert not {kind: how[0] for kind, how in outcome["findings"].items() if not kind.startswith(mild)}
    assert outcome["trials"] > 0 and outcome["wrong"] == outcome["tracebacks"] == outcome["repairs"] == 0


@pytest.mark.parametrize("what", ["killed: chain", "disk full at a point: chain"])
def test_a_run_that_was_broken_off_goes_on(tried, what):
    _assert_good(tried[what])


def test_damage_is_noticed_and_repaired(tried):
    _assert_good(tried["damaged files"])


def test_what_changes_files_is_seen_in_order_and_can_be_broken_off(tmp_path):
    def work():
        os.chdir(tmp_path)
        Path("a").write_text("hello world!")
        os.replace("a", "b")
        Path("b").read_text()
        (tmp_path.parent / "elsewhere").write_text("not below the folder")
        return 3

    status, ops = watch(work, tmp_path, lambda number, op: None)
    assert status == 3 and list(map(str, ops)) == ["open a", "rename a"]
    for how, left in {"kill": "hello world!", "half": "hello "}.items():
        status, _ = watch(work, tmp_path, lambda number, op, how=how: how if op.name == "rename" else None)
        assert status == -9 and (tmp_path / "a").read_text() == left
    status, _ = watch(work, tmp_path, lambda number, op: errno.EIO)
    assert status == 70  # the exception's own exit
    assert watch(work, tmp_path, lambda number, op: "cut" if number else None)[0] == -9
    assert (tmp_path / "a").read_bytes() != b"hello world!"
