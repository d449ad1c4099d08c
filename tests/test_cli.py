"""What the command line becomes before Hydra reads it, and what is refused once it is composed."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from within import TINY, call

from seg.cli import prepare_arguments
from seg.config import schema
from seg.config.paths import CONF
from seg.errors import SegError
from seg.experiment import Experiment

schema.register()

QUIET = ["hydra/hydra_logging=weakseg_sweep", "hydra/job_logging=weakseg_sweep"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("seg.experiment.Experiment.build", lambda _: pytest.fail("it was not refused"))


def refused(*arguments):
    """The one line that a command is refused in, before anything is written."""
    before = sorted(Path.cwd().iterdir())
    status, said = call(Path.cwd(), *arguments)
    assert status in (1, 2) and "Traceback" not in said and "Warning" not in said, said
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) < 1000, said
    assert not Path("outputs/store").exists() and sorted(Path.cwd().iterdir()) in (before, [Path.cwd() / "outputs"])
    return lines[0].removeprefix("error: ")


def test_a_run_and_a_question_are_left_alone():
    for arguments in (["pipeline=cam_affinity", "epoch=3", "++data.size=64"], ["--shell-completion", "install=bash"]):
        assert prepare_arguments(arguments) == arguments


def test_a_sweep_is_expanded():
    for arguments in (["-m", "epoch=1..3", "seed=0"], ["epoch=1..3", "-m", "seed=0"]):
        assert prepare_arguments(arguments) == ["-m", "epoch=1,2,3", "seed=0", *QUIET]
    assert prepare_arguments(["sweep=grid", "epoch=1..3"]) == ["sweep=grid", "epoch=1,2,3", *QUIET]


@pytest.mark.parametrize(
    ("arguments", "message"),
    {
        # Hydra's and OmegaConf's own words.
        "epoch=1..3": "Ambiguous value for argument 'epoch=1,2,3' To sweep over it, add --multirun",
        "evaluation.bordr=ignore": "Could not override 'evaluation.bordr'. Key 'bordr' not in 'Evaluation'; did you "
        "mean border?",
        "+classifier.epohcs=3": "classifier.epohcs: Classifier has no such parameter; did you mean epochs?",
        "evaluation.panel=x": "Error merging override evaluation.panel=x Value 'x' of type 'str' could not be",
        "~data": "Error resolving interpolation '${data}_${supervision}'",
        "segmenter.epochs=3": "segmenter.epochs=3: is a key set in a group whose choice is none? Hydra says: ",
        "-m epoch=1..2 hydra.run.dir=mine": "hydra.run.dir: a sweep's folder is hydra.sweep.dir",
        "hydra.sweep.dir=mine": "hydra.sweep.dir: a run's folder is hydra.run.dir; a sweep needs -m",
        "-m epoch=1..2 hydra.sweep.subdir=mine": "hydra.sweep.subdir=mine: a job's folder is ",
        # Ours, for what Hydra would take.
        "segmenter=null": "segmenter=null: no such choice; there are none, ",
        "data.root=": "data.root=: must not be empty",
        "-m supervision=cam,bx": "In 'config': Could not find 'supervision/bx'",
        "-m epoch=1..3 hydra.sweep.dir=/proc/x": "/proc/x: cannot be written to; choose another with hydra.sweep.dir=",
        "-m epoch=interval(1,3)": "epoch=interval(1,3): has no single values",
        "-m epoch=1..900 seed=1..900": "a sweep of 810000 jobs (900 of epoch x 900 of seed): more than ",
        "threshold=1.5": "seeds: Threshold.threshold=1.5: must lie in [0, 1]",
        "data.size=100": "data.prepared: data.size=100: must be a multiple of 32, such as 128",
        "runtime.accelerator=mps": "runtime.accelerator=mps: there is none here",
    }.items(),
)
def test_mistakes_are_one_line_before_anything_runs(arguments, message):
    assert refused(*arguments.split()).startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [
        "+nonsense=1",
        "data.refine.beta=3 -m epoch=1..3",
        "seed=1..3 -m pipeline=bbox",
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
OF_THE_RUN = r"(store|dry_run|figures|evaluation\..*|export\..*|runtime\..*|chosen_by_masks\..*)"
#: Parameters that are in no key: where files lie, how many may be bad, which epochs are kept.
IN_NO_KEY = r".*\.(max_bad_share|_target_|kind|keep)"


@pytest.mark.parametrize("pipeline", [["bbox"], ["cam_affinity", "segmenter=unet"]], ids=str)
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


@pytest.mark.parametrize("value", ["/home/jö/x", "photos (1)"])
def test_a_value_that_hydra_cannot_read_is_refused_with_the_way_to_quote_it(value):
    assert "needs double quotes within single ones" in refused("data=image_folder", f"data.root={value}")
    given = ["data=image_folder", f'data.root="{value}"']
    assert prepare_arguments(given) == given
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("config", given).data.root == value
