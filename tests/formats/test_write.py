"""Exports: other libraries read them back as the masks that they are of."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.data.decode import draw_regions
from seg.errors import SegError
from seg.formats import Format, Picture, Shape, brush, check_format, picture_of, write
from seg.formats.annotations import Annotations
from seg.formats.record import bridged, outline
from seg.formats.write import OUTLINES

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("SEG_FORMATS_PYTHON", ROOT / ".venv-formats/bin/python"))
NAMES = ("background", "cat", "dog")
SIZE = (600, 800)


def a_mask(x: int, hole: int = 60) -> np.ndarray:
    """Two wavy discs, the first with a hole, and a stripe that is undecided."""
    yy, xx = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = np.zeros(SIZE, np.uint8)
    for code, middle in ((2, 800 - x), (1, x)):
        angle, radius = np.arctan2(yy - 300, xx - middle), np.hypot(yy - 300, xx - middle)
        mask[radius < 190 + 8 * np.sin(7 * angle)] = code
        mask[(radius < hole) & (mask == 1)] = 0
    mask[110:140] = 255
    return mask


def some(hole: int = 60) -> list[Picture]:
    masks = {"in/a.png": a_mask(200, hole), "in/b.png": a_mask(300, hole), "in/c.png": np.zeros(SIZE, np.uint8)}
    return [picture_of(name, mask, NAMES, np.full(SIZE, 0.75)) for name, mask in masks.items()]


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return some()


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float(((one == other) & (one > 0)).sum() / max(1, ((one > 0) | (other > 0)).sum()))


CASES = [("cvat", 0), *((kind, tolerance) for kind in OUTLINES for tolerance in (0, 1))]


@pytest.fixture(scope="module")
def read_back(pictures: list[Picture], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All exports, read by one process."""
    if not PYTHON.exists():
        pytest.skip("no .venv-formats (./scripts/test makes it), nor SEG_FORMATS_PYTHON=PYTHON of such an environment")
    folder = tmp_path_factory.mktemp("exports")
    for kind, tolerance in CASES:
        out = folder / f"{tolerance}/{kind}"
        # Of polygons that touch themselves the library that reads LabelMe's makes ones without holes.
        write(kind, out, NAMES, some(hole=0) if kind == "labelme" else pictures, tolerance)  # type: ignore[arg-type]
        for picture in pictures:  # where the tool has its photos
            photo = out / {"yolo": "images", "coco": "images/default"}.get(kind, "") / picture.file
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE[::-1]).save(photo)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = [PYTHON, Path(__file__).parent / "read_back.py", *(folder / f"{t}/{kind}" for kind, t in CASES)]
    done = subprocess.run(script, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    return folder


@pytest.mark.parametrize(("kind", "tolerance"), CASES)
def test_the_tools_library_reads_the_masks(read_back: Path, kind: str, tolerance: int) -> None:
    read = np.load(read_back / f"{tolerance}/{kind}.npz")
    for picture in some(hole=0 if kind == "labelme" else 60):
        wanted, found = masks_of(picture), read[Path(picture.file).stem]
        if wanted.any() and (tolerance or kind in ("yolo", "labelme")):  # outlines, of which these draw whole pixels
            assert iou(found, wanted) > 0.99
        else:
            np.testing.assert_array_equal(found, wanted)


def masks_of(picture: Picture) -> np.ndarray:
    assert picture.codes is not None
    return np.where(picture.codes == 255, 0, picture.codes)


@pytest.mark.parametrize("kind", ["yolo", "labelme", "label_studio"])
def test_this_program_reads_what_it_wrote(pictures: list[Picture], tmp_path: Path, kind: Format) -> None:
    write(kind, tmp_path, NAMES, pictures)
    for picture in pictures:
        photo = tmp_path / ("images" if kind == "yolo" else "") / picture.file
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(photo)
    if kind == "label_studio":  # somebody accepts the predictions
        tasks = json.loads((tmp_path / "tasks.json").read_text())
        (tmp_path / "tasks.json").write_text(json.dumps([one | {"annotations": one["predictions"]} for one in tasks]))
    dataset = Annotations(root=str(tmp_path), format=kind, test_share=0).load(Path(), None)  # type: ignore[arg-type]
    assert dataset.classes == NAMES[1:] and {record.split for record in dataset.records} == {"trainval"}
    read = {record.image.stem: draw_regions(record.regions or (), SIZE) for record in dataset.records}
    for picture in pictures:
        np.testing.assert_array_equal(read[Path(picture.file).stem], masks_of(picture))


def test_names_that_only_their_suffix_tells_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = [picture_of(name, np.ones((4, 4), np.uint8), NAMES) for name in ("a.jpg", "a.png")]
    write("yolo", tmp_path, NAMES, pictures)
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["a.txt"]
    assert "format=yolo: a.png would get the file of a.jpg, and is left out" in caplog.text


def test_label_studio_serves_photos_below_a_folder_of_its_root(tmp_path: Path) -> None:
    write("label_studio", tmp_path, NAMES, [picture_of("b/c&d#1.jpg", np.ones((4, 4), np.uint8), NAMES)], photos="ä")
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    assert task["data"]["image"] == "/data/local-files/?d=%C3%A4/b/c%26d%231.jpg"


def test_voc_is_what_torchvision_reads(pictures: list[Picture], tmp_path: Path) -> None:
    from torchvision.datasets import VOCSegmentation

    folder = tmp_path / "VOCdevkit/VOC2012"
    write("voc", folder, NAMES, pictures)
    for picture in pictures:
        (folder / "JPEGImages" / picture.file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save((folder / "JPEGImages" / picture.file).with_suffix(".jpg"))
    read = VOCSegmentation(str(tmp_path), image_set="train")
    assert len(read) == 3
    for picture, (_, mask) in zip(pictures, read, strict=True):
        np.testing.assert_array_equal(np.asarray(mask), picture.codes)


def test_small_regions_are_dropped_and_scores_are_means() -> None:
    mask, scores = np.zeros((9, 9), np.uint8), np.linspace(0, 1, 81).reshape(9, 9)
    mask[0, 0], mask[3:6, 3:6], mask[8, 5:] = 1, 1, 2
    picture = picture_of("a.png", mask, NAMES, scores, min_area=4)
    assert [(one.class_name, one.box) for one in picture.shapes] == [("cat", (3, 3, 6, 6)), ("dog", (5, 8, 9, 9))]
    assert picture.shapes[0].score == pytest.approx(scores[3:6, 3:6].mean())
    assert picture.codes is not None and picture.codes[0, 0] == 0 and mask[0, 0] == 1


def test_an_outline_has_its_holes_and_vanishes_at_no_tolerance() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:18, 2:18], mask[5:8, 5:8], mask[12:15, 10:14] = True, False, False
    shape = Shape("cat", (0, 0, 20, 20), mask=mask)
    assert len(outline(shape)) == 3 and len(outline(shape, 0.5)) == 3
    assert len(outline(shape, 50)) == 1
    ring = bridged(outline(shape))
    (x, y), (x2, y2) = ring.T, np.roll(ring, -1, 0).T
    area = abs((x * y2 - x2 * y).sum() / 2)
    assert area == pytest.approx(mask.sum() - 0.5 + 2 * 0.5)  # of each corner an eighth is cut off, of a hole's added


def test_brush_strokes_of_literal_values() -> None:
    """As Label Studio's own packer may write short runs: a flag 0, and the values one after the other."""
    mask = np.random.default_rng(0).random((7, 5)) < 0.5
    values = "".join(f"{255 * int(v):08b}" for v in np.repeat(mask.ravel(), 4).tolist())
    bits = f"{4 * mask.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += f"010{139:08b}"[:3] + f"{139:08b}" + values
    bits += "0" * (-len(bits) % 8)
    code = list(int(bits, 2).to_bytes(len(bits) // 8))
    np.testing.assert_array_equal(brush.decode(code, (7, 5)), mask)
    np.testing.assert_array_equal(brush.decode(brush.encode(mask), (7, 5)), mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cvat", 1, 1.0), r"export\.tolerance=1: simplifies outlines; give export\.format, coco or yolo"),
        ((None, 1, 0.0, 5), r"export\.min_area=5: drops regions of exported masks; give export\.format"),
    ],
)
def test_settings_that_nothing_would_use(arguments: tuple, message: str) -> None:
    with pytest.raises(SegError, match=message):
        check_format(*arguments)
