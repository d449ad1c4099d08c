"""Boxes of many images: one CSV, one COCO JSON, or a folder of VOC XML."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from seg.data.boxes import check_order, read_box_file
from seg.data.coco_file import read_coco
from seg.data.dataset import Box
from seg.data.label_lists import FILE_WORDS, LABEL_WORDS, column, read_table, word
from seg.errors import SegError

COLUMNS = ("file", "xmin", "ymin", "xmax", "ymax")
_CORNERS = (COLUMNS[1:], ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))
_EXTENTS = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))


class ListedBox(NamedTuple):
    """One box, the image that it is of, where that is written, its class or "", and the image's size, if it is said."""

    image: str
    box: Box
    where: str
    class_name: str = ""
    size: tuple[int, int] | None = None


def box_files(path: Path) -> list[Path]:
    """The files that ``path`` stands for: itself, or the XML files below it, without macOS leftovers.

    Raises:
        SegError: there is no such thing, or it is of another kind.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".xml" and not p.name.startswith("."))
        if not files:
            raise SegError(f"data.boxes_from={path}: a folder without VOC XML files")
        return files
    if not path.is_file():
        raise SegError(f"data.boxes_from={path}: no such file or folder")
    if path.suffix.lower() not in (".csv", ".json"):
        raise SegError(f"data.boxes_from={path}: must be a .csv, a .json (COCO) or a folder of VOC XML")
    return [path]


def read_boxes(path: Path) -> list[ListedBox]:
    """Read all boxes.

    Args:
        path: a ``.csv`` with the columns ``file,xmin,ymin,xmax,ymax`` (or ``x1,y1,x2,y2``; or ``x,y,width,height``
            with the left top corner) and perhaps ``class``, others not being read (without a heading line these, in
            this order); a ``.json`` as of COCO (``images``, ``annotations`` with ``bbox: [x, y, width, height]`` or an
            outline, perhaps ``categories``; crowds are left out), or a folder of VOC XML files, each with the name of
            its image. Pixels count from the left and top edge of the upright image.

    Returns:
        The boxes in the order of the file. Images are named as they are there.

    Raises:
        SegError: the file cannot be read or holds none, a box is no box, or all are shares of their image's sides; the
            message names file and line.
    """
    files = box_files(path)
    if path.is_dir():
        return [box for file in files for box in _voc(path, file)]
    if not (found := list(_csv(path) if path.suffix.lower() == ".csv" else _coco(path))):
        raise SegError(f"data.boxes_from={path}: holds no box; leave it out, or give another")
    if all(max(one.box) <= 1 for one in found):
        raise SegError(f"{found[0].where}: all boxes lie within 0 to 1, as shares of the sides; write pixels")
    return found


def _voc(folder: Path, file: Path) -> Iterator[ListedBox]:
    name = file.relative_to(folder).with_suffix("").as_posix()
    content = read_box_file(file)
    for box, class_name in zip(content.boxes, content.names, strict=True):
        yield ListedBox(name, box, str(file), class_name, content.size)


def _csv(path: Path) -> Iterator[ListedBox]:
    table = read_table(path)
    heading = [re.sub("^b?box(?=.)", "", word(cell)) for cell in table[0][1]] if table else []
    sides = next((sides for sides in (*_CORNERS, *_EXTENTS) if set(sides) <= set(heading)), COLUMNS[1:])
    file_at, class_at = column(heading, FILE_WORDS), column(heading, LABEL_WORDS)
    is_heading = file_at is not None and set(sides) <= set(heading)
    columns = [file_at or 0, *map(heading.index, sides)] if is_heading else range(5)
    class_at = class_at if is_heading else 5
    for number, row in table[is_heading:]:
        where = f"{path} line {number}"
        try:
            if not is_heading and len(row) > 6:
                raise ValueError("more than these columns need a heading")
            name, *said = (row[c] for c in columns)
            if not any(said):  # an image without an object, as some tools write it
                continue
            x, y, x2, y2 = map(float, said)
        except (IndexError, ValueError) as error:
            wanted = "{0} is not {1}" if is_heading or number > table[0][0] else "must be the heading {1}, not {0}"
            raise SegError(f"{where}: {wanted.format(repr(','.join(row)[:60]), ','.join(COLUMNS))}") from error
        box = (x, y, x + x2, y + y2) if sides in _EXTENTS else (x, y, x2, y2)
        check_order(box, where)
        # A line may end before its last column.
        yield ListedBox(name, box, where, "" if class_at is None else "".join(row[class_at : class_at + 1]))


def _coco(path: Path) -> Iterator[ListedBox]:
    content = read_coco(path)
    for one in content.annotations:
        if isinstance(one, SegError):
            raise one
        if one.is_crowd:
            continue
        if (image := content.images.get(one.image)) is None:
            raise SegError(f"{one.where}: its image_id {one.image} is no image of the file")
        check_order(one.box, one.where)
        name, _ = content.categories.get(one.category, ("", "")) if one.category is not None else ("", "")
        yield ListedBox(image.name, one.box, one.where, name, image.size)
