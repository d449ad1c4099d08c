"""What the command line becomes before Hydra reads it."""

import json
import re
import shlex
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from within import call

from seg import run
from seg.cli import prepare_arguments
from seg.config.paths import CONF
from seg.errors import SegError
from seg.sweep.select import selected

QUIET = ["hydra/hydra_logging=weakseg_sweep", "hydra/job_logging=weakseg_sweep"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def folder_of(arguments):
    """The sweep's folder, as Hydra's main function composes it from the prepared arguments."""
    overrides = [a for a in prepare_arguments(arguments) if a != "-m"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        return hydra.compose_config("config", overrides, RunMode.MULTIRUN, with_log_configuration=False).hydra.sweep.dir


def test_a_run_is_left_alone():
    arguments = ["pipeline=cam_affinity", "epoch=3", "data.size=64", "hydra.run.dir=x"]
    assert prepare_arguments(arguments) == arguments


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_is_expanded_and_named(place, flag):
    arguments = ["epoch=1..3", "threshold=0.1..0.3"]
    arguments.insert(place, flag)
    assert prepare_arguments(arguments) == [flag, "epoch=1,2,3", "threshold=0.1,0.2,0.3", *QUIET]
    assert folder_of(["-m", *(a for a in arguments if a != flag)]) == (
        "outputs/sweeps/cam/epoch=1..3,threshold=0.1..0.3"
    )


def test_the_grid_has_the_name_of_the_command_that_it_stands_for():
    assert prepare_arguments(["sweep=grid"]) == ["sweep=grid", *QUIET]  # its hydra.mode says what -m says
    assert prepare_arguments(["sweep=grid", "epoch=1..3"]) == ["sweep=grid", "epoch=1,2,3", *QUIET]
    assert folder_of(["sweep=grid"]) == folder_of(["-m", "threshold=0.1..0.9", "epoch=1..20"])
    assert folder_of(["sweep=grid", "epoch=1..5"]) == folder_of(["-m", "epoch=1..5", "threshold=0.1..0.9"])


def test_the_name_comes_from_what_can_change_a_figure():
    plain = folder_of(["-m", "epoch=1..3"])
    assert plain == "outputs/sweeps/cam/epoch=1..3"
    for aside in ("store=x", "runtime.threads=1", "figures=true", "export.masks=true", "hydra/launcher=basic"):
        assert folder_of(["-m", "epoch=1..3", aside]) == plain
    for other in ("seed=1", "data.size=64", "seeds.clean_up=[fill_holes]", "precision=bf16-mixed"):
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
        (["epoch=1..3"], "epoch=1..3: several values are a sweep; add -m"),
        (["epoch=1,3"], "epoch=1,3: several values are a sweep; add -m"),
        (["-m", "epoch=3..1"], "epoch=3..1: descends, so it is empty; write 1..3"),
        (["-m", "epoch=0.5..1.5"], "epoch=0.5: "),
        (["-m", "epoch=1,2,x"], "epoch=x: "),
        (["-m", "epok=1..3"], "epok: no such key, did you mean epoch?"),
        (["data=image_folder", "data.test_lst=x"], "data.test_lst: no such key, did you mean data.test_list?"),
        (["data=image_folder", "+data.test_lst=x"], "data.test_lst: no such key, did you mean data.test_list?"),
        (["segmenter=unet", "segmenter.epoch=3"], "segmenter.epoch: no such key, did you mean segmenter.epochs?"),
        (["data.masks=x"], "data.masks: no such key here; data=image_folder and data=voc have it"),
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
        (
            ["recipe=toy"],
            "recipe=toy: no such choice; there are coco_bbox, coco_body_bbox, colocalise_appearance, colocalise_pca, ",
        ),
        (
            ["recipe=null"],
            "recipe=null: no such choice; there are coco_bbox, coco_body_bbox, colocalise_appearance, colocalise_pca, ",
        ),
        (["segmenter=null"], "segmenter=null: no such choice; there are deeplabv3, none, "),
        (["segmenter=segmenter_base"], "segmenter=segmenter_base: no such choice; there are deeplabv3, none, unet, "),
        (["segmenter={a: 1}"], "segmenter={a: 1}: no such choice; there are deeplabv3, none, "),
        (["segmenter=${nowhere}"], "segmenter=${nowhere}: refers to what is not there"),
        (["epoch=${nowhere}"], "epoch: refers to nowhere, which is not there"),
        (["+nothing=1"], "nothing: no such key"),
        (["++data.sizes=64"], "data.sizes: no such key, did you mean data.size?"),
        (["data.boxes.foo=1"], "data.refine.foo: no such key"),
        (["data.boxes.scale=1"], "supervision.scale: no such key here; supervision=bbox and supervision=body_bbox "),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(arguments, message, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError) as caught:
        prepare_arguments(arguments)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_recipe_of_ones_own_can_be_chosen(tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe/mine.yaml").write_text("# @package _global_\nthreshold: 0.7\n")
    arguments = ["--config-dir", str(tmp_path), "recipe=mine"]
    assert prepare_arguments(arguments) == arguments
    with pytest.raises(SegError, match=r"recipe=my: no such choice; there are .*, mine, "):
        prepare_arguments([*arguments[:2], "recipe=my"])


@pytest.mark.parametrize("sign", ["", "+", "++"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    {
        "evaluation.bordr=ignore": "evaluation.bordr: no such key, did you mean evaluation.border?",
        "export.mask=true": "export.mask: no such key, did you mean export.masks?",
        "runtime.workerz=1": "runtime.workerz: no such key, did you mean runtime.workers?",
        "checkpoints.classifer=x": "checkpoints.classifer: no such key, did you mean checkpoints.classifier?",
    }.items(),
)
def test_a_key_that_nobody_reads_is_refused(sign, wrong, message):
    with pytest.raises(SegError) as caught:
        prepare_arguments([sign + wrong])
    assert str(caught.value).startswith(message) and len(str(caught.value).splitlines()) == 1
    # By Hydra itself, which adds what a sign asks for even to typed nodes; those are ours to refuse.
    assert isinstance(caught.value.__cause__, HydraException) == (sign == "")


@pytest.mark.parametrize(
    ("wrong", "message"),
    {
        "evaluation.panel=x": "Value 'x' of type 'str' could not be converted to Integer",
        "evaluation.panel=1.5": "Value '1.5' of type 'float' could not be converted to Integer",
        "export.masks=perhaps": "Value 'perhaps' is not a valid bool (type str)",
        "runtime.devices=two": "Value 'two' of type 'str' could not be converted to Integer",
        "checkpoints.segmenter=[a]": "Cannot convert 'list' to string: '['a']'",
        "checkpoints=x": "Invalid type assigned: str is not a subclass of Checkpoints. value: x",
    }.items(),
)
def test_a_value_of_another_type_is_refused_by_hydra_itself(wrong, message):
    with pytest.raises(SegError) as caught:
        prepare_arguments([wrong])
    assert str(caught.value) == f"{wrong}: {message}"
    assert isinstance(caught.value.__cause__, HydraException)


def test_keys_that_are_there_may_be_set_with_two_signs():
    arguments = ["++epoch=3", "++data.size=64", "++evaluation.panel=3", "++runtime.threads=1"]
    assert prepare_arguments(arguments) == arguments


@pytest.mark.parametrize(
    ("old", "new"),
    {
        "runtime.precision=bf16-mixed": "precision=bf16-mixed",
        "++runtime.precision=bf16-mixed": "++precision=bf16-mixed",
        "data.boxes.threshold=0.3": "threshold=0.3",
        "data.boxes.refined_threshold=0.3": "data.refine.threshold=0.3",
        "data.boxes.scale=0.5": "supervision.scale=0.5",
        "data.boxes.clip=false": "supervision.clip=false",
        "data.boxes.test_images=false": "supervision.test_images=false",
        "data.boxes.levels=[1]": "data.refine.levels=[1]",
        "data.boxes.train_radius=3": "data.refine.train_radius=3",
    }.items(),
)
def test_old_keys_still_work_and_say_their_new_name(old, new, capsys):
    arguments = ["pipeline=bbox_affinity"]
    assert prepare_arguments([*arguments, old]) == [*arguments, new]
    assert capsys.readouterr().err == f"{old.partition('=')[0]} is {new.partition('=')[0]} now\n"
    assert prepare_arguments([*arguments, new]) == [*arguments, new]
    assert capsys.readouterr().err == ""


def test_a_sweeps_folder_that_cannot_be_made_is_one_line_before_hydra(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        run.main(["-m", "epoch=1..3", "hydra.sweep.dir=file/x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: file/x: cannot be written to; choose another with hydra.sweep.dir=\n"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_select_stands_for_what_a_sweep_chose(tmp_path, capsys):
    (tmp_path / "best.yaml").write_text(
        "miou: {rule: by masks, overrides: [epoch=7, threshold=0.3, supervision=bbox]}\n"
        "held_out_accuracy: {rule: by labels, overrides: [epoch=9]}\n"
    )
    here = [f"select={tmp_path}", "pipeline=cam_affinity"]
    assert prepare_arguments(here) == [*here, "epoch=7", "threshold=0.3"]
    assert "(by masks)" in capsys.readouterr().out
    older = tmp_path / "older.yaml"
    older.write_text("miou: {rule: by masks, overrides: [data.boxes.refined_threshold=0.3]}\n")
    assert prepare_arguments([f"select={older}"])[1:] == ["data.refine.threshold=0.3"]
    assert "data.boxes.refined_threshold is data.refine.threshold now" in capsys.readouterr().err
    counted = tmp_path / "counted.yaml"
    counted.write_text("miou: {rule: by masks, images: 16, overrides: [epoch=7, threshold=0.3]}\n")
    facts = ["++chosen_by_masks.epoch=16", "++chosen_by_masks.threshold=16"]
    assert prepare_arguments([f"select={counted}"])[1:] == ["epoch=7", "threshold=0.3", *facts]
    assert prepare_arguments([f"select={counted}", "epoch=9"])[2:] == ["threshold=0.3", facts[1]]
    file = [f"select={tmp_path}/best.yaml", "threshold=0.5"]
    assert prepare_arguments(file) == [*file, "epoch=7", "supervision=bbox"]
    blind = [*here, "select_by=held_out_accuracy"]
    assert prepare_arguments(blind) == [*blind, "epoch=9"]
    assert "(by labels)" in capsys.readouterr().out
    other = tmp_path / "epoch=1..3,threshold=0.1..0.3"  # as sweeps are called; the shell has taken the quotes away
    other.mkdir()
    (other / "best.yaml").write_text((tmp_path / "best.yaml").read_text())
    assert prepare_arguments([f"select={other}", *here[1:]]) == [f"select='{other}'", *prepare_arguments(here)[1:]]
    plain = ["supervision=cam", "lr=1e-3", "precision=bf16-mixed", "threshold=valley", "data.size=64"]
    plain += ["seeds.clean_up=[fill_holes, closing]", "seeds.clean_up=[]", "weights=null", "runtime.threads=1"]
    (tmp_path / "best.yaml").write_text(f"miou: {{rule: by masks, overrides: {plain}}}\n")
    assert set(plain) <= set(selected(tmp_path, "miou", [])[0])
    (tmp_path / "best.yaml").write_text("miou: 3")
    with pytest.raises(SegError, match=r"is not the best\.yaml of a sweep"):
        prepare_arguments(here)


@pytest.mark.parametrize(
    ("value", "typed"),
    {
        "/home/jö/x": "'data.root=\"/home/jö/x\"'",
        "photos (1)": "'data.root=\"photos (1)\"'",
        "a=b": "'data.root=\"a=b\"'",
        'a "b"=': '\'data.root="a \\"b\\"="\'',
    }.items(),
)
def test_a_value_that_hydra_cannot_read_is_said_as_it_can(value, typed):
    with pytest.raises(SegError) as caught:
        prepare_arguments(["data=image_folder", f"data.root={value}"])
    assert str(caught.value).endswith(f"quote the value so: {typed}")
    given = ["data=image_folder", shlex.split(typed)[0]]
    assert prepare_arguments(given) == given
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("config", given).data.root == value


def test_a_home_is_written_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    with pytest.raises(SegError, match=r"""quote the value so: 'data\.root="/home/me/photos"'"""):
        prepare_arguments(["data.root=~/photos"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-m", "epoch=1..9000", "seed=1..9000"],
            "a sweep of 81000000 jobs (9000 of epoch x 9000 of seed), more than ",
        ),
        (["-m", "epoch=1..100000000"], "epoch=1..100000000: more than 10000 values; give a larger step"),
        (["-m", "epoch=range(1,100000000)"], "a sweep of 99999999 jobs"),
        (["-m", "epoch=range(1,9000)", "seed=range(1,9000)"], "a sweep of 80982001 jobs"),
        (["-m", "epoch=1..20", "hydra.sweeper.max_jobs=10"], "epoch=1..20: more than 10 values"),
        (["-m", "epoch=1..20", "hydra.sweeper.max_jobs=many"], "hydra.sweeper.max_jobs=many: must be a whole number"),
        (["-m", "threshold=0..1:1e-999999999"], "threshold=0..1:1e-999999999: a number of more than 100 digits"),
        (["seed=" + "9" * 5000], "seed=9999"),
        (["~nothing"], "Could not delete from config. 'nothing' does not exist."),
        (["~data"], "${data}_${supervision}: refers to what is not there"),
        (["~epoch"], "~epoch: every run needs it; set it instead"),
        (["--nothing"], "unrecognized arguments: --nothing; values are given as key=value"),
        (["epoch=1", "--config-dir"], "argument --config-dir/-cd: expected one argument; values"),
        (["epoch"], "epoch: give key=value, as in epoch=...; --help shows what can be chosen"),
        (["-m", "epoch"], "epoch: give key=value"),
        (["--config-dir", "conf", "epoch=1", "threshold"], "threshold: give key=value"),
        (["labelled.share=" + "9" * 400], "labelled.share=99999999999999999999...: a number of more than 100 digits"),
        (["data.root=" + "[" * 3000], "data.root=[[["),
        (["=3"], "=3: "),
        (["hydra/launcher=null"], "hydra/launcher=null: "),
        (["data.root="], "data.root=: must not be empty"),
        (["hydra.run.dir="], "hydra.run.dir=: must not be empty"),
        (["data.root=caf\udce9"], "'data.root=caf\\udce9': holds bytes that are not UTF-8"),
        (["--config-name", "foo"], "--config-name foo: no such config; leave it out"),
        (["--config-name=foo"], "--config-name foo: no such config; leave it out"),
        (["--config-path", "foo"], "--config-path foo: no such folder"),
    ],
)
def test_what_broke_it_is_one_line_at_once(arguments, message):
    started = time.perf_counter()
    with pytest.raises(SegError) as caught:
        prepare_arguments(arguments)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 1000
    assert time.perf_counter() - started < 5


def test_the_limit_of_jobs_can_be_raised():
    given = ["-m", "epoch=1..20", "seed=1..2", "hydra.sweeper.max_jobs=40"]
    assert prepare_arguments(given)[1].startswith("epoch=1,2,3,")
    with pytest.raises(SegError, match=r"a sweep of 40 jobs .*hydra\.sweeper\.max_jobs=39 allows"):
        prepare_arguments([*given[:3], "hydra.sweeper.max_jobs=39"])


@pytest.mark.parametrize(
    "override",
    [
        "+tracker.evil._target_=subprocess.getoutput",
        "tracker.evil._target_=subprocess.getoutput",
        "supervision._target_=evil.Run",
        "segmenter.net._target_=evil",
        "segmenter._target_=x",
        "~data",
        "++epoch=1",
        "hydra.run.dir=elsewhere",
        "hydra.searchpath=[evil]",
        "hydra/launcher=evil",
        "hydra/launcher=joblib",
        "store=elsewhere",
        "export.masks=true",
        "data.root=elsewhere",
        "data.prepared.source.cache=x",
        "data.download=true",
        "tracker=mlflow",
        "supervision=../../evil",
        "supervision=/tmp/evil",
        "weights=/etc/passwd",
        "weights=${oc.env:HOME}",
        "epoch=${oc.env:HOME}",
        "epoch=glob(*)",
        "epoch='1'",
        "epoch={a: 1}",
        "epoch=1 2",
        "epoch=1,2",
        "epoch=[[1]]",
        "epoch",
        "--config-dir=evil",
        "-m",
        "epoch=\x1b[2J",
        "",
    ],
)
def test_select_takes_nothing_else_out_of_a_strangers_file(override, tmp_path):
    document = {"miou": {"rule": "x", "overrides": ["epoch=1", override], "miou": 0.5}}
    (tmp_path / "best.yaml").write_text(json.dumps(document))
    with pytest.raises(SegError, match="is no swept key with a plain value, so nothing is taken from it") as refused:
        prepare_arguments([f"select={tmp_path}", "dry_run=true"])
    assert "\x1b" not in str(refused.value) and "\n" not in str(refused.value)


def test_select_of_a_file_that_runs_code(tmp_path):
    """As it is typed, in the folder where the module lies, with a dry run; and YAML that would run or grow."""
    marker = tmp_path / "was_run"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    for overrides in ("['+tracker.evil._target_=evil.x']", f"[!!python/object/apply:os.system ['touch {marker}']]"):
        (tmp_path / "best.yaml").write_text(f"miou: {{rule: x, overrides: {overrides}}}\n")
        status, said = call(tmp_path, "select=best.yaml", "dry_run=true")
        assert status != 0 and "select=best.yaml: " in said and "Traceback" not in said
    assert not marker.exists()
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]  # 9**12 times x
    (tmp_path / "best.yaml").write_text("\n".join([*lines, "miou: {rule: *a11, overrides: [epoch=1]}"]))
    began = time.process_time()
    for text in (None, "[" * 9000, "[" * 50_000, "miou: {overrides: [epoch=1], rule: x, images: many}"):
        if text is not None:
            (tmp_path / "best.yaml").write_text(text)
        with pytest.raises(SegError, match=r"is not the best\.yaml of a sweep"):
            prepare_arguments(["select=best.yaml"])
    assert time.process_time() - began < 5
