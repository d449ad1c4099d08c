"""Boxes of many images in one file."""

import json
from pathlib import Path

import pytest

from seg.data.box_lists import read_boxes
from seg.errors import SegError

VOC = (
    "<annotation><size><width>60</width><height>40</height></size><object><bndbox><xmin>1</xmin><ymin>2</ymin>"
    "<xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)


def read(path: Path) -> list[tuple[str, tuple[float, ...]]]:
    return [(listed.image, listed.box) for listed in read_boxes(path)]


@pytest.mark.parametrize(
    "text",
    [
        "file,xmin,ymin,xmax,ymax\na.jpg,1,2,30,40\ncat/b.jpg,0.5,0,3,4\na.jpg,5,6,7,8\n",
        "\ufefffile,xmin,ymin,xmax,ymax\r\na.jpg, 1,2,30,40\r\n\r\ncat/b.jpg,0.5,0,3,4\r\na.jpg,5,6,7,8",
        "a.jpg,1,2,30,40\ncat/b.jpg,0.5,0,3,4\na.jpg,5,6,7,8\n",
        "class,ymax,ymin,xmin,xmax,Filename\nx,40,2,1,30,a.jpg\ny,4,0,0.5,3,cat/b.jpg\nx,8,6,5,7,a.jpg\n",
        "file;XMin;XMax;YMin;YMax\na.jpg;1;30;2;40\ncat/b.jpg;0.5;3;0;4\na.jpg;5;7;6;8\n",
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\n"
        "x,1,2,29,38,a.jpg,60,40\ny,0.5,0,2.5,4,cat/b.jpg,60,40\nx,5,6,2,2,a.jpg,60,40\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        "a.jpg,60,40,x,1,2,30,40\ncat/b.jpg,60,40,y,0.5,0,3,4\na.jpg,60,40,x,5,6,7,8\n",
        "a.jpg,1,2,30,40,x\ncat/b.jpg,0.5,0,3,4,y\nnone.jpg,,,,,\na.jpg,5,6,7,8,x\n",
    ],
    ids=["plain", "spreadsheet", "no heading", "other columns", "OpenImages", "makesense", "TensorFlow", "RetinaNet"],
)
def test_csv(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read(path) == [("a.jpg", (1, 2, 30, 40)), ("cat/b.jpg", (0.5, 0, 3, 4)), ("a.jpg", (5, 6, 7, 8))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,cx,cy,w,h\na.jpg,1,2,3,4\n", r"boxes.csv line 1: must be the heading file,xmin,ymin,xmax,ymax"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,1,2,x,4\n", r"boxes.csv line 2: 'a.jpg,1,2,x,4' is not"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,1,2,3\n", r"boxes.csv line 2"),
        ("a.jpg,1,2,3,4\nb.jpg,3,2,3,4\n", r"boxes.csv line 2: empty box \(xmin=3"),
        ("a.jpg,1,2,nan,4\n", r"empty box"),
        ("a.jpg,0.1,0.2,0.5,1\n", r"boxes.csv line 1: all boxes lie within 0 to 1, .*; write pixels"),
    ],
)
def test_a_bad_csv_is_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(SegError, match=said) as error:
        read_boxes(path)
    assert "\n" not in str(error.value)


def classes(path: Path) -> list[str]:
    return [listed.class_name for listed in read_boxes(path)]


def test_a_csv_may_name_the_class(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("Image,class,xmin,ymin,xmax,ymax\na.jpg, apple ,1,2,30,40\nb.jpg,,0,0,3,4\n")
    assert classes(path) == ["apple", ""]
    path.write_text("file,xmin,ymin,xmax,ymax,class\na.jpg,1,2,30,40\n")  # the line ends before it
    assert classes(path) == [""]


def coco(path: Path, **changed: object) -> Path:
    document = {
        "images": [{"id": 7, "file_name": "train/a.jpg", "width": 60, "height": 40}],
        "annotations": [
            {"id": 1, "image_id": 7, "bbox": [1, 2, 29, 38], "category_id": 1},
            {"id": 2, "image_id": 7, "bbox": [0, 0, 60, 40], "iscrowd": 1},
        ],
    }
    path.write_text(json.dumps(document | changed))
    return path


def test_coco_gives_corners_and_no_crowds(tmp_path: Path) -> None:
    assert read(coco(tmp_path / "b.json")) == [("train/a.jpg", (1, 2, 30, 40))]


def test_coco_and_voc_name_the_class(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}]
    assert classes(coco(tmp_path / "b.json", categories=categories)) == ["cat"]
    assert classes(coco(tmp_path / "b.json")) == [""]
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml/a.xml").write_text(VOC.replace("<bndbox>", "<name> pear\n</name><bndbox>"))
    (tmp_path / "xml/b.xml").write_text(VOC)
    assert classes(tmp_path / "xml") == ["pear", ""]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"annotations": [{"image_id": 8, "bbox": [1, 2, 3, 4]}]}, "not one of its 1 annotations is of an image"),
        ({"annotations": [{"image_id": 7, "bbox": [1, 2, 3]}]}, "annotation 0: needs"),
        ({"annotations": [{"image_id": 7, "bbox": [1, 2, 0, 4]}]}, "annotation 0: empty box"),
    ],
)
def test_a_bad_coco_file(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    with pytest.raises(SegError, match=said):
        read_boxes(coco(tmp_path / "b.json", **changed))


def test_voc_by_the_names_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.xml").write_text(VOC)
    (tmp_path / "b.xml").write_text(VOC)
    (tmp_path / "._b.xml").write_text("junk")
    assert read(tmp_path) == [("b", (1, 2, 30, 40)), ("cat/a", (1, 2, 30, 40))]


def test_what_is_no_list_of_boxes(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "heading.csv").write_text("file,xmin,ymin,xmax,ymax\n")
    for name, said in (
        ("none.csv", "no such"),
        ("boxes.txt", "must be"),
        ("empty", "without VOC"),
        ("b.json", "no CO"),
        ("heading.csv", "holds no box"),
    ):
        with pytest.raises(SegError, match=said):
            read_boxes(tmp_path / name)
