"""The pages of docs/recipes, run as they are written, on small photos."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from within import TINY, succeed

from seg import load_model, predict
from seg.compare import main as compare_main
from seg.data.image_folder import ImageFolder
from seg.data.prepared import Pool, Prepared
from seg.data.toys import ToyPets
from seg.predict import main as predict_main
from seg.supervision.bbox import BoxScores

PAGES = Path(__file__).parents[1] / "docs/recipes"
SMALL = ["data.size=64", "runtime.accelerator=cpu", "runtime.threads=1", "figures=false", "evaluation.quality=false"]
SMALL += ["segmenter.epochs=25", "segmenter.batch_size=8", "segmenter.net.width=8", "segmenter.net.depth=2"]
SMALL += ["segmenter.lr=1e-2", "store=store"]

if not PAGES.is_dir():
    pytest.skip("docs/ is not part of this copy", allow_module_level=True)


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def commands(name: str) -> list[list[str]]:
    """The arguments of each line of the bash blocks; of ``python -m seg...`` without the first two words."""
    text = page(name).replace("\\\n", " ")
    lines = "".join(re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)).splitlines()
    return [shlex.split(line.removeprefix("python -m "), comments=True) for line in lines]


def test_a_table_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, dry, before, after, comparison = commands("paper_table")
    small = [*TINY, "store=store"]
    runs = [[a for a in command[1:] if a != "$DATA"] + small for command in (dry, before, after)]
    for run in runs:
        run[run.index("seed=0..4")] = "seed=0,1"
    assert "2 jobs" in succeed(tmp_path, *runs[0])
    assert not Path("tables").exists()
    assert "mean ± standard deviation" in succeed(tmp_path, *runs[1])
    assert "Classifier epoch" not in succeed(tmp_path, *runs[2])
    compare_main(comparison[1:])
    rows = pd.read_csv("tables/compare.csv").set_index(["stage", "split"])
    table = pd.read_csv("tables/after/seeds.csv").set_index(["stage", "split"])
    last = "seeds", "test"
    assert rows.loc[last, "n"] == table.loc[last, "n"] == 2
    assert rows.loc[last, "b"] == pytest.approx(table.loc[last, "miou_mean"])
    assert rows.loc[last, "low"] <= rows.loc[last, "difference"] <= rows.loc[last, "high"]
    for name in ("compare", "after/seeds"):
        assert r"\toprule" in Path(f"tables/{name}.tex").read_text()


def test_own_method_and_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in re.findall(r"^```(?:python|yaml)\n(.*?)^```$", page("own_method"), re.M | re.S):
        named = re.search(r"^# ([\w/]+\.(?:py|yaml))$", text, re.M)
        assert named is not None
        (tmp_path / named[1]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / named[1]).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_method", raising=False)
    _, first, second = commands("own_method")
    small = [*TINY, "store=store"]
    succeed(tmp_path, *first[1:], *small)
    info = json.loads(Path("first/models/classifier.json").read_text())
    assert info["architecture"]["backbone"] == "timm/five_halvings"
    said = succeed(tmp_path, *second[1:], *small)
    assert re.findall(r"^(\w+) \w+: building", said, re.M) == ["GuidedFilter"]
    figures = [pd.read_csv(f"{run}/metrics.csv").set_index(["stage", "split"])["miou"] for run in ("first", "second")]
    assert figures[0]["refined masks", "test"] != figures[1]["refined masks", "test"]
    assert figures[0]["seeds", "test"] == figures[1]["seeds", "test"]

    smooth = sys.modules["my_method"].GuidedFilter
    scores = np.random.default_rng(0).random((32, 32))
    stage = smooth(scores=BoxScores(pool=Pool(data=Prepared(source=ToyPets(), size=64))), radius=2)
    flat = stage.refine(np.zeros((32, 32, 3), np.uint8), scores, (1, 1))
    assert flat.std() < scores.std() / 3  # where nothing has a colour, the mean
    exact = stage.refine(np.repeat((scores * 255)[..., None], 3, 2).astype(np.uint8), scores, (1, 1))
    assert np.abs(exact - scores).mean() < 0.05  # edges of the image stay


def photo(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """A bright hook on noise, its mask, and its box, most of which is background."""
    pixels, mask = rng.integers(0, 110, (64, 64, 3), dtype=np.uint8), np.zeros((64, 64), bool)
    left, top = rng.integers(6, 20, 2).tolist()
    mask[top : top + 36, left : left + 10] = True
    mask[top + 26 : top + 36, left : left + 36] = True
    pixels[mask] = rng.integers(150, 255, (int(mask.sum()), 3))
    return pixels, mask, (left, top, left + 36, top + 36)


def iou(run: str, truth: dict[Path, np.ndarray]) -> float:
    masks = predict(load_model(run, "cpu"), list(truth))
    both = list(zip(masks, truth.values(), strict=True))
    return float(sum(((m == 1) & t).sum() for m, t in both) / sum(((m == 1) | t).sum() for m, t in both))


def test_weak_masks_corrected_in_cvat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng, boxes, masks = np.random.default_rng(0), ["file,xmin,ymin,xmax,ymax\n"], {}
    for number in range(24):
        folder = "photos/hook" if number < 16 else "new"
        pixels, mask, box = photo(rng)
        Path(folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(f"{folder}/{number}.png")
        masks[number] = mask
        boxes.append(f"{number}.png,{','.join(map(str, box))}\n" * (number < 16))
    Path("photos/boxes.csv").write_text("".join(boxes))
    _, dry, weak, pack, better, alone, drafts = commands("photos_to_masks")
    # Boxes need no pretrained network, and the segmenter shows what the corrected masks are worth.
    boxed = ["data=image_folder", "data.root=photos", "pipeline=bbox", "segmenter=unet"]
    dry, weak, better = ([*boxed, *(a for a in c[2:] if a != "segmenter=unet_resnet18")] for c in (dry, weak, better))

    assert "16 images of 1 class" in succeed(tmp_path, *dry)
    succeed(tmp_path, *weak, *SMALL)
    folder = Path("weak/masks/PlainUNet_prediction")
    assert pack[-1] == "weak/masks/refined_masks/*"
    subprocess.run([sys.executable, "-m", *pack[:-1], *sorted(map(str, folder.iterdir()))], check=True)
    Path("corrected").mkdir()
    shutil.unpack_archive("weak.zip", "corrected")  # what CVAT would get
    listed = Path("corrected/ImageSets/Segmentation/default.txt").read_text().split()
    assert sorted(listed) == sorted(f"hook/{number}" for number in range(16))
    for number in range(16):  # of half of them it gives the masks of a careful annotator, in colour
        path = Path(f"corrected/SegmentationClass/hook/{number}.png")
        with Image.open(path) as image:
            assert image.size == (64, 64) and set(np.unique(np.asarray(image))) <= {0, 1}
        path.unlink()
        if number % 2:
            Image.fromarray(masks[number][..., None] * np.uint8([10, 20, 200])).save(path)
    Path("corrected/labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\nhook:10,20,200::\n")
    splits = ImageFolder(root="photos").layout.splits
    assert {splits[str(number)] for number in range(1, 16, 2)} == {"trainval", "test"}
    lines = [f"{number}\n" for number in range(1, 16, 2) if splits[str(number)] == "trainval"]
    Path("corrected.txt").write_text("".join(lines))

    said = succeed(tmp_path, *better, *SMALL)
    assert "mask files for 8 in corrected/SegmentationClass" in said
    truth = {Path(f"new/{number}.png"): masks[number] for number in range(16, 24)}
    before, after = iou("weak", truth), iou("better", truth)
    assert after > before + 0.1, (before, after)

    predict_main(drafts[1:])
    assert "thing:128,0,0::" in Path("drafts/cvat/labelmap.txt").read_text()
    assert len(list(Path("drafts/cvat/SegmentationObject").iterdir())) == 8

    succeed(tmp_path, *weak[:-1], "export.format=label_studio", "hydra.run.dir=tasks", *SMALL)
    tasks = json.loads(Path("tasks/masks/PlainUNet_prediction/tasks.json").read_text())
    for task in tasks[:10]:  # as Label Studio exports what was accepted
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
    Path("export.json").write_text(json.dumps(tasks))
    assert "10 images of 1 class in export.json, masks for 10" in succeed(tmp_path, *alone[1:], "dry_run=true")


def test_settings_chosen_by_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optuna = pytest.importorskip("optuna", reason="needs optuna")
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```$", page("optuna"), re.M | re.S)[0]
    small = "data.prepared.source.images=60 data.prepared.source.breeds=2 data.size=64 epoch=1 store=store"
    code = code.replace("data=image_folder data.root=photos", small).replace("n_trials=20", "n_trials=2")
    code = code.replace("colocalise.margin", "colocalise.smooth")  # drawings have another co-localisation
    space: dict[str, object] = {}
    exec(compile(code, "optuna.md", "exec"), space)
    study = space["study"]
    assert isinstance(study, optuna.Study) and len({trial.value for trial in study.trials}) == 2
    assert study.best_value == max(trial.value for trial in study.trials) > 0
