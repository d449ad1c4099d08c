"""CSV of labels and boxes, and folders of VOC XML."""

import json
from pathlib import Path

import pytest

from seg.data.tables import read_boxes, read_labels
from seg.errors import SegError

VOC = (
    "<annotation><size><width>60</width><height>40</height></size><object><name> pear\n</name><bndbox><xmin>1</xmin>"
    "<ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "file,xmin,ymin,xmax,ymax\na.jpg,1,2,30,40\ncat/b.jpg,0.5,0,3,4\na.jpg,5,6,7,8\n",
        "\ufefffile,xmin,ymin,xmax,ymax\r\na.jpg, 1,2,30,40\r\n\r\ncat/b.jpg,0.5,0,3,4\r\na.jpg,5,6,7,8",
        "file,xmin,ymin,xmax,ymax,class\na.jpg,1,2,30,40,x\ncat/b.jpg,0.5,0,3,4,y\nnone.jpg,,,,,\na.jpg,5,6,7,8,x\n",
        "file;XMin;XMax;YMin;YMax\na.jpg;1;30;2;40\ncat/b.jpg;0.5;3;0;4\na.jpg;5;7;6;8\n",
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\n"
        "x,1,2,29,38,a.jpg,60,40\ny,0.5,0,2.5,4,cat/b.jpg,60,40\nx,5,6,2,2,a.jpg,60,40\n",
    ],
    ids=["plain", "spreadsheet", "classes", "semicolons", "width and height"],
)
def test_boxes(tmp_path: Path, text: str) -> None:
    found = [(one.image, one.box) for one in read_boxes(table(tmp_path, text))]
    assert found == [("a.jpg", (1, 2, 30, 40)), ("cat/b.jpg", (0.5, 0, 3, 4)), ("a.jpg", (5, 6, 7, 8))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,cx,cy,w,h,x,y\na.jpg,1,2,3,4,5,6\n", r"table.csv: needs the heading file,xmin,ymin,xmax,ymax"),
        ("file,xmin,ymin,xmax,ymax\n\na.jpg,1,2,x,4\n", r"table.csv line 3: '1,2,x,4' is not xmin,ymin,xmax,ymax"),
        ("file,x1,y1,x2,y2\na.jpg,0.1,0.2,0.5,1\n", r"table.csv line 2: all boxes lie within 0 to 1, .*; write pixels"),
        ("file,xmin,ymin,xmax,ymax\n", r"holds no box"),
        ("", r"no CSV"),
    ],
)
def test_boxes_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SegError, match=message) as error:
        read_boxes(table(tmp_path, text))
    assert "\n" not in str(error.value)


def test_boxes_of_xml_and_their_classes(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.xml").write_text(VOC)
    (tmp_path / "b.xml").write_text(VOC.replace("<name> pear\n</name>", ""))
    (tmp_path / "._b.xml").write_text("junk")
    found = [(one.image, one.box, one.class_name, one.size) for one in read_boxes(tmp_path)]
    assert found == [("b", (1, 2, 30, 40), "", (40, 60)), ("cat/a", (1, 2, 30, 40), "pear", (40, 60))]
    text = "Image,class,xmin,ymin,xmax,ymax\na.jpg, apple ,1,2,30,40\nb.jpg,,0,0,3,4\n"
    assert [one.class_name for one in read_boxes(table(tmp_path, text))] == ["apple", ""]
    for name in ("none.csv", "b.txt", "empty"):
        (tmp_path / "b.txt").touch(), (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(SegError, match=r"no such \.csv or \.json \(COCO\), and no folder of VOC XML"):
            read_boxes(tmp_path / name)


def test_boxes_of_coco(tmp_path: Path) -> None:
    crowd = {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    document = {
        "images": [{"id": 7, "file_name": "train/a.jpg", "width": 60, "height": 40}],
        "categories": [{"id": 3, "name": "pear"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 29, 38]}, crowd],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document))
    (one,) = read_boxes(path)
    assert (one.image, one.box, one.class_name, one.size) == ("train/a.jpg", (1, 2, 30, 40), "pear", (40, 60))
    path.write_text(json.dumps(document | {"annotations": [{"image_id": 7}]}))
    with pytest.raises(SegError, match=r"boxes.json annotation 0: needs image_id, and bbox"):
        read_boxes(path)


@pytest.mark.parametrize(
    "text",
    [
        "file,labels\na.jpg,apple\nb.PNG,apple;pear\n",
        "\ufeffimage_id,label\r\na.jpg,apple\r\n\r\nb.PNG,apple | pear\r\n\r\n",
        'file;labels\na.jpg;apple\nb.PNG;"apple;pear"\n',
        "id,fruit\na.jpg,apple\nb.PNG,apple;pear\n",
        ",Image Name,apple,pear\n0,a.jpg,1.0,0.0\n1,b.PNG,1.0,1.0\n",
    ],
)
def test_labels(tmp_path: Path, text: str) -> None:
    found = [(image, names) for image, _, names in read_labels(table(tmp_path, text))]
    assert found == [("a.jpg", ("apple",)), ("b.PNG", ("apple", "pear"))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg,apple,pear\n", r"table.csv: has no two columns of files and labels; write the heading file,labels"),
        ("file,apple,pear\na.jpg,1,2\n", r"has no two columns"),
        ("file,labels\na.jpg,apple,pear\n", r"no CSV \(.*Expected 2 fields in line 2, saw 3"),
        ("file,labels\n,apple\n", r"table.csv line 2: names no file"),
        ("file,labels\nnone.png,Background\n", r"line 2: 'Background' is no class; leave the labels of an image"),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SegError, match=message) as error:
        read_labels(table(tmp_path, text))
    assert "\n" not in str(error.value)
