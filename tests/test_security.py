"""What others have written runs nothing and leads nowhere: what has no test beside its module, and SECURITY.md."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from seg.data.folder_layout import Names
from seg.data.image_folder import ImageFolder, find_images
from seg.data.pets import find_pets
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
    names = Names({path.relative_to(root).as_posix(): i for i, path in find_images(root).images.items()})
    assert names.find(said) is None
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
            find_pets(root)


def test_no_other_door() -> None:
    """Whatever unpickles, evaluates, imports by name or starts programs is one of those that are known."""
    doors = (
        r"\b(pickle\.loads?|torch\.load|torch\.jit|allow_pickle=True|import_module|resolve_name|eval|exec|__import__"
    )
    doors += r"|instantiate|get_class|os\.system|os\.popen|subprocess\.\w+|Popen|yaml\.(load|unsafe_load)"
    doors += r"|extractall|unpack_archive)\("
    found = {
        (path.relative_to(ROOT).as_posix(), match[0].rstrip("("))
        for path in (ROOT / "seg").rglob("*.py")
        for match in re.finditer(doors, path.read_text())
        if not path.read_text()[: match.start()].endswith((".", "def ", "``"))
    }
    known = {
        ("seg/config/tree.py", "import_module"),  # `_target_` of the config
        ("seg/models/load.py", "import_module"),  # network=
        ("seg/nets/state_dicts.py", "torch.load"),  # weights_only
        ("seg/train/loop.py", "torch.load"),  # weights_only
        ("seg/sweep/shared_config.py", "pickle.loads"),  # of this process
    }
    assert found <= known
    for path, _ in {x for x in known if x[1] == "torch.load"}:
        text = (ROOT / path).read_text()
        calls = re.findall(r"(?<!`)torch\.load\((?!\w+=).*", text)
        assert calls and all("weights_only=True" in call for call in calls)


def test_images_are_opened_with_named_formats() -> None:
    for path in (ROOT / "seg").rglob("*.py"):
        for call in re.findall(r"Image\.open\(.*", path.read_text()):
            assert "formats=" in call, f"{path}: {call}"


def test_the_page_names_what_is_there() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    assert len(text.splitlines()) < 70
    for place in re.findall(r"`((?:seg|tests)/[\w/.]+)`", text):
        assert (ROOT / place).exists(), place
