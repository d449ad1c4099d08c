"""What the command line becomes before Hydra reads it, and what is refused once it is composed."""

import json
import re
import shlex
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from within import TINY, call

from seg.cli import prepare_arguments
from seg.config import schema
from seg.config.paths import CONF
from seg.errors import SegError
from seg.experiment import Experiment
from seg.sweep.select import selected

schema.register()

QUIET = ["hydra/hydra_logging=weakseg_sweep", "hydra/job_logging=weakseg_sweep"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(*arguments):
    """The one line that a command is refused in, before anything is written."""
    before = sorted(Path.cwd().iterdir())
    status, said = call(Path.cwd(), *arguments)
    assert status in (1, 2) and "Traceback" not in said and "Warning" not in said, said
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) < 1000, said
    assert not Path("outputs/store").exists() and sorted(Path.cwd().iterdir()) in (before, [Path.cwd() / "outputs"])
    return lines[0].removeprefix("error: ")


def folder_of(arguments):
    """The sweep's folder, as Hydra's main function composes it from the prepared arguments."""
    overrides = [a for a in prepare_arguments(arguments) if a != "-m"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        return hydra.compose_config("config", overrides, RunMode.MULTIRUN, with_log_configuration=False).hydra.sweep.dir


def test_a_run_and_a_question_are_left_alone():
    for arguments in (
        ["pipeline=cam_affinity", "epoch=3", "++data.size=64", "hydra.run.dir=x"],
        ["--shell-completion", "install=bash"],
        ["--help"],
    ):
        assert prepare_arguments(arguments) == arguments


def test_the_shells_completion_is_hydras_own(tmp_path):
    status, said = call(tmp_path, "--shell-completion", "install=bash")
    assert status == 0 and "COMP_LINE" in said


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_sweep_is_expanded_and_named(place):
    arguments = ["epoch=1..3", "threshold=0.1..0.3"]
    arguments.insert(place, "-m")
    assert prepare_arguments(arguments) == ["-m", "epoch=1,2,3", "threshold=0.1,0.2,0.3", *QUIET]
    assert folder_of(arguments) == "outputs/sweeps/cam/epoch=1..3,threshold=0.1..0.3"


def test_the_grid_has_the_name_of_the_command_that_it_stands_for():
    assert prepare_arguments(["sweep=grid", "epoch=1..3"]) == ["sweep=grid", "epoch=1,2,3", *QUIET]
    assert folder_of(["sweep=grid"]) == folder_of(["-m", "threshold=0.1..0.9", "epoch=1..20"])
    assert folder_of(["sweep=grid", "epoch=1..5"]) == folder_of(["-m", "epoch=1..5", "threshold=0.1..0.9"])


def test_the_name_comes_from_what_can_change_a_figure():
    plain = folder_of(["-m", "epoch=1..3"])
    for aside in ("store=x", "runtime.threads=1", "figures=true", "export.masks=true", "hydra/launcher=basic"):
        assert folder_of(["-m", "epoch=1..3", aside]) == plain
    for other in ("seed=1", "data.size=64", "seeds.clean_up=[fill_holes]", "precision=bf16-mixed"):
        assert folder_of(["-m", "epoch=1..3", other]) != plain
    assert folder_of(["-m", "pipeline=cam,bbox"]) == "outputs/sweeps/several/pipeline=cam+bbox"
    slashes = folder_of(["-m", "epoch=1..3", "weights=a/b@c.pt"])
    assert re.fullmatch(r"outputs/sweeps/cam/epoch=1\.\.3,weights=a-b-c\.pt-[0-9a-f]{8}", slashes)
    assert slashes != folder_of(["-m", "epoch=1..3", "weights=a-b/c.pt"])
    assert len(Path(folder_of(["-m", "epoch=1..3", f"weights={'w' * 300}"])).name) < 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    {
        # Hydra's and OmegaConf's own words.
        "epoch=1..3": "Ambiguous value for argument 'epoch=1,2,3' To sweep over it, add --multirun",
        "epok=1": "Could not override 'epok'. Key 'epok' not in 'Config'; --cfg job shows all keys",
        "evaluation.bordr=ignore": "Could not override 'evaluation.bordr'. Key 'bordr' not in 'Evaluation'",
        "evaluation.panel=x": "Error merging override evaluation.panel=x Value 'x' of type 'str' could not be",
        "supervision=bx": "In 'config': Could not find 'supervision/bx' Available options in 'supervision': bbox body",
        "~data": "Error resolving interpolation '${data}_${supervision}'",
        "segmenter.epochs=3": "segmenter.epochs=3: this run has segmenter=none, and nothing uses it",
        "--config-dir nowhere": "Additional config directory ",
        "--config-name foo": "Cannot find primary config 'foo'.",
        "epoch": "Error parsing override 'epoch' missing EQUAL",
        "-m epoch=1..2 hydra.sweep.subdir=${hydra.job.num}": "hydra.sweep.subdir=${hydra.job.num}: a job's folder is ",
        # Ours, for what Hydra would take.
        "recipe=toy": "recipe=toy: no such choice; there are ",
        "segmenter=null": "segmenter=null: no such choice; there are deeplabv3, none, ",
        "data.root=": "data.root=: must not be empty",
        "hydra.job.chdir=true": "hydra.job.chdir=true: relative paths would be looked for in the run's folder",
        "-m epoch=1..2 hydra.job.chdir=true": "hydra.job.chdir=true: relative paths would be looked for",
        "-m epoch=3..1": "epoch=3..1: descends, so it is empty; write 1..3",
        "-m epoch=1,2,x": "epoch=x: Value 'x' of type 'str' could not be converted to Integer",
        "-m supervision=cam,bx": "In 'config': Could not find 'supervision/bx'",
        "-m epoch=1..3 hydra.sweep.dir=/proc/x": "/proc/x: cannot be written to; choose another with hydra.sweep.dir=",
        "-m epoch=interval(1,3)": "epoch=interval(1,3): has no single values",
        "-m epoch=1..9000 seed=1..9000": "a sweep of 81000000 jobs (9000 of epoch x 9000 of seed), more than ",
        "-m epoch=range(1,100000000)": "a sweep of 99999999 jobs",
        "-m epoch=1..20 hydra.sweeper.max_jobs=10": "epoch=1..20: more than 10 values",
        "select=nowhere": "select=nowhere: no such folder or file; give a sweep's folder or its best.yaml",
        "select=. select_by=luck": "select_by=luck: must be one of miou, held_out_accuracy",
        "seed=" + "9" * 5000: "seed=9999",
        "data.root=" + "[" * 3000: "data.root=[[[",
    }.items(),
)
def test_mistakes_are_one_line_before_anything_runs(arguments, message):
    started = time.perf_counter()
    assert refused(*arguments.split()).startswith(message)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    "arguments",
    [
        "+nonsense=1",
        "++runtime.nonsense=1",
        "+evaluation.nonsense=1",
        "++checkpoints.classifer=x",
        "checkpoints.segmenter=x.pth",
        "labelled.count=5",
        "labelled.share=0.5 segmenter=unet",
        "select_by=held_out_accuracy",
        "seed=3 pipeline=bbox",
        "data.refine.beta=3",
        "data.refine.beta=3 -m epoch=1..3",
        "seed=1..3 -m pipeline=bbox",
        "classifier.epochs=8",
        "classifier.lr=1 checkpoints.classifier=x.pth",
    ],
)
def test_what_is_set_and_nothing_uses_is_refused(arguments):
    said = refused(*arguments.split())
    typed = arguments.split()[0].replace("1..3", "1,2,3")
    assert said.startswith(f"{typed}: ") and said.endswith("; leave it out, or correct the key (--cfg job shows all)")


def test_a_key_that_one_job_of_a_sweep_uses_is_used(tmp_path):
    sweep = ["-m", "refiner=none,affinity", "data.refine.beta=8", "dry_run=true"]
    assert call(tmp_path, *TINY, *sweep)[0] == 0


def leaves(node, above=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


#: Keys that change where and how a run computes, or what it leaves, but not its stages.
OF_THE_RUN = r"(store|dry_run|figures|select|evaluation\..*|export\..*|runtime\..*|chosen_by_masks\..*)"
#: Parameters that are in no key: where files lie, how many may be bad, which epochs are kept.
IN_NO_KEY = r".*\.(max_bad_share|_target_|kind|keep)"


@pytest.mark.parametrize("pipeline", [["bbox"], ["cam"], ["cam_affinity", "segmenter=unet"]], ids=str)
def test_every_key_is_used_or_refused(pipeline):
    """A number that is changed changes the keys of the stages, or the key is refused; and nothing else is."""
    from omegaconf import OmegaConf

    chosen = [f"pipeline={pipeline[0]}", *pipeline[1:], "data.prepared.source.images=24"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", chosen)
    before, tried = {s.id for s in Experiment.from_config(cfg).stages()}, 0
    for key, value in leaves(OmegaConf.to_container(cfg, resolve=False)):
        number = OmegaConf.select(cfg, key)
        is_used = not Experiment.from_config(cfg).unused([f"{key}=x"], [])
        if re.fullmatch(OF_THE_RUN, key):
            assert is_used
        elif isinstance(value, int | float) and not isinstance(value, bool) and not re.fullmatch(IN_NO_KEY, key):
            other = cfg.copy()
            for changed in (number * 2, number / 2, number + 1, 1):
                OmegaConf.update(other, key, type(number)(changed))
                try:
                    after = {s.id for s in Experiment.from_config(other).stages()}
                except SegError:
                    continue
                if changed != number:
                    assert is_used == (after != before), key
                    tried += 1
                    break
    assert tried > 15


def test_select_stands_for_what_a_sweep_chose(tmp_path, capsys):
    (tmp_path / "best.yaml").write_text(
        "miou: {rule: by masks, overrides: [epoch=7, threshold=0.3, supervision=bbox]}\n"
        "held_out_accuracy: {rule: by labels, overrides: [epoch=9]}\n"
    )
    here = [f"select={tmp_path}", "pipeline=cam_affinity"]
    assert prepare_arguments(here) == [*here, "epoch=7", "threshold=0.3"]
    assert "(by masks)" in capsys.readouterr().out
    counted = tmp_path / "counted.yaml"
    counted.write_text("miou: {rule: by masks, images: 16, overrides: [epoch=7, threshold=0.3]}\n")
    facts = ["++chosen_by_masks.epoch=16", "++chosen_by_masks.threshold=16"]
    assert prepare_arguments([f"select={counted}"])[1:] == ["epoch=7", "threshold=0.3", *facts]
    assert prepare_arguments([f"select={counted}", "epoch=9"])[2:] == ["threshold=0.3", facts[1]]
    blind = [*here, "select_by=held_out_accuracy"]
    assert prepare_arguments(blind) == [*blind, "epoch=9"]
    other = tmp_path / "epoch=1..3,threshold=0.1..0.3"  # as sweeps are called; the shell has taken the quotes away
    other.mkdir()
    (other / "best.yaml").write_text((tmp_path / "best.yaml").read_text())
    assert prepare_arguments([f"select={other}", *here[1:]]) == [f"select='{other}'", *prepare_arguments(here)[1:]]
    plain = ["supervision=cam", "lr=1e-3", "precision=bf16-mixed", "threshold=valley", "data.size=64"]
    plain += ["seeds.clean_up=[fill_holes, closing]", "seeds.clean_up=[]", "weights=null", "runtime.threads=1"]
    (tmp_path / "best.yaml").write_text(f"miou: {{rule: by masks, overrides: {plain}}}\n")
    assert set(plain) <= set(selected(tmp_path, "miou", [])[0])


@pytest.mark.parametrize(
    ("value", "typed"),
    {
        "/home/jö/x": "'data.root=\"/home/jö/x\"'",
        "photos (1)": "'data.root=\"photos (1)\"'",
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


@pytest.mark.parametrize(
    "override",
    [
        "+tracker.evil._target_=subprocess.getoutput",
        "supervision._target_=evil.Run",
        "~data",
        "hydra.searchpath=[evil]",
        "hydra/launcher=joblib",
        "store=elsewhere",
        "data.root=elsewhere",
        "data.download=true",
        "tracker=mlflow",
        "supervision=../../evil",
        "weights=${oc.env:HOME}",
        "epoch=glob(*)",
        "epoch={a: 1}",
        "epoch=1,2",
        "epoch",
        "--config-dir=evil",
        "epoch=\x1b[2J",
        "",
    ],
)
def test_select_takes_nothing_else_out_of_a_strangers_file(override, tmp_path):
    document = {"miou": {"rule": "x", "overrides": ["epoch=1", override], "miou": 0.5}}
    (tmp_path / "best.yaml").write_text(json.dumps(document))
    with pytest.raises(SegError, match="is no swept key with a plain value, so nothing is taken from it") as caught:
        prepare_arguments([f"select={tmp_path}", "dry_run=true"])
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)


def test_select_of_a_file_that_would_run_or_grow(tmp_path):
    marker = tmp_path / "was_run"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]  # 9**12 times x
    texts = [
        f"miou: {{rule: x, overrides: [!!python/object/apply:os.system ['touch {marker}']]}}",
        "\n".join([*lines, "miou: {rule: *a11, overrides: [epoch=1]}"]),
        "[" * 9000,
        "miou: 3",
        "miou: {overrides: [epoch=1], rule: x, images: many}",
    ]
    began = time.process_time()
    for text in texts:
        (tmp_path / "best.yaml").write_text(text)
        with pytest.raises(SegError, match=r"is not the best\.yaml of a sweep"):
            prepare_arguments(["select=best.yaml"])
    assert not marker.exists() and time.process_time() - began < 5
