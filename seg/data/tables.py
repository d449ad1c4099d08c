"""CSV files of labels and boxes."""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from seg.data.boxes import ListedBox, read_xml
from seg.data.coco_file import CocoImage, read_coco
from seg.data.layout import is_writable, nfc, read_text
from seg.errors import SegError, first_line

#: Headings of the columns of images and of classes, in lower case without spaces and ``_``; the first one found counts.
_FILE = ("file", "filename", "image", "imagename", "imageid", "path", "id")
_LABEL = ("labels", "label", "class", "labelname", "category")
_CORNERS = ["xmin", "ymin", "xmax", "ymax"]
_X1 = ["x1", "y1", "x2", "y2"]
_EXTENT = ["x", "y", "width", "height"]


def read_table(path: Path) -> pd.DataFrame:
    """The cells of a CSV as stripped text; the index has the line numbers. Empty lines are left out.

    The separator is the first of tab, comma and semicolon that the first line has.

    Raises:
        SegError: it cannot be read, is empty, or a line has more cells than the first.
    """
    text = nfc(read_text(path))
    separator = next((s for s in "\t,;" if s in text.partition("\n")[0]), ",")
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            skipinitialspace=True,
        )
    except ValueError as error:  # base of all errors of pandas' parser
        raise SegError(f"{path}: no CSV ({first_line(error)}); correct that line") from error
    table = table.fillna("").map(str.strip)  # a line may end before its last column
    table.index += 1
    return table[(table != "").any(axis=1)]


def _headings(table: pd.DataFrame) -> list[str]:
    return [re.sub(r"[\s_-]|^bbox[_-]?", "", cell.lower()) for cell in table.iloc[0]] if len(table) else []


def _column(headings: Sequence[str], words: Sequence[str]) -> int | None:
    return next((headings.index(word) for word in words if word in headings), None)


def read_labels(path: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """Read a CSV of the images' labels: ``file,labels``, several labels of an image separated by ``;`` or ``|``.

    The heading has a column of files (``file``, ``image_id``, ...). The labels are in the column ``labels``, ``class``
    and the like, else in the only other one; or each other column is a class, with 1 for the images that have it and 0
    for the others. An image with an empty label is background.

    Returns:
        the name of an image, file and line, and its classes.

    Raises:
        SegError: the file cannot be read, or a line is something else.
    """
    table = read_table(path)
    headings = _headings(table)
    first = [*table.iloc[0]] if len(table) else [""]
    file_at, label_at, classes = _column(headings, _FILE), _column(headings, _LABEL), list[int]()
    if file_at is not None:
        table = table.iloc[1:]
        others = [at for at, name in enumerate(first) if name and at != file_at]
        if label_at is None and set(table[others].to_numpy().ravel()) <= {"0", "1", "0.0", "1.0", ""}:
            classes = others
        elif label_at is None and len(others) == 1:
            (label_at,) = others
    if file_at is None or (label_at is None and not classes):
        raise SegError(
            f"{path}: has no two columns of files and labels; write the heading file,labels, several labels separated "
            "by ;, or the heading file and a column of 0 and 1 for each class"
        )
    found = []
    for line, row in zip(table.index, table.itertuples(index=False), strict=True):
        if label_at is None:
            names = [first[at] for at in classes if row[at] in ("1", "1.0")]
        else:
            names = [name for part in re.split("[;|]", row[label_at]) if (name := part.strip())]
        where = f"{path} line {line}"
        if wrong := [n for n in names if n.lower() in ("background", "none", "nan") or not is_writable(n)]:
            raise SegError(f"{where}: {wrong[0][:60]!r} is no class; leave the labels of an image without one empty")
        if not row[file_at]:
            raise SegError(f"{where}: names no file")
        found.append((row[file_at], where, tuple(dict.fromkeys(names))))
    return found


def box_files(path: Path | None) -> list[Path]:
    """``path`` itself, or the XML files below it; none for None. Raises SegError: it is missing or of another kind."""
    if path is None:
        return []
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*.[xX][mM][lL]") if not p.name.startswith("."))
    if not files or (path.is_file() and path.suffix.lower() not in (".csv", ".json")):
        raise SegError(f"data.boxes_from={path}: no such .csv or .json (COCO), and no folder of VOC XML")
    return files


def read_boxes(path: Path) -> list[ListedBox]:
    """Read all boxes.

    Args:
        path: a ``.csv`` with the columns ``file,xmin,ymin,xmax,ymax`` (or ``x1,y1,x2,y2``, or ``x,y,width,height``
            with the left top corner) and perhaps ``class``; a COCO ``.json``, without its crowds; or a folder of VOC
            XML files named as their images. Coordinates are pixels from the left and top of the upright image.

    Returns:
        the boxes in the order of the file, with the names of images in the file.

    Raises:
        SegError: the file cannot be read or has no box, a line is no box, or all boxes are shares of their image's
            sides.
    """
    files = box_files(path)
    if path.is_dir():
        names = {file: file.relative_to(path).with_suffix("").as_posix() for file in files}
        return [box for file, name in names.items() for box in read_xml(file, name)]
    found = list(_coco_boxes(path) if path.suffix.lower() == ".json" else _csv_boxes(path))
    if not found:
        raise SegError(f"data.boxes_from={path}: holds no box; leave it out, or give another")
    if all(max(one.box) <= 1 for one in found):
        raise SegError(f"{found[0].where}: all boxes lie within 0 to 1, as shares of the sides; write pixels")
    return found


def _coco_boxes(path: Path) -> Iterator[ListedBox]:
    content = read_coco(path)
    if content.report.problems:
        raise SegError(content.report.problems[0])
    for one in content.annotations:
        if not one.is_crowd:
            image = content.images.get(one.image, CocoImage(f"image_id {one.image}"))
            yield ListedBox(image.name, one.box, one.where, content.categories.get(one.category, ""), image.size)


def _csv_boxes(path: Path) -> Iterator[ListedBox]:
    table = read_table(path)
    headings = _headings(table)
    file_at, class_at = _column(headings, _FILE), _column(headings, _LABEL)
    sides = next((sides for sides in (_CORNERS, _X1, _EXTENT) if {*sides} <= {*headings}), None)
    if file_at is None or sides is None:
        raise SegError(f"{path}: needs the heading file,xmin,ymin,xmax,ymax, and perhaps class")
    table, sides_at = table.iloc[1:], [headings.index(side) for side in sides]
    for line, row in zip(table.index, table.itertuples(index=False), strict=True):
        where, cells = f"{path} line {line}", [row[at] for at in sides_at]
        if not any(cells):  # an image without an object
            continue
        try:
            x, y, x2, y2 = map(float, cells)
        except ValueError as error:
            raise SegError(f"{where}: {','.join(cells)[:60]!r} is not {','.join(sides)}") from error
        box = (x, y, x + x2, y + y2) if sides == _EXTENT else (x, y, x2, y2)
        yield ListedBox(row[file_at], box, where, "" if class_at is None else row[class_at])
