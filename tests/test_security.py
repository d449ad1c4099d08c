"""Files from others run no code and lead nowhere: what has no test beside its module (SECURITY.md)."""

import contextlib
import re
from pathlib import Path

import pytest

from seg.data.image_folder import ImageFolder
from seg.data.pets import OxfordPet
from seg.errors import SegError
from seg.store.__main__ import main as store_main
from seg.store.run_folders import remember_run

ROOT = Path(__file__).parents[1]


def test_gc_instantiates_nothing(tmp_path, monkeypatch):
    """Run folders hold configs, and may come from others."""
    (tmp_path / "evil_stage.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "outputs/runs/one"
    (run / ".hydra").mkdir(parents=True)
    (tmp_path / "outputs/store").mkdir()
    node = "{_target_: evil_stage.Evil}"
    for name in ("config", "overrides", "hydra"):
        (run / f".hydra/{name}.yaml").write_text(f"chain: {{a: {node}}}\nsupervision: {node}\ntracker: {node}\n")
    for products in (["../../../x/y"], [node], node):
        remember_run(tmp_path / "outputs/store", run, products)
        store_main(["gc"])
    assert not (tmp_path / "was_run").exists() and run.is_dir()


@pytest.mark.parametrize("name", ["{root}/secret_1.jpg", "cat/../../secret_1", "..\\secret_1"])
@pytest.mark.parametrize("key", ["boxes_from", "test_list"])
def test_lists_lead_nowhere(photos, tmp_path, new_store, name, key):
    """A name in a list is looked up among the photos, and never opened."""
    root, name = photos(), name.format(root=tmp_path)
    (tmp_path / "secret_1.jpg").write_bytes(b"secret")
    (tmp_path / "boxes_from.csv").write_text(f"file,xmin,ymin,xmax,ymax\n{name},1,1,5,5\n")
    (tmp_path / "test_list.csv").write_text(f"{name}\n")
    with contextlib.suppress(SegError):  # an error, or the name is skipped
        records = new_store.get(ImageFolder(root=str(root), **{key: str(tmp_path / f"{key}.csv")})).records
        assert len(records) == 10 and all(r.image.is_relative_to(root) and not r.boxes for r in records)


@pytest.mark.parametrize("line", ["../../secret_1 3 1 1", "/etc/passwd_1 3 1 1"])
def test_official_lists_lead_nowhere(official, line):
    root = official()
    (root / "secret_1.jpg").write_bytes(b"secret")
    with (root / "oxford-iiit-pet/annotations/trainval.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(SegError, match=r"secret|passwd"):
        OxfordPet(root=str(root)).params()


def test_only_known_places_run_code_or_unpickle():
    doors = (
        r"(?<![\w`])((?<!\.)(?:eval|exec|__import__)|pickle\.loads?|torch\.load|torch\.jit\.\w+|import_module|resolve_name"
        r"|instantiate|get_class|os\.system|os\.popen|subprocess\.\w+|Popen|yaml\.(?:load|unsafe_load)|extractall"
        r"|unpack_archive|Image\.open)\((.*)|(allow_pickle=True)()"
    )
    known = {
        ("seg/config/tree.py", "import_module"),  # `_target_` of the config
        ("seg/models/load.py", "import_module"),  # network=
        ("seg/sweep/shared_config.py", "pickle.loads"),  # of this process
    }
    needs = {"torch.load": "weights_only=True", "Image.open": "formats="}
    for path in (ROOT / "seg").rglob("*.py"):
        for name, arguments, *_ in re.findall(doors, path.read_text()):
            place = (path.relative_to(ROOT).as_posix(), name)
            assert place in known or (name in needs and needs[name] in arguments), place
