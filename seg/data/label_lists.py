"""Labels of images that may have several, or none: a CSV."""

from pathlib import Path
from typing import NamedTuple

from seg.data.box_lists import rows
from seg.errors import SegError

COLUMNS = ("file", "labels")
_SAME = {"filename": "file", "image": "file", "label": "labels", "class": "labels", "classes": "labels"}


class ListedLabels(NamedTuple):
    """The image that a line says it is of, its classes, and where that is written."""

    image: str
    names: tuple[str, ...]
    where: str


def read_labels(path: Path) -> list[ListedLabels]:
    """Read a CSV with the columns ``file`` and ``labels``, several of these separated by ``;``.

    Other columns are not read; without a heading line there are these two, in this order. Empty labels say that
    nothing of any class is in the image.

    Raises:
        SegError: it cannot be read, or a line is something else; the message names file and line.
    """
    found: list[ListedLabels] = []
    columns, width, first = (0, 1), len(COLUMNS), True
    for number, row in rows(path):
        cells, where = [cell.strip() for cell in row], f"{path} line {number}"
        if not any(cells):
            continue
        heading = [_SAME.get(cell.lower(), cell.lower()) for cell in cells]
        if first and set(COLUMNS) <= set(heading):
            columns, width, first = (heading.index("file"), heading.index("labels")), len(cells), False
            continue
        first = False
        if len(cells) > width:
            raise SegError(
                f"{where}: {','.join(row)[:60]!r} has {len(cells)} columns, not {width}; several labels are separated "
                "by ;, and other columns than file,labels need a heading"
            )
        # A line may end before its last column.
        image, labels = ("".join(cells[at : at + 1]) for at in columns)
        names = tuple(dict.fromkeys(name for part in labels.split(";") if (name := part.strip())))
        if not image:
            raise SegError(f"{where}: names no file")
        if any(name.lower() == "background" for name in names):
            raise SegError(f"{where}: background is no class; leave the labels of an image without an object empty")
        found.append(ListedLabels(image, names, where))
    return found
