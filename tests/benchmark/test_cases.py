"""Every case at a tiny size, to its end."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.cases import CASES, run_case
from benchmark.lab import Lab, Sizes

TINY = Sizes(
    side=64,
    batch=4,
    batches=1,
    repeats=1,
    quick_repeats=1,
    grids=(8, 10),
    dense_up_to=8,
    memory_grids=(8,),
    sweep_images=24,
    sweep_epochs=1,
    script_images=2,
    prepare_images=24,
    train_images=24,
    epochs=1,
    toy_images=24,
    memory_images=20,
)
NEEDS = {"peers": ("torchcam", "pytorch_grad_cam"), "sweep": ("cv2",)}
# They start commands, one process each.
SLOW = {"walk", "sweep", "startup", "memory"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES])
def test_a_case_runs_to_its_end(name: str, tmp_path: Path) -> None:
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module, reason=f"{module} is not installed (the extra bench)")
    rows = list(run_case(name, Lab(tmp_path, TINY, say=lambda text: None)))
    assert rows
    for row in rows:
        assert math.isfinite(row.ours.median) and row.ours.median >= 0
        assert row.base is None or row.base.median > 0
        assert row.base is not None or row.goal is not None
        row.as_dict()


def test_photos_by_links(tmp_path: Path, official: Callable[..., Path]) -> None:
    root = official(trainval=12, test=8, without_truth=("beagle_1",))
    lab = Lab(tmp_path / "lab", TINY, root)
    assert lab.has_photos
    made = lab.photos(8) / "oxford-iiit-pet"
    for split in ("trainval", "test"):
        lines = (made / "annotations" / f"{split}.txt").read_text().splitlines()
        assert len(lines) == 4 and not any(line.startswith("beagle_1 ") for line in lines)
        for stem in (line.split()[0] for line in lines):
            assert (made / "images" / f"{stem}.jpg").is_file()
            assert (made / "annotations" / "trimaps" / f"{stem}.png").is_file()
    assert lab.photos(8) == made.parent
