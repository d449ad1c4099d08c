"""An edit of code rebuilds the stages that run it, and no others."""

import importlib
import sys
from pathlib import Path

import pytest

import seg
from seg.data.toys import ToyPets
from seg.refiner.affinity import Affinity
from seg.refiner.walk import Walk
from seg.segmenter.segmenter import Segmenter
from seg.store import Stage, code_hash
from seg.supervision.cam import CAM
from seg.supervision.classifier import Classifier

CACHES = (code_hash.source_hash, code_hash._followed, code_hash._parsed)

#: Edits of this package: file, old text, new text, and stages whose keys change by it, and do not.
EDITS = {
    "a refiner": ("refiner/walk.py", "class Walk", "X = 1\n\n\nclass Walk", {Walk}, {CAM, Affinity, Segmenter}),
    "a network": ("nets/unet.py", "import torch", "import torch\nX = 1", {Segmenter}, {Classifier, Walk}),
    "the training": ("train/loop.py", "import torch", "import torch\nX = 1", {Classifier, Segmenter}, {ToyPets}),
    "a docstring": ("refiner/walk.py", '"""', '"""Other words: ', set(), {Walk, Segmenter}),
    "a comment": ("refiner/walk.py", "class Walk", "# a comment\n\nclass Walk", set(), {Walk, Segmenter}),
    "a report": ("report/run_page.py", "import ", "import os\nimport ", set(), {Walk, Segmenter, Classifier}),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_of_the_package_changes_the_keys_of_what_runs_it(monkeypatch, what):
    file, old, new, changed, same = EDITS[what]
    edited, read = Path(seg.__file__).parent / file, Path.read_bytes

    def hashes():
        for cached in CACHES:
            cached.cache_clear()
        return {cls: code_hash.code_hash(cls) for cls in changed | same}

    before = hashes()
    assert len(set(before.values())) == len(before)
    text = edited.read_text().replace(old, new, 1).encode()
    monkeypatch.setattr(Path, "read_bytes", lambda path: text if path == edited else read(path))
    after = hashes()
    for cached in CACHES:
        cached.cache_clear()
    assert {cls for cls in before if before[cls] != after[cls]} == changed


MINE = '''"""A user's stage."""
from seg.store import Stage, param
from {helper} import side

class Mine(Stage):
    """{words}"""
    width: int = param(4)

    def build(self, out, store):
        (out / "x").write_text("1")  # one
'''


@pytest.fixture
def define(tmp_path, monkeypatch):
    """A user's module and the helper that it imports, read as a new process reads them."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(folder, helper="side = 1\n", words="", more=""):
        top = tmp_path / folder
        top.mkdir(exist_ok=True)
        (top / "helper_of_mine.py").write_text(helper)
        name = ".helper_of_mine" if folder else "helper_of_mine"
        (top / "mine_of_code.py").write_text(MINE.format(helper=name, words=words) + more)
        for known in ("mine_of_code", "helper_of_mine", "package.mine_of_code", "package.helper_of_mine", "package"):
            sys.modules.pop(known, None)
        importlib.invalidate_caches()
        for cached in CACHES:
            cached.cache_clear()
        return importlib.import_module(f"{folder}.mine_of_code" if folder else "mine_of_code").Mine

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return make


@pytest.mark.parametrize("folder", ["", "package"])
def test_an_edit_of_a_users_module_or_of_its_helper_changes_its_key(define, folder):
    before = define(folder)().key
    assert define(folder, words="Other words.", more="# a comment\n")().key == before
    assert define(folder, more="X = 1\n")().key != before
    assert define(folder, helper="side = 2\n")().key != before
    assert define(folder, helper="side = 1  # metre\n")().key == before


def test_a_class_without_a_file_has_a_key():
    made = type("Typed", (Stage,), {"__module__": "nowhere_of_code"})
    assert len(made().key) == 16
