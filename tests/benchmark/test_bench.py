"""The bench: what is measured does the same work as what it is measured against, and the table's arithmetic.

Each case runs to its end with ``scripts/bench --quick``; here one does, at a tiny size.
"""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.__main__ import main, parse
from benchmark.cases import run_case
from benchmark.cases.peers import our_maps, torchcam_maps, torchcam_of
from benchmark.cases.walk import csr_walk, dense_walk, our_walk, random_case
from benchmark.lab import Lab, Sizes
from benchmark.machine import describe
from benchmark.measure import Sample
from benchmark.report import as_markdown, write_report
from benchmark.rows import Goal, Row
from benchmark.script_way import confusion, mask_of
from seg.errors import SegError
from seg.methods import normalise_maps
from seg.nets.backbones import make_classifier

TINY = Sizes(side=64, batch=2, batches=1, repeats=1, quick_repeats=1)


def test_a_case_runs_to_its_end(tmp_path):
    rows = list(run_case("cam", Lab(tmp_path, TINY, say=lambda text: None)))
    assert rows and all(math.isfinite(row.ours.median) and row.ours.median >= 0 for row in rows)
    assert all(row.base is not None or row.goal is not None for row in rows)


def test_the_walks_agree():
    affinity, scores = random_case(12)
    for some in (affinity, torch.ones_like(affinity), torch.zeros_like(affinity)):  # the last isolates each pixel
        ours = our_walk(some, scores)
        torch.testing.assert_close(dense_walk(some, scores), ours, rtol=0, atol=1e-4)
        torch.testing.assert_close(csr_walk(some, scores), ours, rtol=0, atol=1e-4)


def test_one_image_is_the_batch_and_ours_is_torchcams():
    torch.manual_seed(0)
    model = make_classifier("resnet18", 5, None).eval()
    linear = model.linear
    assert isinstance(linear, torch.nn.Linear)
    parts = (model.split()[1], linear.weight.detach(), linear.bias.detach())
    images, labels = torch.randn(3, 3, 96, 96), torch.tensor([1, 4, 1])
    ours = our_maps(parts, images, labels)
    single = [our_maps(parts, images[i : i + 1], labels[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(single), ours, rtol=1e-4, atol=1e-4)
    pytest.importorskip("torchcam", reason="torchcam is not installed (the extra bench)")
    with torchcam_of(model.model) as extractor:
        theirs = torchcam_maps(extractor, model.model, images, labels)
    torch.testing.assert_close(normalise_maps(ours, "minmax"), theirs, rtol=0, atol=1e-4)


def test_the_scripts_way_by_hand(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed (the extra bench)")
    heat = np.zeros((40, 40), np.uint8)
    heat[10:30, 10:30] = 200
    Image.fromarray(heat).save(tmp_path / "heat.png")
    mask_of(tmp_path / "heat.png", 0.5, tmp_path / "mask.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")) > 127, heat > 127)
    trimap = np.full((40, 40), 2, np.uint8)
    trimap[10:30, 10:40] = 1
    trimap[0] = 3
    Image.fromarray(trimap).save(tmp_path / "trimap.png")
    # Rows are the ground truth: 400 of the 600 pet pixels are found, and no other; the border's 40 are left out.
    assert confusion(tmp_path / "mask.png", tmp_path / "trimap.png").tolist() == [[960, 0], [200, 400]]


def test_photos_by_links(tmp_path, official):
    root = official(trainval=12, test=8, without_target=("beagle_1",))
    lab = Lab(tmp_path / "lab", TINY, root)
    assert lab.has_photos
    made = lab.photos(8) / "oxford-iiit-pet"
    for split in ("trainval", "test"):
        lines = (made / "annotations" / f"{split}.txt").read_text().splitlines()
        assert len(lines) == 4 and not any(line.startswith("beagle_1 ") for line in lines)
        for stem in (line.split()[0] for line in lines):
            assert (made / "images" / f"{stem}.jpg").is_file()
            assert (made / "annotations" / "trimaps" / f"{stem}.png").is_file()


@pytest.mark.parametrize(
    ("goal", "ratio", "met"),
    [
        (Goal("speed", 2), 4, True),
        (Goal("speed", 5), 4, False),
        (Goal("cost", 0.2), 0.25, False),
        (None, 4, None),
    ],
)
def test_ratios_and_goals(goal, ratio, met):
    row = Row("x", Sample((1.0,)), "y", Sample((4.0,)), goal)
    assert (row.ratio, row.met) == (ratio, met)


def test_the_table_as_markdown_and_json(tmp_path):
    walk = Row("walk | 56", Sample((0.5, 0.5)), "dense", Sample((100.0,)), Goal("speed", 150), note="once")
    rows = {"walk": [walk, Row("memory", Sample((9.0,), "MB"), goal=Goal("value", 300))]}
    text = as_markdown({"cpu": "a cpu", "versions": {"torch": "2"}}, rows, {"sweep": "no data"})
    assert "* cpu: a cpu\n* versions: torch 2\n" in text
    assert "| walk \\| 56 [1] | 0.5 s (IQR 0, n=2) | dense | 100 s (n=1) | 200 | >= 150x the speed | yes |" in text
    assert "| memory | 9 MB (n=1) |  |  |  | <= 300 MB | yes |" in text
    assert "\n1. once\n" in text and "* sweep: no data\n" in text
    write_report(tmp_path / "new" / "folder", describe("scripts/bench"), rows, {"sweep": "no data"})
    report = json.loads((tmp_path / "new" / "folder" / "bench.json").read_text())
    first, second = report["rows"]
    assert (first["case"], first["ratio"], first["met"]) == ("walk", 200, True)
    assert first["ours"] == {"median": 0.5, "spread": 0, "n": 2, "unit": "s", "values": [0.5, 0.5]}
    assert second["baseline"] is None and second["goal"] == {"of": "value", "bound": 300}
    assert {"cpu", "cores", "torch_threads", "memory_gib", "versions", "date", "command"} <= report["header"].keys()


def test_refusals(tmp_path, capsys):
    with pytest.raises(SegError, match="--only wlak: no such case; there are cam"):
        parse(["--only", "wlak"])
    assert main(["--weights", str(tmp_path / "none.pth")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
