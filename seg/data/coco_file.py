"""COCO's annotation files: the images and categories they list, and the boxes of their annotations."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seg.data.dataset import Box
from seg.data.layout import read_text
from seg.errors import SegError, first_line

_WRONG = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


class Listed(NamedTuple):
    """An image as the file names it, and its ``(height, width)`` if it says so."""

    file: str
    size: tuple[int, int] | None


class Annotation(NamedTuple):
    """One object, or a crowd of them.

    Attributes:
        where: what a refusal of it begins with.
        image: the id that it gives of its image, which may be listed or not.
        category: the id of its category.
        is_crowd: whether it is a region of objects that are not told apart.
        content: all that the file says of it.
    """

    where: str
    image: Any
    category: Any
    is_crowd: bool
    content: dict[str, Any]

    def box(self) -> Box:
        """``(xmin, ymin, xmax, ymax)`` of its ``bbox: [x, y, width, height]``, which may be empty or outside.

        Raises:
            SegError: it has none, or one that is not four numbers.
        """
        try:
            if isinstance(self.content["bbox"], str):  # whose digits would be taken for numbers
                raise TypeError
            x, y, width, height = map(float, self.content["bbox"])
        except _WRONG as error:
            raise refusal(self.where) from error
        return x, y, x + width, y + height


def refusal(where: str) -> SegError:
    """Of an annotation that lacks what every one has; ``where`` is what it begins with."""
    return SegError(f"{where}: needs the image_id of an image and bbox [x, y, width, height]")


@dataclass(frozen=True)
class CocoFile:
    """What a file lists.

    Attributes:
        path: the file.
        images: by their ids.
        categories: names by id, in the order of the ids; none where the file has none.
    """

    path: Path
    images: dict[Any, Listed]
    categories: dict[int, str]
    _annotations: list[Any]

    def annotations(self) -> Iterator[Annotation | SegError]:
        """Each annotation in the order of the file, or what is wrong with it."""
        for number, content in enumerate(self._annotations):
            where = f"{self.path} annotation {number}"
            try:
                image, category = content["image_id"], content.get("category_id")
                hash((image, category))
                yield Annotation(where, image, category, bool(content.get("iscrowd")), content)
            except _WRONG:
                yield refusal(where)


def read_coco(path: Path) -> CocoFile:
    """Read a JSON with ``images`` and ``annotations``, and perhaps ``categories``.

    Raises:
        SegError: it cannot be read or is none, an id is that of two images or categories, or two categories have one
            name.
    """
    try:
        content = json.loads(read_text(path))
        images = [(image["id"], Listed(str(image["file_name"]), _size(image))) for image in content["images"]]
        categories = [(entry["id"], entry["name"]) for entry in content.get("categories") or ()]
        annotations = list(content["annotations"])
        by_id = dict(images)
        if not all(type(i) is int and isinstance(name, str) and name.strip() for i, name in categories):
            raise TypeError("a category needs a number as its id, and a name")
    except _WRONG as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise SegError(f"{path}: is no COCO JSON with images and annotations ({what})") from error
    for image_id, image in images:
        if by_id[image_id].file != image.file:
            raise SegError(f"{path}: image id {image_id} is of {image.file} and of {by_id[image_id].file}")
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for i, said in categories:
        name = said.strip()
        if names.setdefault(i, name) != name:
            raise SegError(f"{path}: category id {i} is of {names[i]!r} and of {name!r}; give one another id")
        if ids.setdefault(name, i) != i:
            raise SegError(f"{path}: two categories, {ids[name]} and {i}, are called {name!r}; rename one")
    return CocoFile(path, by_id, dict(sorted(names.items())), annotations)


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    sides = image.get("height"), image.get("width")
    return sides if all(type(side) is int and side > 0 for side in sides) else None  # type: ignore[return-value]
