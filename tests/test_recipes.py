"""The pages of docs/recipes, run as they are written, on small photos."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from within import succeed

from seg import load_model, predict
from seg.data.image_folder import ImageFolder
from seg.predict import main as predict_main

PAGE = Path(__file__).parents[1] / "docs/recipes/annotation_tools.md"
SMALL = ["data.size=64", "runtime.accelerator=cpu", "runtime.threads=1", "figures=false", "evaluation.quality=false"]
SMALL += ["segmenter.epochs=25", "segmenter.batch_size=8", "segmenter.net.width=8", "segmenter.net.depth=2"]
SMALL += ["segmenter.lr=1e-2", "store=store"]

if not PAGE.is_file():
    pytest.skip("docs/ is not part of this copy", allow_module_level=True)


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
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    weak, pack, better, drafts = "".join(re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)).splitlines()

    succeed(tmp_path, *shlex.split(weak)[3:], *SMALL)
    subprocess.run(["bash", "-c", pack.replace("python ", f"{shlex.quote(sys.executable)} ")], check=True)
    Path("corrected").mkdir()
    shutil.unpack_archive("outputs/weak/masks/weak.zip", "corrected")  # what CVAT would get
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

    said = succeed(tmp_path, *shlex.split(better)[3:], *SMALL)
    assert "mask files for 8 in corrected/SegmentationClass" in said
    truth = {Path(f"new/{number}.png"): masks[number] for number in range(16, 24)}
    before, after = iou("outputs/weak", truth), iou("outputs/better", truth)
    assert after > before + 0.1, (before, after)

    predict_main(shlex.split(drafts)[3:])
    assert "thing:128,0,0::" in Path("drafts/cvat/labelmap.txt").read_text()
    assert len(list(Path("drafts/cvat/SegmentationObject").iterdir())) == 8


def test_settings_chosen_by_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optuna = pytest.importorskip("optuna", reason="needs optuna")
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```$", (PAGE.parent / "optuna.md").read_text(encoding="utf-8"), re.M | re.S)[
        0
    ]
    small = "data.prepared.source.images=60 data.prepared.source.breeds=2 data.size=64 epoch=1 store=store"
    code = code.replace("data=image_folder data.root=photos", small).replace("n_trials=20", "n_trials=2")
    code = code.replace("colocalise.margin", "colocalise.smooth")  # drawings have another co-localisation
    space: dict[str, object] = {}
    exec(compile(code, "optuna.md", "exec"), space)
    study = space["study"]
    assert isinstance(study, optuna.Study) and len({trial.value for trial in study.trials}) == 2
    assert study.best_value == max(trial.value for trial in study.trials) > 0
