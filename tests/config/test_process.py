"""What others get to see of a command line."""

from pathlib import Path

import pytest

from seg.config.process import without_folders


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("data=pets", "data=pets"),  # a choice, though there is a folder of that name
        ("data.root=/home/me/pets", "data.root=DIR/pets"),
        ("data.root=below/pets", "data.root=DIR/pets"),
        ("data.root='below/of me, x=1'", "data.root=DIR/of me, x=1"),
        ("+x={a: /home/me/a,b: [~/b]}", "+x={a: DIR/a,b: [DIR/b]}"),
        ("tracker.mlflow.uri=http://server:5000/x", "tracker.mlflow.uri=http://server:5000/x"),
        ("/home/me/pets", "DIR/pets"),
    ],
)
def test_folders_of_this_machine_are_left_out(
    given: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pets", "below/pets", "below/of me, x=1"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert without_folders(given) == shown
