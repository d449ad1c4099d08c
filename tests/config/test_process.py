"""What others get to see of a command line."""

import pytest

from seg.config.process import command, without_folders


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("threshold=0.4", "threshold=0.4"),
        ("data=pets", "data=pets"),  # a choice, though there is a folder of that name
        ("data.root=/home/me/pets", "data.root=DIR/pets"),
        ("data.root=below/pets", "data.root=DIR/pets"),
        ("data.root=neither/here", "data.root=neither/here"),
        ("data.root='below/of me, x=1'", "data.root=DIR/of me, x=1"),
        ("+x={a: /home/me/a,b: [~/b]}", "+x={a: DIR/a,b: [DIR/b]}"),
        ("tracker.mlflow.uri=http://server:5000/x", "tracker.mlflow.uri=http://server:5000/x"),
        ("tracker.mlflow.uri=file:///home/me/mlruns", "tracker.mlflow.uri=DIR/mlruns"),
        ("/home/me/pets", "DIR/pets"),
    ],
)
def test_folders_of_this_machine_are_left_out(given, shown, tmp_path, monkeypatch):
    for name in ("pets", "below/pets", "below/of me, x=1"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert without_folders(given) == shown


def test_the_command_with_and_without_folders():
    overrides = ["data.root=/home/me/my pets", "epoch=1"]
    assert command(overrides) == "python -m seg.run 'data.root=/home/me/my pets' epoch=1"
    assert command(overrides, folders=False) == "python -m seg.run 'data.root=DIR/my pets' epoch=1"
