"""What the command line becomes before Hydra reads it."""

import re
from pathlib import Path

import pytest

from seg.cli import prepare_arguments
from seg.config import schema
from seg.errors import SegError

schema.register()

QUIET = ["hydra/hydra_logging=weakseg_sweep", "hydra/job_logging=weakseg_sweep"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def folder_of(arguments):
    (text,) = (a for a in prepare_arguments(arguments) if a.startswith("hydra.sweep.dir="))
    return text.partition("=")[2].strip("'")


def test_a_run_is_left_alone():
    arguments = ["pipeline=cam_affinity", "epoch=3", "data.size=64", "hydra.run.dir=x"]
    assert prepare_arguments(arguments) == arguments


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_is_expanded_and_named(place, flag):
    arguments = ["epoch=1..3", "threshold=0.1..0.3"]
    arguments.insert(place, flag)
    folder = "hydra.sweep.dir='outputs/sweeps/cam/epoch=1..3,threshold=0.1..0.3'"
    assert prepare_arguments(arguments) == ["-m", "epoch=1,2,3", "threshold=0.1,0.2,0.3", folder, *QUIET]


def test_the_grid_has_the_name_of_the_command_that_it_stands_for():
    assert prepare_arguments(["sweep=grid"])[0] == "-m"
    assert folder_of(["sweep=grid"]) == folder_of(["-m", "threshold=0.1..0.9", "epoch=1..20"])
    assert folder_of(["sweep=grid", "epoch=1..5"]) == folder_of(["-m", "epoch=1..5", "threshold=0.1..0.9"])


def test_the_name_comes_from_what_can_change_a_figure():
    plain = folder_of(["-m", "epoch=1..3"])
    assert plain == "outputs/sweeps/cam/epoch=1..3"
    for aside in ("store=x", "runtime.threads=1", "figures=true", "export.masks=true", "hydra/launcher=basic"):
        assert folder_of(["-m", "epoch=1..3", aside]) == plain
    for other in ("seed=1", "data.size=64", "seeds.clean_up=[fill_holes]", "runtime.precision=bf16-mixed"):
        assert folder_of(["-m", "epoch=1..3", other]) != plain
    assert folder_of(["-m", "epoch=1..3", "pipeline=bbox"]) == "outputs/sweeps/bbox/epoch=1..3"
    assert folder_of(["-m", "pipeline=cam,bbox"]) == "outputs/sweeps/several/pipeline=cam+bbox"
    assert folder_of(["-m", "supervision=cam,bbox", "refiner=none,affinity"]).endswith(
        "/refiner=none+affinity,supervision=cam+bbox"
    )


def test_names_are_safe_and_bounded():
    slashes = folder_of(["-m", "epoch=1..3", "weights=a/b@c.pt"])
    assert re.fullmatch(r"outputs/sweeps/cam/epoch=1\.\.3,weights=a-b-c\.pt-[0-9a-f]{8}", slashes)
    assert slashes != folder_of(["-m", "epoch=1..3", "weights=a-b/c.pt"])
    long = folder_of(["-m", "epoch=1..3", f"weights={'w' * 300}"])
    assert len(Path(long).name) < 150 and long != folder_of(["-m", "epoch=1..3", f"weights={'w' * 301}"])


def test_a_folder_that_is_given_is_taken(tmp_path):
    arguments = ["-m", "epoch=1..2", "hydra.sweep.dir=here", "hydra/job_logging=stdout"]
    assert prepare_arguments(arguments) == ["-m", "epoch=1,2", *arguments[2:], QUIET[0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["epoch=1..3"], "epoch=1..3: a span is a sweep; add -m"),
        (["epoch=1,3"], "epoch=1,3: several values are a sweep; add -m"),
        (["-m", "epoch=3..1"], "epoch=3..1: descends, so it is empty; write 1..3"),
        (["-m", "epoch=0.5..1.5"], "epoch=0.5: "),
        (["-m", "epoch=1..3", "threshold=0.1,high"], "threshold=high: "),
        (["-m", "epoch=1,2,x"], "epoch=x: "),
        (["-m", "epok=1..3"], "epok: no such key, did you mean epoch?"),
        (["data=image_folder", "data.test_lst=x"], "data.test_lst: no such key, did you mean data.test_list?"),
        (["data=image_folder", "+data.test_lst=x"], "data.test_lst: no such key, did you mean data.test_list?"),
        (["segmenter=unet", "segmenter.epoch=3"], "segmenter.epoch: no such key, did you mean segmenter.epochs?"),
        (["data.masks=x"], "data.masks: no such key here; data=image_folder has it"),
        (["segmenter.epochs=3"], "segmenter.epochs: no such key here; segmenter=deeplabv3 and segmenter=unet and "),
        (["data=image_folder", "+segmenter.epochs=3"], "segmenter.epochs: no such key here; segmenter="),
        (["segmenter.net.width=8"], "segmenter.net.width: no such key here; segmenter=unet and segmenter="),
        (["-m", "epoch=1..3", "+nothing=1"], "nothing: no such key"),
        (["-m", "supervision=cam,bx"], "supervision=bx: no such choice; there are bbox, body_bbox, cam, mask"),
        (["-m", "epoch=interval(1,3)"], "epoch=interval(1,3): has no single values"),
        (["sweep=gird"], "sweep=gird: no such choice; there are grid, none"),
        (["select=nowhere"], "select=nowhere: no such folder or file; give a sweep's folder or its best.yaml"),
        (["select=.", "select_by=miou"], "select=.: the sweep has not ended with a result"),
        (["select=.", "select_by=luck"], "select_by=luck: must be one of miou, held_out_accuracy"),
        (["-m", "epoch=1..3", "hydra.sweep.dir=file/x"], "file/x: cannot be written to"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(arguments, message, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError) as caught:
        prepare_arguments(arguments)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_select_stands_for_what_a_sweep_chose(tmp_path, capsys):
    (tmp_path / "best.yaml").write_text(
        "miou: {rule: by masks, overrides: [epoch=7, threshold=0.3, supervision=bbox]}\n"
        "held_out_accuracy: {rule: by labels, overrides: [epoch=9]}\n"
    )
    here = [f"select={tmp_path}", "pipeline=cam_affinity"]
    assert prepare_arguments(here) == [*here, "epoch=7", "threshold=0.3"]
    assert "(by masks)" in capsys.readouterr().out
    file = [f"select={tmp_path}/best.yaml", "threshold=0.5"]
    assert prepare_arguments(file) == [*file, "epoch=7", "supervision=bbox"]
    blind = [*here, "select_by=held_out_accuracy"]
    assert prepare_arguments(blind) == [*blind, "epoch=9"]
    assert "(by labels)" in capsys.readouterr().out
    other = tmp_path / "epoch=1..3,threshold=0.1..0.3"  # as sweeps are called; the shell has taken the quotes away
    other.mkdir()
    (other / "best.yaml").write_text((tmp_path / "best.yaml").read_text())
    assert prepare_arguments([f"select={other}", *here[1:]]) == [f"select='{other}'", *prepare_arguments(here)[1:]]
    (tmp_path / "best.yaml").write_text("miou: 3")
    with pytest.raises(SegError, match=r"is not the best\.yaml of a sweep"):
        prepare_arguments(here)
