"""CSV tables as people and tools write them, and labels of images that may have several, or none."""

import csv
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from seg.data.layout import IMAGE_SUFFIXES, is_writable, read_text
from seg.errors import SegError

#: How the column of the images and that of their classes are called, without spaces and ``_``; the first counts.
FILE_WORDS = (
    "file",
    "filename",
    "image",
    "imagename",
    "imagepath",
    "filepath",
    "path",
    "photo",
    "imageid",
    "imageindex",
    "id",
    "name",
)
LABEL_WORDS = (
    *("labels", "label", "classes", "class", "classname", "labelname", "categories", "category", "tags", "tag"),
    "findinglabels",
)
#: What people and tools write for an image without an object.
_NOTHING = {"background", "none", "nan", "null", "n/a", "no finding", "nothing"}
#: A column that a tool's own table has, and what to export instead.
_TOOLS = {
    "region_shape_attributes": "VIA's table of regions; export the annotations as COCO, and use data=coco",
    "annotator": "Label Studio's table of tasks; export them as COCO (data=coco) or as Pascal VOC XML",
}
_YES, _NO = {"1", "1.0", "true"}, {"0", "0.0", "false", ""}


class ListedLabels(NamedTuple):
    """The image that a line says it is of, its classes, and where that is written."""

    image: str
    names: tuple[str, ...]
    where: str


def read_table(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a CSV that are not empty: their numbers and cells, without the space around these.

    Columns are separated by what the first line has: a tab, else a comma, else a semicolon.

    Raises:
        SegError: it cannot be read, or is a tool's own table.
    """
    lines = unicodedata.normalize("NFC", read_text(path)).splitlines()
    if lines and lines[0].lower().startswith("sep="):  # of Excel, which then separates by it
        lines[0] = ""
    first = re.sub('"[^"]*"', "", next((line for line in lines if line.strip()), ""))
    reader = csv.reader(lines, delimiter=next((s for s in "\t,;" if s in first), ","), skipinitialspace=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:  # a field of more than 131,072 characters: a quote that is never closed, say
        where = f"{path} line {reader.line_num}"
        raise SegError(f"{where}: no CSV ({error}); look for a quote that is not closed") from error
    table = [(number, row) for number, row in rows if any(row)]
    for cell in table[0][1] if table else ():
        if cell in _TOOLS:
            raise SegError(f"{path}: is {_TOOLS[cell]}")
    return table


def word(cell: str) -> str:
    """A cell of a heading to compare by."""
    return re.sub(r"[\s_-]", "", cell.lower())


def column(heading: Sequence[str], words: Sequence[str]) -> int | None:
    """Where the first of these words stands in a heading, or None."""
    return next((heading.index(one) for one in words if one in heading), None)


def read_labels(path: Path, is_image: Callable[[str], bool] = lambda said: False) -> list[ListedLabels]:
    """Read a CSV of the images' labels: ``file,labels``, several labels of an image separated by ``;`` or ``|``.

    The first line is a heading if it names a column of files (``file``, ``image_id``, ...) and one of labels
    (``labels``, ``class``, ...), or the former and no image. Without a column of labels it is the only other one; or
    each of several is a class, with 1 where an image shows it and 0 elsewhere. Other columns are not read. Without a
    heading there are two, in this order. Empty labels say that nothing of any class is in the image.

    Args:
        path: the file. is_image: whether a cell names an image.

    Raises:
        SegError: it cannot be read, or a line is something else; the message names file and line.
    """
    table = read_table(path)
    number, first = table[0] if table else (0, [])
    heading = [word(cell) for cell in first]
    file_at, label_at, classes = column(heading, FILE_WORDS), column(heading, LABEL_WORDS), dict[int, str]()
    if file_at is not None and (label_at is not None or not any(map(is_image, first))):
        table, width = table[1:], len(first)
        # Data frames are written with a column of numbers in front.
        others = {at: s for at, s in enumerate(first) if s and at != file_at and not s.startswith("Unnamed")}
        values = {cell.lower() for _, row in table for at in others for cell in row[at : at + 1]}
        if label_at is None and values - {""} and values <= _YES | _NO:
            classes = others
        elif label_at is None and len(others) == 1:
            (label_at,) = others
        elif label_at is None:
            raise SegError(
                f"{path} line {number}: no column is called labels, and the others do not hold 0 and 1 alone; call the "
                "two that count file,labels"
            )
    else:
        file_at, label_at, width = 0, 1, 2
        if first and first[0] and not is_image(first[0]) and not first[0].lower().endswith(IMAGE_SUFFIXES):
            raise SegError(
                f"{path} line {number}: {','.join(first)[:60]!r} names no image and is no heading that is known; write "
                "the heading file,labels"
            )
    found: list[ListedLabels] = []
    for number, row in table:
        where = f"{path} line {number}"
        if len(row) > width:
            raise SegError(
                f"{where}: {','.join(row)[:60]!r} has {len(row)} columns, not {width}; several labels are separated by "
                "; or |, and other columns than file,labels need a heading"
            )
        row += [""] * (width - len(row))  # a line may end before its last column
        if label_at is None or classes:
            names = [name for at, name in classes.items() if row[at].lower() in _YES]
        else:
            # In brackets: a list as Python writes it.
            is_list = re.fullmatch(r"\[.*\]", row[label_at])
            parts = row[label_at][1:-1].split(",") if is_list else re.split("[;|]", row[label_at])
            names = [name for part in parts if (name := part.strip(" '\"" if is_list else None))]
        if not row[file_at]:
            raise SegError(f"{where}: names no file")
        for name in names:
            if name.lower() in _NOTHING:
                raise SegError(f"{where}: {name} is no class; leave the labels of an image without an object empty")
            if not is_writable(name):
                raise SegError(f"{where}: the class {name[:60]!r} has characters that cannot be written; rename it")
        found.append(ListedLabels(row[file_at], tuple(dict.fromkeys(names)), where))
    alone = {name for one in found for name in one.names}
    for one in found:
        for name in one.names:
            words = name.split()
            has_comma = "," in name and not alone.isdisjoint(part.strip() for part in name.split(","))
            if has_comma or (len(words) > 1 and alone.issuperset(words)):
                raise SegError(f"{one.where}: {name!r}: are these several labels? separate them by ;")
    return found
