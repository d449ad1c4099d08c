"""Files from others run no code and lead nowhere: what has no test beside its module (SECURITY.md)."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from seg.data.folder_layout import Names, find_parts, image_ids
from seg.data.image_folder import ImageFolder
from seg.data.pets import read_pets
from seg.errors import SegError
from seg.store import Store
from seg.store.__main__ import main as store_main
from seg.store.run_folders import remember_run

ROOT = Path(__file__).parents[1]


def test_gc_instantiates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Configs lie in run folders, and a run folder may be anybody's."""
    (tmp_path / "evil_stage.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "outputs/runs/one"
    (run / ".hydra").mkdir(parents=True)
    (tmp_path / "outputs/store").mkdir()
    node = "{_target_: evil_stage.Evil}"
    command = f"{{_target_: subprocess.getoutput, cmd: 'touch {tmp_path}/was_run'}}"
    for name in ("config", "overrides", "hydra"):
        (run / f".hydra/{name}.yaml").write_text(f"chain: {{a: {node}}}\nsupervision: {command}\ntracker: {command}\n")
    for products in (["../../../x/y"], [node], node):
        remember_run(tmp_path / "outputs/store", run, products)
        store_main(["gc", "--dry-run"])
        store_main(["gc"])
    assert "Traceback" not in "".join(capsys.readouterr())
    assert not (tmp_path / "was_run").exists() and run.is_dir()


@pytest.mark.parametrize("said", ["{root}/secret_1.jpg", "cat/../../secret_1", "..\\secret_1", "cat/.."])
def test_lists_lead_nowhere(photos: Callable[..., Path], tmp_path: Path, new_store: Store, said: str) -> None:
    """What a list names is looked up among the photos, and never opened."""
    root, said = photos(), said.format(root=tmp_path)
    (tmp_path / "secret_1.jpg").write_bytes(b"secret")
    names = Names(image_ids(find_parts(root).images))
    assert names.find(said) is None and names.find(said, anywhere=True) is None
    (tmp_path / "boxes.csv").write_text(f"file,xmin,ymin,xmax,ymax\n{said},1,1,5,5\n")
    (tmp_path / "test.txt").write_text(f"{said}\n")
    for given in ({"boxes_from": "boxes.csv"}, {"test_list": "test.txt"}):
        source = ImageFolder(root=str(root), **{k: str(tmp_path / v) for k, v in given.items()})
        with contextlib.suppress(SegError):  # it is said in a line, or the photo is not found
            records = new_store.get(source).records
            assert len(records) == 10
            assert all(r.image.is_relative_to(root) and not r.boxes and ".." not in r.id for r in records)


def test_official_lists_lead_nowhere(official: Callable[..., Path]) -> None:
    root = official()
    (root / "secret_1.jpg").write_bytes(b"secret")
    lists = root / "oxford-iiit-pet/annotations/trainval.txt"
    before = lists.read_text()
    for line in ("../../secret_1 1 1 1", "../../secret_1 3 1 1", "/etc/passwd_1 3 1 1"):
        lists.write_text(f"{before}{line}\n")
        with pytest.raises(SegError, match=r"secret|passwd"):
            read_pets(root)


def test_only_known_places_run_code_or_unpickle() -> None:
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
