"""The documentation: its examples run, its commands are understood, its links lead somewhere."""

import csv
import json
import os
import re
import shlex
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from within import TINY, TOYS, succeed

from seg import load_model, predict
from seg.cli import prepare_arguments
from seg.compare import parse as parse_compare
from seg.config.paths import CONF
from seg.demo import parse as parse_demo
from seg.predict import parse
from seg.store.__main__ import parse as parse_store

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
EXTENDING = ROOT / "docs/extending.md"
OWN_METHOD = ROOT / "docs/recipes/own_method.md"
OWN = ["--config-dir", "conf", "hydra.run.dir=out"]

if not EXTENDING.is_file():
    pytest.skip("docs/ is not part of this copy", allow_module_level=True)


def blocks(page, language):
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


# -- the examples of docs/extending.md and docs/recipes/own_method.md --------------------------------------------


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A user's folder with the examples, which is the current one and where Python finds modules."""
    folder = tmp_path_factory.mktemp("mine")
    sources = [(page, language) for page in (OWN_METHOD, EXTENDING) for language in ("python", "yaml")]
    for text in [text for page, language in sources for text in blocks(page, language)]:
        named = re.search(r"^# ([\w/]+\.(?:py|yaml))$", text, re.MULTILINE)
        assert named is not None, text
        (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
        (folder / named[1]).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield folder
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def figures(run):
    with (run / "metrics.csv").open() as file:
        return {(row["stage"], row["split"]): row for row in csv.DictReader(file)}


def stored(stage):
    return sorted(p for p in Path("outputs/store", stage).glob("*") if p.is_dir())


def test_own_supervision_and_refiner_from_the_shell(mine):
    """The one test that starts ``python -m``, which finds modules in the current folder."""
    options = [*TOYS, "figures=false", "supervision=contrast", "refiner=guided", "threshold=0.5"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "seg.run", *OWN, *options],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert figures(Path("out")).keys() >= {("contrast to the border >= 0.5", "trainval"), ("refined masks", "test")}
    scores = np.load(stored("Contrast")[0] / "scores.npy")
    assert scores.shape == (24, 56, 56) and scores.dtype == np.float16
    assert (scores.reshape(24, -1).max(1) == 1).all() and scores.min() >= 0
    assert stored("GuidedFilter") and not stored("Classifier")


def test_own_segmenter(mine):
    succeed(mine, *OWN, *TOYS, "figures=false", "pipeline=full", "segmenter=tiny", "segmenter.epochs=1")
    assert ("TinyNet prediction", "test") in figures(Path("out"))
    info = json.loads(Path("out/models/segmenter.json").read_text())
    assert info["architecture"] == {"class": "my_segmenter.TinyNet", "width": 16}
    (mask,) = predict(load_model("out", "cpu"), [np.zeros((40, 30, 3), np.uint8)])
    assert mask.shape == (40, 30) and set(np.unique(mask)) <= {0, 1}


def test_own_chain_whose_last_masks_a_segmenter_learns(mine):
    options = ["pipeline=walk_pamr", "supervision=contrast", "colocalise=none", "data.refine.epochs=1"]
    options += ["segmenter=tiny", "segmenter.epochs=1", "segmenter.masks.pseudo=${chain.sharpened.masks}"]
    succeed(mine, *OWN, *TINY, *options)
    names = [name for name, split in figures(Path("out")) if split == "test"]
    assert names[-3:] == ["refined masks", "TinyNet prediction", "sharpened masks"]
    (walk,), (sharpened,) = stored("Walk"), stored("PAMR")
    manifest = json.loads((sharpened / "manifest.json").read_text())
    assert manifest["upstream"]["scores"] == f"Walk/{walk.name}"


# -- all pages ---------------------------------------------------------------------------------------------------


def commands():
    """Module and arguments of every ``python -m seg...`` in the fenced blocks, each once."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        names = dict(re.findall(r'^([A-Z]+)="([^"]*)"', text, re.MULTILINE))
        for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            for module, rest in re.findall(r"-m (seg\.\w+)(.*)", block):
                found[module, string.Template(rest).safe_substitute(names)] = None
    return list(found)


@pytest.mark.parametrize(("module", "rest"), commands(), ids=str.strip)
def test_every_command_is_understood(mine, module, rest):
    arguments = shlex.split(rest, comments=True)
    if module == "seg.run":
        for argument in prepare_arguments(arguments):
            group, _, choice = argument.lstrip("+").partition("=")
            if group and not group.startswith("hydra/") and (CONF / group).is_dir() and re.fullmatch(r"\w+", choice):
                places = [place / group / f"{choice}.yaml" for place in (CONF, mine / "conf")]
                assert any(place.is_file() for place in places), argument
    elif parse_of := {"seg.predict": parse, "seg.demo": parse_demo, "seg.compare": parse_compare}.get(module):
        assert parse_of(arguments)
    else:
        assert module == "seg.store" and parse_store(arguments).command


def test_the_commands_were_found():
    modules = {f"seg.{name}" for name in ("compare", "demo", "predict", "run", "store")}
    assert len(commands()) > 20 and {module for module, _ in commands()} == modules


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s#:]+)[^):]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
