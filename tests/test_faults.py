"""A short form of ``scripts/faults``: a few kills, damages and full disks, in a process of its own that forks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.faults, pytest.mark.skipif(sys.platform != "linux", reason="uses /proc")]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcomes by what was tried."""
    out = tmp_path_factory.mktemp("faults") / "faults.json"
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "faults", "--short", "--only=damages,full,kills", f"--out={out}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert out.exists(), ended.stderr
    return {outcome["what"]: outcome for outcome in json.loads(out.read_text())}


def _assert_good(outcome: dict[str, Any]) -> None:
    mild = ("bytes: ", "left for good: ")
    assert not {kind: how[0] for kind, how in outcome["findings"].items() if not kind.startswith(mild)}
    assert outcome["trials"] > 0 and outcome["wrong"] == outcome["tracebacks"] == outcome["repairs"] == 0


@pytest.mark.parametrize("what", ["killed: chain", "disk full at a point: chain"])
def test_a_run_that_was_broken_off_goes_on(tried: dict[str, dict[str, Any]], what: str) -> None:
    _assert_good(tried[what])


def test_damage_is_noticed_and_repaired(tried: dict[str, dict[str, Any]]) -> None:
    _assert_good(tried["damaged files"])
