"""Masks of any images: from Python, and from the command line as it is typed and mistyped."""

import copy
import dataclasses
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import seg
from seg.errors import SegError
from seg.models import video
from seg.models.load import load_model
from seg.models.predictor import find_images, predict, predict_each
from seg.models.tiles import Tiles
from seg.report.pictures import overlay

command: Any = importlib.import_module("seg.predict")  # `from seg import predict` is the function
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def random(random_run):
    """A run's folder with a segmenter, and its masks."""
    return random_run("foreground")


@pytest.fixture(scope="module")
def run(random):
    return random[0]


@pytest.fixture(scope="module")
def model(run):
    return load_model(run, "cpu")


@pytest.fixture
def photos(tmp_path, store, prepared):
    """Three photos of other sizes, one of them in a folder below, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    records = store.get(prepared.source).records
    for name, record, size in (("a.jpg", 0, (48, 48)), ("b.png", 1, (31, 57)), ("below/c.JPG", 2, (90, 40))):
        with Image.open(records[record].image) as image:
            image.resize(size).save(folder / name)
    (folder / "notes.txt").write_text("none")
    return folder


def call(capsys, *arguments):
    status = 0
    try:
        command.main([*arguments, "threads=1"])
    except SystemExit as stop:
        status = int(stop.code or 0)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def masks_in(folder):
    return {p.relative_to(folder).as_posix(): np.asarray(Image.open(p)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("classes", [False, True])
def test_the_masks_are_the_runs(store, data, prepared, random, run_of_classes, classes):
    folder, masks = run_of_classes if classes else random
    model, expected = load_model(folder, "cpu"), store.get(masks)
    paths = [record.image for record in store.get(prepared.source).records[:6]]
    found = predict(model, paths, batch_size=4)
    for row, mask in enumerate(found):
        size = (int(data.sizes[row][0]), int(data.sizes[row][1]))
        assert mask.dtype == np.uint8 and mask.shape == size
        differ = mask != expected.at(np.asarray([row]), size)[0]
        assert differ.mean() < 0.002  # a batch of another size may round otherwise
    assert {code for mask in found for code in np.unique(mask).tolist()} == ({0, 1, 2} if classes else {0, 1})
    other = predict(dataclasses.replace(model, mean=(0.1, 0.1, 0.1)), paths)  # the normalisation is the model's
    assert not all(np.array_equal(one, two) for one, two in zip(found, other, strict=True))


def test_paths_arrays_folders_and_scores(model, photos):
    by_folder = predict(model, str(photos))
    assert [m.shape for m in by_folder] == [(48, 48), (57, 31), (40, 90)]
    png = np.asarray(Image.open(photos / "b.png").convert("RGB"))
    (mask,) = predict(model, png)
    np.testing.assert_array_equal(mask, by_folder[1])
    (score,) = predict(model, photos / "b.png", scores=True)
    assert score.dtype == np.float32 and score.shape == (57, 31) and 0 <= score.min() <= score.max() <= 1
    np.testing.assert_array_equal(score >= np.float32(0.5), mask == 1)
    assert predict(model, []) == []


def test_an_unreadable_image_and_a_network_that_answers_with_nan(model, photos):
    for wrong, says in ((photos / "notes.txt", r"notes\.txt: not a whole"), (np.zeros((4, 4)), r"float64 \(4, 4\)")):
        with pytest.raises(SegError, match=says):
            predict(model, [photos / "a.jpg", wrong])
    results = list(predict_each(model, [photos / "notes.txt", photos / "a.jpg", photos / "none.jpg"], batch_size=2))
    assert [isinstance(r, SegError) for r in results] == [True, False, True]
    broken = copy.deepcopy(model.network)
    torch.nn.init.constant_(next(broken.parameters()), torch.inf)
    with pytest.raises(SegError, match=r"a\.jpg: the network answers with NaN"):
        predict(dataclasses.replace(model, network=broken), photos / "a.jpg")
    with pytest.raises(SegError, match="answers with NaN"):
        predict(dataclasses.replace(model, network=broken), photos / "a.jpg", tiles=Tiles())


def test_find_images(photos):
    def names(out=None):
        return [name.as_posix() for _, name in find_images(photos, out)]

    assert names() == ["a", "b", "below/c"] and find_images(photos / "b.png") == [(photos / "b.png", Path("b"))]
    Image.new("RGB", (4, 4)).save(photos / "a.png")  # where two have one name, all keep their endings
    assert names() == ["a.jpg", "a.png", "b.png", "below/c.JPG"]
    (photos / "below").rename(photos / "masks")
    assert len(names()) == 4 and names(out=photos) == ["a.jpg", "a.png", "b.png"]


def test_from_the_command_line(capsys, run, photos, tmp_path, model):
    out = tmp_path / "out"
    arguments = (f"model={run}", f"images={photos}", f"out={out}", "scores=true", "overlays=true", "batch_size=2")
    status, printed, wrong = call(capsys, *arguments)
    assert (status, wrong) == (0, "") and "3 of 3 images" in printed
    expected = dict(zip(("a", "b", "below/c"), predict(model, str(photos), scores=True), strict=True))
    masks, scores = masks_in(out / "masks"), masks_in(out / "scores")
    assert set(masks) == set(scores) == {f"{name}.png" for name in expected}
    for name, score in expected.items():
        np.testing.assert_array_equal(masks[f"{name}.png"] == 255, score >= np.float32(0.5))
        assert set(np.unique(masks[f"{name}.png"]).tolist()) <= {0, 255}
        np.testing.assert_allclose(scores[f"{name}.png"] / 65535, score, atol=1e-5)
    assert set(masks_in(out / "overlays")) == {f"{name}.jpg" for name in expected}
    assert call(capsys, *arguments[:2], f"out={tmp_path}/01", "format=png01")[0] == 0
    for name, mask in masks_in(tmp_path / "01/masks").items():
        np.testing.assert_array_equal(mask, masks[name] == 255)


def test_what_is_there_is_skipped_and_what_is_of_something_else_is_refused(capsys, run, photos):
    arguments = [f"model={run}", f"images={photos}", f"out={photos}/out"]  # results amid the photos
    (photos / "aa.jpg").write_bytes((photos / "a.jpg").read_bytes()[:200])
    status, printed, wrong = call(capsys, *arguments, "overlays=true")
    assert status == 1 and "3 of 4 images" in printed  # the others are done
    assert wrong.startswith("error: 1 unreadable: ") and "aa.jpg" in wrong and wrong.count("\n") == 1
    (photos / "aa.jpg").unlink()
    first, second = photos / "out/masks/a.png", photos / "out/masks/b.png"
    before = first.stat().st_mtime_ns
    second.unlink()
    status, printed, _ = call(capsys, *arguments)
    assert status == 0 and "1 of 3 images" in printed and "2 existed already" in printed
    assert first.stat().st_mtime_ns == before and second.exists()
    Image.open(photos / "b.png").rotate(90, expand=True).save(photos / "b.png")  # changed in its place
    for changed, file in ((["threshold=0.7"], "a.png"), ([], "b.png")):
        status, printed, wrong = call(capsys, *arguments, *changed)
        assert status == 2 and printed == "" and f"masks/{file} was made from another photo, model" in wrong
    assert call(capsys, *arguments, "overwrite=true")[0] == 0
    assert Image.open(second).size == Image.open(photos / "b.png").size


def test_classes_from_the_command_line(capsys, run_of_classes, data, photos, tmp_path):
    out, folder = tmp_path / "out", run_of_classes[0]
    assert call(capsys, f"model={folder}", f"images={photos}", f"out={out}", "overlays=true")[0] == 0
    cat, dog = data.classes
    assert (out / "classes.txt").read_text() == f"0 background\n1 {cat}\n2 {dog}\n255 ignored\n"
    masks = masks_in(out / "masks")  # indices of a palette
    for name, mask in zip(("a", "b", "below/c"), predict(load_model(folder, "cpu"), str(photos)), strict=True):
        np.testing.assert_array_equal(masks[f"{name}.png"], mask)


def test_tiles_from_the_command_line(capsys, run, photos, tmp_path):
    options = [f"model={run}", f"images={photos}", f"out={tmp_path}/out"]
    assert call(capsys, *options, "tile=24", "overlap=0.5", "scale=0.8", "batch_size=2")[0] == 0
    expected = predict(load_model(run, "cpu", input_size=24), str(photos), tiles=Tiles(0.5, 0.8))
    for name, mask in zip(("a", "b", "below/c"), expected, strict=True):
        np.testing.assert_array_equal(masks_in(tmp_path / "out/masks")[f"{name}.png"] == 255, mask == 1)
    assert "was made from another photo, model or settings" in call(capsys, *options, "tile=24")[2]


def test_a_list_on_standard_input(capsys, run, photos, tmp_path, monkeypatch):
    options = [f"model={run}", "images=-", f"out={tmp_path}/out"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{photos}/below/c.JPG\n\n{photos}/b.png\n{photos}/b.png\n"))
    assert "2 of 2 images" in call(capsys, *options)[1]
    assert set(masks_in(tmp_path / "out/masks")) == {"below/c.png", "b.png"}
    monkeypatch.setattr("sys.stdin", io.StringIO("none.jpg\n"))
    assert "none.jpg: no such file" in call(capsys, *options)[2]


def test_the_frames_of_a_video(capsys, run, model, tmp_path):
    cv2 = pytest.importorskip("cv2")
    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for size in range(10, 15):  # a red square that grows
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[8 : 8 + size, 16 : 16 + 2 * size, 2] = 250
        writer.write(frame)
    writer.release()
    seen = list(video.read(video.frames(clip)))
    assert [image.shape for image in seen] == [(48, 64, 3)] * 5
    assert [(image[..., 0] > 120).sum() for image in seen] == [2 * size**2 for size in range(10, 15)]
    np.testing.assert_array_equal(list(video.read(video.frames(clip)[1::2])), seen[1::2])  # with frames between
    options = [f"model={run}", f"images={clip}", f"out={out}", "overlays=true", "batch_size=2"]
    assert "5 of 5 images" in call(capsys, *options)[1]
    assert call(capsys, options[0], options[1], f"out={tmp_path / 'tool'}", "format=label_studio")[0] == 0
    task = json.loads((tmp_path / "tool/label_studio/tasks.json").read_text())[0]
    assert task["data"]["image"] == f"/data/local-files/?d={tmp_path.name}/clip/000000.png"
    expected = predict(model, clip)
    masks = masks_in(out / "masks/clip")
    for i, mask in enumerate(expected):
        np.testing.assert_array_equal(masks[f"{i:06d}.png"] == 255, mask == 1)
    painted = np.asarray(Image.open(out / "overlays/clip/000003.jpg"), np.int16)
    wanted = np.asarray(overlay(seen[3], expected[3]), np.int16)
    other = np.asarray(overlay(seen[0], expected[0]), np.int16)  # of another frame
    # JPEG blurs the edges of random masks.
    assert abs(painted - wanted).mean() < 10 < abs(painted - other).mean()
    clip.write_bytes(clip.read_bytes()[:100])
    assert "clip.avi: OpenCV finds no frame in it" in call(capsys, *options)[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cv2", None)
        assert "a video needs OpenCV; pip install" in call(capsys, *options)[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model={run}"], "are required: images, out"),
        (["model={run}", "images={photos}", "out={out}", "overlap=0.5"], "overlap and scale are of tiles: add tile=N"),
        (["model={run}", "images={photos}", "out={out}", "imges=x"], "unrecognized arguments: imges=x"),
        (["model={run}", "images={photos}", "out={out}", "input_size=1"], "cannot be used (input_size=1 or"),
        (["model={run}", "images={photos}", "out={out}", "format=cvat", "tolerance=1"], "tolerance=1: simplifies"),
        (["model={run}", "images={photos}/none", "out={out}"], "none: no such file, or no image"),
        (["model={run}", "images={photos}", "out={photos}/notes.txt/out"], "cannot be written to"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_bad_arguments_are_one_line(capsys, run, photos, tmp_path, arguments, says):
    out = tmp_path / "out"
    status, printed, wrong = call(capsys, *(a.format(run=run, photos=photos, out=out) for a in arguments))
    assert status == 2 and printed == "" and says in wrong
    assert wrong.startswith("error: ") and wrong.count("\n") == 1
    assert not out.exists()


def test_the_package_stays_light_and_the_two_names_do_not_collide(model, photos):
    script = "import sys, seg; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
    assert seg.predict is command and command.main  # the module, once it is imported
    np.testing.assert_array_equal(seg.predict(model, photos / "a.jpg"), predict(model, photos / "a.jpg"))


def test_masks_for_a_tool(capsys, run, photos, tmp_path):
    out = tmp_path / "out"
    arguments = (f"model={run}", f"images={photos}", f"out={out}", "class_name=pet")
    assert call(capsys, *arguments, "format=coco")[0] == 0
    document = json.loads((out / "coco/annotations/instances_default.json").read_text())
    assert [one["file_name"] for one in document["images"]] == ["a.jpg", "b.png", "below/c.JPG"]
    assert document["categories"] == [{"id": 1, "name": "pet"}]
    assert document["annotations"] and all(0.5 <= one["score"] <= 1 for one in document["annotations"])
    times = {p: p.stat().st_mtime_ns for p in (out / "masks").rglob("*.png")}
    assert len(times) == 3
    assert call(capsys, *arguments, "format=yolo", "tolerance=1", "min_area=20")[0] == 0
    assert (out / "yolo/labels/below/c.txt").is_file() and "pet" in (out / "yolo/data.yaml").read_text()
    assert times == {p: p.stat().st_mtime_ns for p in (out / "masks").rglob("*.png")}  # they are not made again
