"""Boxes of many images: one CSV, one COCO JSON, or a folder of VOC XML."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from seg.data.boxes import check_order, read_box_file
from seg.data.coco_file import read_coco
from seg.data.dataset import Box
from seg.data.layout import read_text
from seg.errors import SegError

COLUMNS = ("file", "xmin", "ymin", "xmax", "ymax")


class ListedBox(NamedTuple):
    """One box, the image that it says it is of, where that is written, and the object's class, or "" for none."""

    image: str
    box: Box
    where: str
    class_name: str = ""


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
        path: a ``.csv`` with the columns ``file,xmin,ymin,xmax,ymax`` and perhaps ``class`` (others are not read;
            without a heading line the first five in this order), a ``.json`` as of COCO (``images``, ``annotations``
            with ``bbox: [x, y, width, height]`` or an outline, perhaps ``categories``; crowds are left out), or a
            folder of VOC XML files, each with the name of its image. Pixels count from the left and top edge of the
            upright image.

    Returns:
        The boxes in the order of the file. Images are named as they are there.

    Raises:
        SegError: the file cannot be read or holds none, or a box is no box; the message names file and line.
    """
    files = box_files(path)
    if path.is_dir():
        return [box for file in files for box in _voc(path, file)]
    if not (found := list(_csv(path) if path.suffix.lower() == ".csv" else _coco(path))):
        raise SegError(f"data.boxes_from={path}: holds no box; leave it out, or give another")
    return found


def _voc(folder: Path, file: Path) -> Iterator[ListedBox]:
    name = file.relative_to(folder).with_suffix("").as_posix()
    content = read_box_file(file)
    for box, class_name in zip(content.boxes, content.names, strict=True):
        yield ListedBox(name, box, str(file), class_name)


def _csv(path: Path) -> Iterator[ListedBox]:
    columns, first = list(range(len(COLUMNS))), True
    class_at: int | None = None
    for number, row in rows(path):
        where = f"{path} line {number}"
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        heading = [re.sub("^(filename|image)$", "file", cell.lower()) for cell in cells]
        if first and set(COLUMNS) <= set(heading):
            columns, first = [heading.index(name) for name in COLUMNS], False
            class_at = heading.index("class") if "class" in heading else None
            continue
        try:
            name, xmin, ymin, xmax, ymax = (cells[c] for c in columns)
            if first and len(cells) != len(COLUMNS):
                raise ValueError("more than these columns need a heading")
            box = (float(xmin), float(ymin), float(xmax), float(ymax))
        except (IndexError, ValueError) as error:
            wanted = "must be the heading {1}, not {0}" if first else "{0} is not {1}"
            raise SegError(f"{where}: {wanted.format(repr(','.join(row)[:60]), ','.join(COLUMNS))}") from error
        first = False
        check_order(box, where)
        # A line may end before its last column.
        yield ListedBox(name, box, where, "" if class_at is None else "".join(cells[class_at : class_at + 1]))


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV with their numbers."""
    lines = csv.reader(read_text(path).splitlines())
    try:
        for row in lines:
            yield lines.line_num, row
    except csv.Error as error:  # a field of more than 131,072 characters: a quote that is never closed, say
        raise SegError(
            f"{path} line {lines.line_num}: no CSV ({error}); look for a quote that is not closed"
        ) from error


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
        yield ListedBox(image.name, one.box, one.where, name)
