"""The documentation: its examples run, its commands compose, its links lead somewhere, its keys exist."""

import csv
import json
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from seg import run as entrypoint
from seg.cli import prepare_arguments
from seg.config import schema
from seg.config.paths import CONF

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTENDING = ROOT / "docs/extending.md"

if not EXTENDING.is_file():
    pytest.skip("docs/ is not part of this copy", allow_module_level=True)

TINY = [
    "data.prepared.source.images=24",
    "data.prepared.source.breeds=2",
    "data.prepared.source.size=48",
    "data.size=64",
    "runtime.accelerator=cpu",
    "runtime.threads=1",
    "figures=false",
]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def write_examples(folder: Path) -> list[str]:
    """Copy every block of docs/extending.md that is a file to where its first line says."""
    written = []
    for text in [*blocks(EXTENDING, "python"), *blocks(EXTENDING, "yaml")]:
        named = re.search(r"^# ([\w/]+\.(?:py|yaml))$", text, re.MULTILINE)
        assert named is not None, text
        name = named[1]
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(name)
    return written


# -- the examples of docs/extending.md ---------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with the examples, which is the current one and where Python finds modules."""
    folder = tmp_path / "mine"
    names = write_examples(folder)
    assert {n for n in names if n.endswith(".py")} == {
        "my_supervision.py",
        "my_refiner.py",
        "my_segmenter.py",
        "my_backbone.py",
        "my_data.py",
    }
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.fixture
def call(mine: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """The entrypoint within this process, in the user's folder: exit status and all that it printed."""
    monkeypatch.setattr(sys, "argv", ["seg.run"])
    handlers, level = logging.root.handlers[:], logging.root.level

    def run(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        GlobalHydra.instance().clear()
        try:
            entrypoint.main(["--config-dir", "conf", *arguments])
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capfd.readouterr()
        return status, out + err

    yield run
    GlobalHydra.instance().clear()
    for handler in set(logging.root.handlers) - set(handlers):
        handler.close()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def figures(run: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return {(row["stage"], row["split"]): row for row in csv.DictReader(file)}


def stored(stage: str) -> list[Path]:
    return sorted(p for p in Path("outputs/store", stage).glob("*") if p.is_dir())


def photos(root: Path) -> None:
    """A flat folder of 12 pictures of two classes: a bright square on dark noise, with its mask."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(12):
        name = f"{'cat' if number % 2 else 'dog'}_{number}"
        image = rng.integers(0, 40, (50, 70, 3), dtype=np.uint8)
        mask = np.zeros((50, 70), np.uint8)
        top, left = rng.integers(8, 18, 2)
        image[top : top + 24, left : left + 30] = 220
        mask[top : top + 24, left : left + 30] = 255
        Image.fromarray(image).save(root / f"images/{name}.png")
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    (root / "test.txt").write_text("dog_0\ncat_1\n")


def test_a_supervision_of_ones_own_as_the_shell_runs_it(mine: Path) -> None:
    """The one test that starts ``python -m``, which is what finds the module in the current folder."""
    own = ["supervision=contrast", "threshold=0.5", "hydra.run.dir=out"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "seg.run", "--config-dir", "conf", *TINY, *own],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = figures(Path("out"))
    assert ("contrast to the rim >= 0.5", "trainval") in rows and "CAM" not in done.stdout
    assert int(rows["seeds", "test"]["images"]) == 8
    (folder,) = stored("Contrast")
    scores = np.load(folder / "scores.npy")
    assert scores.shape == (24, 56, 56) and scores.dtype == np.float16
    assert scores.max() == 1 and (scores.reshape(24, -1).max(1) == 1).all() and scores.min() >= 0
    assert not stored("Classifier")


def test_a_refiner_of_ones_own(call: Callable[..., tuple[int, str]]) -> None:
    options = [*TINY, "supervision=contrast", "refiner=smoothed", "hydra.run.dir=out"]
    status, said = call(*options)
    assert status == 0, said
    assert ("refined masks", "test") in figures(Path("out"))
    assert len(stored("Smoothed")) == 1


def test_a_segmenter_of_ones_own(call: Callable[..., tuple[int, str]]) -> None:
    from seg import load_model, predict

    own = ["pipeline=full", "segmenter=tiny", "segmenter.epochs=2", "segmenter.net.width=4"]
    status, said = call(*TINY, *own, "hydra.run.dir=out")
    assert status == 0, said
    assert ("TinyNet prediction", "test") in figures(Path("out"))
    info = json.loads(Path("out/models/segmenter.json").read_text())
    assert info["architecture"] == {"class": "my_segmenter.TinyNet", "width": 4}
    model = load_model("out", "cpu")
    image = np.zeros((40, 30, 3), np.uint8)
    (mask,) = predict(model, [image])
    assert mask.shape == (40, 30) and set(np.unique(mask)) <= {0, 1}


def test_a_backbone_of_ones_own(call: Callable[..., tuple[int, str]]) -> None:
    pytest.importorskip("timm")
    status, said = call(*TINY, "classifier=halvings", "pipeline=cam_affinity", "epoch=1", "hydra.run.dir=out")
    assert status == 0, said
    info = json.loads(Path("out/models/classifier.json").read_text())
    assert info["architecture"]["backbone"] == "timm/five_halvings"


def test_a_data_set_of_ones_own_with_all_the_others(call: Callable[..., tuple[int, str]]) -> None:
    photos(Path("photos"))
    own = ["data=flat", "data.root=photos", "data.size=64", "supervision=contrast", "refiner=smoothed"]
    own += ["refiner.scores.sigma=1", "threshold=0.5", "runtime.accelerator=cpu", "figures=false"]
    status, said = call(*own, "hydra.run.dir=out")
    assert status == 0, said
    assert said.splitlines()[0].startswith("data: photos in a flat folder (photos)")
    assert "10 trainval + 2 test" in said
    rows = figures(Path("out"))
    # A bright square on dark noise is nothing but contrast.
    assert float(rows["contrast to the rim >= 0.5", "trainval"]["miou"]) > 0.9
    assert float(rows["refined masks", "test"]["miou"]) > 0.8


ROUNDS = [
    "epoch=1",
    "pipeline=two_rounds",
    "segmenter.epochs=1",
    "segmenter.net.width=4",
    "segmenter.net.depth=2",
    "chain.second.masks.scores.segmenter.epochs=2",
    "chain.second.masks.scores.segmenter.net.width=8",
    "chain.second.masks.scores.segmenter.net.depth=2",
    "data.refine.epochs=1",
    "data.refine.log_steps=3",
]


def test_two_rounds_of_refiner_and_segmenter(call: Callable[..., tuple[int, str]]) -> None:
    options = [*TINY, *ROUNDS, "figures=true", "evaluation.panel=1", "export.masks=true", "tracker=csv"]
    status, said = call(*options, "hydra.run.dir=out")
    assert status == 0, said
    names = [
        "CAM (label) >= 0.5",
        "appearance >= 0.5",
        "seeds",
        "refined masks",
        "PlainUNet prediction",
        "refined again",
        "second prediction",
    ]
    assert list(figures(Path("out"))) == [(name, split) for name in names for split in ("trainval", "test")]
    roles = {"classifier", "affinity_1", "affinity", "segmenter_1", "segmenter"}
    assert {path.stem for path in Path("out/models").glob("*.safetensors")} == roles


def test_pamr_after_the_walk(call: Callable[..., tuple[int, str]]) -> None:
    options = [*TINY, "pipeline=walk_pamr", "data.refine.epochs=1", "data.refine.log_steps=3", "hydra.run.dir=out"]
    status, said = call(*options)
    assert status == 0, said
    assert [name for name, split in figures(Path("out")) if split == "test"][-2:] == [
        "refined masks",
        "sharpened masks",
    ]
    (walk,), (sharpened,) = stored("Walk"), stored("PAMR")
    manifest = json.loads((sharpened / "manifest.json").read_text())
    assert manifest["upstream"]["scores"] == f"Walk/{walk.name}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("supervision=contrast supervision._target_=my_supervision.Contrst", "has no attribute 'Contrst'"),
        ("supervision=wrong", "supervision.rims: Contrast has no such parameter"),
        ("supervision=contrast supervision.rim=0", "Contrast.rim=0: must lie in [1, inf)"),
        ("data=flat data.root=none", "none/test.txt: cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    call: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, arguments: str, expected: str
) -> None:
    monkeypatch.setattr("seg.experiment.Experiment.build", lambda _: pytest.fail("it was not refused"))
    good = Path("conf/supervision/contrast.yaml").read_text()
    Path("conf/supervision/wrong.yaml").write_text(good.replace("rim:", "rims:"))
    status, said = call(*arguments.split())
    lines = [line for line in said.splitlines() if line.strip()]
    assert status != 0 and len(lines) == 1 and lines[0].startswith("error: "), said
    assert expected in lines[0]


# -- all pages ---------------------------------------------------------------------------------------------------


def commands() -> list[tuple[str, list[str]]]:
    """Module and arguments of every ``python -m seg...`` in the fenced blocks, each once."""
    found: dict[tuple[str, ...], None] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        names = dict(re.findall(r'\b([A-Z])="([^"]*)"', text.replace("\\\n", " ")))
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                for _ in range(2):  # one names another
                    line = re.sub(r"\$([A-Z])\b", lambda m, names=names: names.get(m[1], m[0]), line)
                place = re.search(r"(?<![\w-])-m (seg\.\w+)(.*)", line)
                if place is None:
                    continue
                arguments = shlex.split(re.sub(r"<\w+>", "NAME", place[2]), comments=True)
                arguments = [a for a in arguments if a not in ("&", "...")]
                choices = [a for a in arguments if "|" in a]
                for one in choices[0].partition("=")[2].split("|") if choices else [""]:
                    key = choices[0].partition("=")[0] if choices else ""
                    found[place[1], *(f"{key}={one}" if a in choices else a for a in arguments)] = None
    return [(module, list(arguments)) for module, *arguments in found]


@pytest.mark.parametrize(("module", "arguments"), commands(), ids=lambda x: " ".join(x) if isinstance(x, list) else x)
def test_every_command_is_understood(
    mine: Path, module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.register()
    GlobalHydra.instance().clear()
    if module == "seg.run":
        for argument in prepare_arguments(arguments):
            group, _, choice = argument.lstrip("+").partition("=")
            if (
                group
                and not group.startswith("hydra/")
                and (CONF / group.partition("@")[0]).is_dir()
                and re.fullmatch(r"\w+", choice)
            ):
                places = [place / group.partition("@")[0] / f"{choice}.yaml" for place in (CONF, mine / "conf")]
                assert any(place.is_file() for place in places), argument
    elif module == "seg.predict":
        from seg.predict import parse

        assert "--help" in arguments or parse(arguments)
    elif module == "seg.store":
        from seg.store.__main__ import _parser

        options = [f"--{x}" if x.startswith(("store=", "outputs=")) else x for x in arguments]
        assert _parser().parse_args(options).do
    else:
        pytest.fail(f"{module}: a tool that this test does not know")


def test_the_commands_were_found() -> None:
    assert len(commands()) > 20 and {m for m, _ in commands()} >= {"seg.run", "seg.predict", "seg.store"}
