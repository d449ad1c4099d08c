"""Readers of annotation tools: one drawing, as each tool writes it, is one data set."""

import base64
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from limits import COUNT, tried
from PIL import Image

from seg.data.dataset import Dataset
from seg.data.decode import draw_regions
from seg.data.read_report import ReadReport
from seg.errors import SegError
from seg.formats import brush
from seg.formats.annotations import Annotations
from seg.formats.read import read_annotations

SIZE = (40, 60)
#: A polygon with the corners (10, 5), (30, 5), (30, 25), (10, 25) of a cat, and a mask or a box of a dog.
CAT = np.zeros(SIZE, bool)
CAT[5:25, 10:30] = True
DOG = np.zeros(SIZE, bool)
DOG[30:38, 40:55] = True
DOG[30:33, 40:43] = False
POINTS = [[10, 5], [30, 5], [30, 25], [10, 25]]


def png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def cvat(root: Path) -> None:
    crop = DOG[30:38, 40:55].ravel()
    edges = np.flatnonzero(np.diff(crop.astype(int), prepend=0))
    rle = np.diff(edges, prepend=0, append=crop.size)
    (root / "annotations.xml").write_text(
        "<annotations><version>1.1</version>"
        '<image id="0" name="a.png" width="60" height="40"><polygon label="cat" points="10,5;30,5;30.0,25;10,25"/>'
        f'<mask label="dog" rle="{", ".join(map(str, rle))}" left="40" top="30" width="15" height="8"/>'
        '<tag label="x"/></image>'
        '<image id="1" name="b.png" width="60" height="40"><box label="dog" xtl="1" ytl="2" xbr="11" ybr="12"/></image>'
        '<image id="2" name="c.png" width="60" height="40"/></annotations>'
    )


def label_studio(root: Path) -> None:
    def item(kind: str, label: str, **value: Any) -> dict[str, Any]:
        both = {"original_width": 60, "original_height": 40, "to_name": "image"}
        return both | {"type": kind, "value": value | {kind: [label]}}

    points = (np.array(POINTS) / (60, 40) * 100).tolist()
    results = [
        [
            item("polygonlabels", "cat", points=points),
            item("brushlabels", "dog", format="rle", rle=brush.encode(DOG)),
            {"type": "choices", "value": {"choices": ["sharp"]}},
        ],
        [item("rectanglelabels", "dog", x=100 / 60, y=5, width=1000 / 60, height=25, rotation=0)],
        [],
    ]
    tasks: list[Any] = [
        {"data": {"image": f"/data/upload/1/3f2a91c0-{name}.png"}, "annotations": [{"result": result}]}
        for name, result in zip("abc", results, strict=True)
    ]
    tasks.append({"data": {"image": "d.png"}, "annotations": [{"was_cancelled": True, "result": []}]})
    write_json(root / "export.json", tasks)


def labelme(root: Path) -> None:
    mask = {"shape_type": "mask", "points": [[40, 30], [54, 37]], "mask": base64.b64encode(png(DOG[30:38, 40:55]))}
    shapes = {
        "a": [{"label": "cat", "points": POINTS}, {"label": "dog", **mask, "mask": mask["mask"].decode()}],  # type: ignore[attr-defined]
        "b": [{"label": " dog", "points": [[11, 12], [1, 2]], "shape_type": "rectangle"}],
        "c": [],
    }
    for name, own in shapes.items():
        content = {"imagePath": f"..\\{root.name}\\{name}.png", "imageHeight": 40, "imageWidth": 60, "shapes": own}
        write_json(root / f"{name}.json", content)


def supervisely(root: Path) -> None:
    rgba = np.zeros((8, 15, 4), np.uint8)
    rgba[DOG[30:38, 40:55]] = 255
    bitmap = {"data": base64.b64encode(zlib.compress(png(rgba))).decode(), "origin": [40, 30]}
    cat = {"classTitle": "cat", "geometryType": "polygon", "points": {"exterior": POINTS, "interior": []}}
    box = {"classTitle": "dog", "geometryType": "rectangle", "points": {"exterior": [[1, 2], [11, 12]], "interior": []}}
    objects = {"a": [cat, {"classTitle": "dog", "geometryType": "bitmap", "bitmap": bitmap}], "b": [box], "c": []}
    write_json(root / "meta.json", {"classes": []})
    (root / "ds0/img").mkdir(parents=True)
    for name, own in objects.items():
        (root / f"{name}.png").rename(root / f"ds0/img/{name}.png")
        content = {"size": {"height": 40, "width": 60}, "objects": own}
        write_json(root / f"ds0/ann/{name}.png.json", content)


def via(root: Path) -> None:
    def region(label: Any, **shape: Any) -> dict[str, Any]:
        return {"shape_attributes": shape, "region_attributes": {"empty": "", "kind": label}}

    x, y = np.array(POINTS).T.tolist()
    outline = DOG_OUTLINE.T.tolist()
    regions: dict[str, Any] = {
        "a": [
            region("cat", name="polygon", all_points_x=x, all_points_y=y),
            region({"dog": True}, name="polygon", all_points_x=outline[0], all_points_y=outline[1]),
        ],
        "b": {"0": region("dog", name="rect", x=1, y=2, width=10, height=10)},
        "c": [],
    }
    listed = {f"{name}.png123": {"filename": f"{name}.png", "regions": own} for name, own in regions.items()}
    write_json(root / "via_project.json", {"_via_settings": {}, "_via_img_metadata": listed})


def yolo(root: Path) -> None:
    def line(number: int, points: Any) -> str:
        return f"{number} " + " ".join(f"{share:.6f}" for share in (np.array(points) / (60, 40)).ravel()) + "\n"

    texts = {"a": line(1, POINTS) + line(0, DOG_OUTLINE), "b": line(0, [[6, 7], [10, 10]])}
    for name in "abc":
        (root / "images/train").mkdir(parents=True, exist_ok=True)
        (root / f"{name}.png").rename(root / f"images/train/{name}.png")
    (root / "labels/train").mkdir(parents=True)
    for name, text in texts.items():
        (root / f"labels/train/{name}.txt").write_text(text)
    content = {"path": "/another/machine", "train": "../images/train", "val": "images/val", "names": ["dog", "cat"]}
    (root / "data.yaml").write_text(yaml.safe_dump(content))


DOG_OUTLINE = np.array([[43, 30], [55, 30], [55, 38], [40, 38], [40, 33], [43, 33]])
WRITERS = {f.__name__: f for f in (cvat, label_studio, labelme, supervisely, via, yolo)}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(kind: str) -> Path:
        for name in "abc":
            Image.new("RGB", SIZE[::-1]).save(tmp_path / f"{name}.png")
        WRITERS[kind](tmp_path)
        return tmp_path

    return write


def load(root: Path, kind: Any, **options: Any) -> Dataset:
    return Annotations(root=str(root), format=kind, **({"test_share": 0} | options)).load(Path(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", WRITERS)
def test_one_drawing_of_every_tool(written: Callable[[str], Path], kind: str) -> None:
    dataset = load(written(kind), kind)
    assert dataset.classes == ("cat", "dog")
    one, two, three = sorted(dataset.records, key=lambda record: record.id)
    assert [(r.id, r.labels) for r in (one, two, three)] == [("a", (0, 1)), ("b", (1,)), ("c", ())]
    drawn = draw_regions(one.regions or (), SIZE)
    np.testing.assert_array_equal(drawn, np.where(DOG, 2, np.where(CAT, 1, 0)))
    np.testing.assert_allclose(one.boxes, [(10, 5, 30, 25), (40, 30, 55, 38)], atol=1e-3)
    assert one.box_labels == (0, 1)
    np.testing.assert_allclose(two.boxes, [(1, 2, 11, 12)], atol=1e-3)  # a box alone is no ground truth
    assert two.regions is None and three.regions == ()


def test_the_key_is_of_what_is_said_and_not_of_where(written: Callable[[str], Path], tmp_path: Path) -> None:
    root = written("yolo")
    before = Annotations(root=str(root), format="yolo").fingerprint
    moved = root.rename(tmp_path.parent / f"{tmp_path.name}_moved")
    assert Annotations(root=str(moved), format="yolo").fingerprint == before
    text = (moved / "data.yaml").read_text()
    (moved / "data.yaml").write_text(text.replace("- cat", "- cow"))
    assert Annotations(root=str(moved), format="yolo").fingerprint != before


def test_val_is_test(written: Callable[[str], Path]) -> None:
    root = written("yolo")
    for place in ("images/val", "labels/val"):
        (root / place).mkdir()
    for name in ("images/train/b.png", "labels/train/b.txt"):
        (root / name).rename(root / name.replace("train", "val"))
    assert {r.id: r.split for r in load(root, "yolo").records} == {"a": "trainval", "c": "trainval", "b": "test"}


def test_an_archive_is_to_be_unpacked(written: Callable[[str], Path]) -> None:
    root = written("cvat")
    with zipfile.ZipFile(root / "export.zip", "w") as archive:
        archive.write(root / "annotations.xml")
    with pytest.raises(SegError, match=r"export.zip: is a ZIP archive; unpack it"):
        load(root, "cvat", instances="export.zip")


def test_turned_boxes_and_ellipses(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        '<annotations><image name="a.png" width="60" height="40">'
        '<box label="x" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
        '<ellipse label="x" cx="20" cy="15" rx="10" ry="5" rotation="90"/></image></annotations>'
    )
    (picture,) = read_annotations("cvat", tmp_path, ReadReport())
    np.testing.assert_allclose(picture.shapes[0].box or (), (15, 5, 25, 25))
    (points,) = picture.shapes[1].polygons
    np.testing.assert_allclose([*points.min(0), *points.max(0)], (15, 5, 25, 25))


def test_yolo_as_people_write_it(tmp_path: Path) -> None:
    """Blank lines, spaces, Windows' line ends, numbers of classes as text, and names with spaces and capitals."""
    names = ["Foto 1.JPG", "ä%41.PNG"]
    for name in names:
        Image.new("RGB", SIZE[::-1]).save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_bytes(b"0 0.2 0.2 0.6 0.2 0.6 0.7 \r\n\r\n \r\n")
    (tmp_path / "list.txt").write_bytes("".join(f"./{name} \r\n" for name in names).encode())
    (tmp_path / "data.yml").write_bytes(b"train: list.txt\r\nnames: {'0': cat}\r\n")
    dataset = load(tmp_path, "yolo")
    assert dataset.classes == ("cat",) and [len(r.regions or ()) for r in dataset.records] == [1, 1]
    (tmp_path / "data.yml").rename(tmp_path / "DATA.YAML")
    (tmp_path / "list.txt").write_text("/another/machine/Foto 1.JPG\nelsewhere/ä%41.PNG\n")  # found by their last parts
    assert [len(r.regions or ()) for r in load(tmp_path, "yolo").records] == [1, 1]
    (tmp_path / "list.txt").write_text("b.jpg")
    with pytest.raises(SegError, match=r"list.txt names b.jpg, which is not there"):
        load(tmp_path, "yolo")
    (tmp_path / "list.txt").write_text("elsewhere/a.jpg.txt")
    with pytest.raises(SegError, match="lists no annotated photo that is there"):
        load(tmp_path, "yolo")


def test_yolo_in_the_current_folder(written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = written("yolo")
    expected = [record.regions for record in load(root, "yolo").records]
    monkeypatch.chdir(root)
    assert [record.regions for record in load(Path(), "yolo").records] == expected


@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_files_are_read_or_refused(written: Callable[[str], Path], kind: str) -> None:
    root, rng = written(kind), np.random.default_rng(0)
    files = sorted(path for path in root.rglob("*") if path.suffix in (".json", ".xml", ".txt", ".yaml"))
    values = ["null", "-1", "1e9", "NaN", '""', "[]", "{}", "true", '"-3"', "", "9", '"', "\n"]
    for _ in range(COUNT or 60):
        path = files[rng.integers(len(files))]
        text = path.read_text()
        tokens = re.split(r'("[^"]*"|[\d.]+)', text)
        tokens[rng.integers(len(tokens))] = values[rng.integers(len(values))]
        path.write_text("".join(tokens))
        dataset = tried(lambda: load(root, kind))
        for record in dataset.records if dataset else ():
            draw_regions(record.regions or (), SIZE)
        path.write_text(text)


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "yolo"])
def test_lines_and_points_count_as_labels(written: Callable[[str], Path], kind: str) -> None:
    """An image with one has no ground truth, unless its class is not chosen."""
    root = written(kind)
    point = {"shape_type": "point", "geometryType": "point", "type": "keypointlabels"}
    point |= {"classTitle": "eye", "original_width": 60, "original_height": 40, "value": {"keypointlabels": ["eye"]}}
    point |= {"shape_attributes": {"name": "point"}, "region_attributes": {"kind": "eye"}}
    point |= {"label": "eye", "points": [[1, 1]]}
    replacements = {
        "cvat": ("annotations.xml", "<tag", '<points label="eye" points="1,1"/><tag'),
        "label_studio": ("export.json", '{"type": "choices"', f'{json.dumps(point)}, {{"type": "choices"'),
        "labelme": ("a.json", '"shapes": [', f'"shapes": [{json.dumps(point)}, '),
        "supervisely": ("ds0/ann/a.png.json", '"objects": [', f'"objects": [{json.dumps(point)}, '),
        "via": ("via_project.json", '"regions": [{', f'"regions": [{json.dumps(point)}, {{'),
    }
    name, old, new = replacements[kind]
    text = (root / name).read_text()
    (root / name).write_text(text.replace(old, new, 1))
    dataset = load(root, kind)
    assert dataset.classes == ("cat", "dog", "eye")
    one = next(record for record in dataset.records if record.id == "a")
    assert one.labels == (0, 1, 2) and len(one.boxes) == 2 and one.regions is None
    assert next(r for r in load(root, kind, classes=("cat", "dog")).records if r.id == "a").regions


def test_what_is_left_out_is_said(written: Callable[[str], Path]) -> None:
    assert {"tags of images (not used)": 1}.items() <= load(written("cvat"), "cvat").warnings.items()
    root = written("label_studio")
    tasks = json.loads((root / "export.json").read_text())
    right = {"ground_truth": True, "result": tasks[1]["annotations"][0]["result"]}
    tasks[2]["annotations"] = [{"result": []}, right]
    write_json(root / "export.json", tasks)
    dataset = load(root, "label_studio")
    assert dataset.records[-1].labels == (1,)
    said = {"tasks without a submitted annotation (not used)", "tasks with several annotations (one is used)"}
    assert {*said, "results that are no regions, such as choices (not used)"} <= {*dataset.warnings}


def test_frames_of_a_video_in_cvat(written: Callable[[str], Path]) -> None:
    """They have no suffix."""
    root = written("cvat")
    text = (root / "annotations.xml").read_text()
    (root / "annotations.xml").write_text(text.replace('name="a.png"', 'name="a"').replace('name="c.png"', 'name="a"'))
    dataset = load(root, "cvat")
    assert [record.id for record in dataset.records] == ["a", "b"]
    assert dataset.warnings["photos annotated twice (the objects of both are used)"] == 1


def test_bitmasks_of_label_studio(written: Callable[[str], Path]) -> None:
    root = written("label_studio")
    tasks = json.loads((root / "export.json").read_text())
    rgba = DOG[..., None] * np.uint8([0, 0, 0, 255])
    value = {"imageDataURL": f"data:image/png;base64,{base64.b64encode(png(rgba)).decode()}", "bitmasklabels": ["dog"]}
    tasks[0]["annotations"][0]["result"][1] |= {"type": "bitmasklabels", "value": value}
    write_json(root / "export.json", tasks)
    drawn = draw_regions(load(root, "label_studio").records[0].regions or (), SIZE)
    np.testing.assert_array_equal(drawn, np.where(DOG, 2, np.where(CAT, 1, 0)))

    def write(content: bytes) -> None:
        value["imageDataURL"] = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        write_json(root / "export.json", tasks)

    write(png(rgba * np.uint8(0)))  # all of it erased: an object without pixels, and no box of the whole image
    assert [box for box in load(root, "label_studio").records[0].boxes if box[2] - box[0] == SIZE[1]] == []
    for content, message in (
        (png(rgba[:20]), "a bitmask of 60 x 20"),
        (png(rgba)[:-30], "a mask that is no whole PNG"),
    ):
        write(content)
        with pytest.raises(SegError, match=message):
            load(root, "label_studio")


def test_labelme_without_sizes(written: Callable[[str], Path]) -> None:
    root = written("labelme")
    content = json.loads((root / "a.json").read_text())
    write_json(root / "a.json", content | {"imagePath": "a.png", "imageHeight": None, "imageWidth": None})
    drawn = draw_regions(load(root, "labelme").records[0].regions or (), SIZE)
    np.testing.assert_array_equal(drawn, np.where(DOG, 2, np.where(CAT, 1, 0)))


def test_via_without_attributes_is_of_one_class(tmp_path: Path) -> None:
    """As Matterport's balloons are."""
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    region = {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}, "region_attributes": {}}
    write_json(tmp_path / "A.JSON", {"a": {"filename": "a.png", "regions": [region]}})
    assert load(tmp_path, "via").classes == ("object",)


@pytest.mark.parametrize(
    ("kind", "name", "text", "message"),
    [
        ("yolo", "data.yaml", "train: images", r"data.yaml: no annotations of yolo \(lacks 'names'\); correct or exp"),
        ("cvat", "a.xml", "<annotation/>", r"a.xml: .*<annotation> where <annotations> was expected"),
        ("yolo", "data.yaml", "train: images\nkpt_shape: [2, 2]\nnames: [x]", "labels have keypoints, not outlines"),
        ("label_studio", "a.json", '[{"data": {"image": "a.png"}, "annotations": [{"result": [{"type": "brushlabels", '
         '"original_width": 60, "original_height": 40, "value": {"rle": [0, 0], "brushlabels": ["x"]}}]}]}]',
         r"no annotations of label_studio \("),
        ("label_studio", "a.json", '[{"image": "a.png"}]', r"\(no tasks; choose the export JSON, not JSON-MIN\)"),
        ("label_studio", "a.json", '[{"data": {"image": "a.png"}, "annotations": [{"result": [{"type": "brush"}]}]}]',
         "a region without a class"),
        ("label_studio", "a.json", '[{"data": {}, "annotations": [{"result": []}]}]', "a task without an image"),
        ("label_studio", "a.json", '[{"data": {"image": "a.png"}, "annotations": null}]',
         r"lists no annotated photo .*; tasks without a submitted annotation \(not used\): 1; give"),
        ("label_studio", "a.json", '{"data": {}}', r"a.json: no annotations of label_studio \(another structure\)"),
        ("cvat", "a.xml", "<annotations><track label='x'/></annotations>", "tracks of a video; choose the export"),
        ("cvat", "a.xml", "<annotations/>", "lists no annotated photo"),
        ("via", "a.json", '{"a": {"filename": "a.png", "regions": []}, "b": {"filename": "b.png", "regions": [{'
         '"shape_attributes": {"name": "rect"}, "region_attributes": {"kind": ""}}]}}',
         r"\(a region without a class, after a.png\)"),
        ("via", "a.json", '{"a": {"filename": 1, "regions": []}}', r"no annotations of via \(another structure\)"),
        ("labelme", "a.json", '{"imagePath": "a.png", "imageHeight": 40, "imageWidth": 60, "shapes": [{"label": "x", '
         '"shape_type": "rectangle", "points": [[1, NaN], [2, 2]]}]}', r"a.png has a region at NaN or infinity"),
        ("supervisely", "x.json", "{}", r"no \*\*/ann/\*\.json of supervisely; export it again"),
        ("coco", "x.json", "{}", r"format='coco': must be one of cvat, "),
    ],
)  # fmt: skip
def test_files_that_are_refused(tmp_path: Path, kind: str, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    with pytest.raises(SegError, match=message) as error:
        load(tmp_path, kind)
    assert "\n" not in str(error.value)
