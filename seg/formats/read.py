"""Readers of annotation formats: from a file to its annotated pictures."""

import base64
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from seg.data.boxes import parse_xml
from seg.data.decode import image_size
from seg.data.layout import IMAGE_SUFFIXES, MissingDataError, any_case, nfc, read_text
from seg.data.read_report import ReadReport
from seg.errors import SegError, first_line
from seg.formats import brush
from seg.formats.record import Picture, Points, Shape, box_of, bridged, corners, ellipse, turned

ToolFormat = Literal["cvat", "label_studio", "labelme", "supervisely", "via", "yolo"]

#: More pixels than Pillow reads.
_MOST_PIXELS = 2**30
_NO_CLASS = "a region without a class"
#: Label Studio's regions whose label is another result.
_UNNAMED = ("bitmask", "brush", "ellipse", "keypoint", "polygon", "rectangle")
_WRONG = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, IndexError, zlib.error)


def read_annotations(kind: ToolFormat, place: Path, found: ReadReport) -> list[Picture]:
    """The pictures of a file, or of all files of a format in a folder; names may be paths of another machine.

    Args:
        kind: the format. place: the file or folder. found: gets a warning for what is left out.

    Raises:
        MissingDataError: there is no file, or there are several but the format has one.
        SegError: a file has another format.
    """
    if place.is_file() and zipfile.is_zipfile(place):
        raise SegError(f"{place}: is a ZIP archive; unpack it and give the folder")
    pattern, reader = READERS[kind]
    files = [place] if place.is_file() else sorted(p for p in place.glob(any_case(pattern)) if p.name[0] != ".")
    if not files or (len(files) > 1 and "/" not in pattern):
        names = ", ".join(file.name for file in files[:4])
        what = f"holds {names}; say which with data.instances=FILE" if files else "export it again, or give data.root="
        raise MissingDataError(f"{place}: {'' if files else f'no {pattern} of {kind}; '}{what}")
    pictures: list[Picture] = []
    for file in files:
        before = len(pictures)
        try:
            for picture in reader(file, found):
                _check(picture)
                pictures.append(picture._replace(source=picture.source or file))
        except (*_WRONG, yaml.YAMLError, OSError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else first_line(error)
            if isinstance(error, TypeError | AttributeError | IndexError):  # Python's words say nothing of the file
                what = "another structure"
            after = f", after {pictures[-1].file}" if len(pictures) > before else ""
            raise SegError(f"{file}: no annotations of {kind} ({what}{after}); correct or export them again") from error
    if not pictures:
        raise MissingDataError(f"{place}: lists no annotated photo that is there{found.why}; give another file")
    return pictures


def _check(picture: Picture) -> None:
    if not isinstance(picture.file, str):
        raise TypeError
    if picture.size and not (min(picture.size) > 0 and picture.size[0] * picture.size[1] < _MOST_PIXELS):
        raise ValueError(f"{picture.file} is of the size {picture.size}")
    if not all(np.isfinite(points).all() for shape in picture.shapes for points in (shape.box or (), *shape.polygons)):
        raise ValueError(f"{picture.file} has a region at NaN or infinity")


def _xy(flat: Sequence[Any]) -> Points:
    return np.asarray(flat, float).reshape(-1, 2)


def _class(*given: Any) -> str:
    """The first of the values that are not empty; of a dictionary (checkboxes) the first key that is on."""
    values = (next(filter(value.get, value), None) if isinstance(value, dict) else value for value in given)
    names = [name for value in values if value is not None and (name := nfc(str(value)).strip())]
    if not names:
        raise ValueError(_NO_CLASS)
    return names[0]


def _polygon(name: str, points: Points) -> Shape:
    return Shape(name, polygons=(points,) if len(points) >= 3 else ())


def _cvat(file: Path, found: ReadReport) -> Iterator[Picture]:
    """CVAT's "CVAT for images 1.1", an XML with all images."""
    root = parse_xml(file)
    if root.tag != "annotations":
        raise ValueError(f"<{root.tag}> where <annotations> was expected")
    if root.find("track") is not None:
        raise ValueError('tracks of a video; choose the export "CVAT for images 1.1"')
    for image in root.iter("image"):
        size, shapes = (int(image.attrib["height"]), int(image.attrib["width"])), []
        for item in image:
            get, name, degrees = item.attrib.get, _class(item.attrib["label"]), float(item.attrib.get("rotation", 0))
            if item.tag == "box":
                box = [float(item.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr")]
                middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                shapes.append(Shape(name, box_of(turned(corners(box), degrees, *middle))))
            elif item.tag == "polygon":
                shapes.append(_polygon(name, _xy(re.split("[,;]", item.attrib["points"]))))
            elif item.tag == "ellipse":
                x, y, wide, high = (float(item.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
                shapes.append(_polygon(name, turned(ellipse(x, y, wide, high), degrees, x, y)))
            elif item.tag == "mask":
                left, top, width, height = (int(get(side, "")) for side in ("left", "top", "width", "height"))
                lengths = [int(text) for text in item.attrib["rle"].split(",")]
                if sum(lengths) != width * height or width * height > size[0] * size[1]:
                    raise ValueError(f"the runs of a mask do not add up to its {width} x {height} pixels")
                mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
                shapes.append(Shape(name, (left, top, left + width, top + height), mask=mask))
            elif item.tag == "tag":
                found.warn("tags of images (not used)", [name])
            else:
                shapes.append(Shape(name))
        yield Picture(image.attrib["name"], size, shapes, subset=image.get("subset", ""))


def _label_studio(file: Path, found: ReadReport) -> Iterator[Picture]:
    """A JSON of tasks. Of several annotations the one marked as ground truth counts, else the first."""
    for task in json.loads(read_text(file)):
        if "data" not in task:
            raise ValueError("no tasks; choose the export JSON, not JSON-MIN")
        data, done = task["data"], [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
        texts = [value for value in (data.get("image"), *data.values()) if isinstance(value, str)]
        if not texts:
            raise ValueError("a task without an image")
        photo = max(texts, key=lambda text: text.lower().endswith(IMAGE_SUFFIXES))  # the first of equal ones
        if not done:
            found.warn("tasks without a submitted annotation (not used)", [photo])
            continue
        found.warn("tasks with several annotations (one is used)", [photo] * (len(done) > 1))
        size, shapes = None, []
        results = max(done, key=lambda one: one.get("ground_truth") is True)["result"]
        named = {item.get("id") for item in results if item["type"].endswith("labels")}
        for item in results:
            kind, value = item["type"], item.get("value", {})
            if not kind.endswith("labels"):
                is_region = kind in _UNNAMED
                if is_region and item.get("id") not in named:
                    raise ValueError(_NO_CLASS)
                found.warn("results that are no regions, such as choices (not used)", [photo] * (not is_region))
                continue
            width, height = int(item["original_width"]), int(item["original_height"])
            size, percent, name = (height, width), np.array([width, height]) / 100, _class(*value.get(kind, ()))
            if "points" in value:
                shapes.append(_polygon(name, _xy(value["points"]) * percent))
            elif "rle" in value:
                shapes.append(Shape(name, (0, 0, width, height), mask=brush.decode(value["rle"], size)))
            elif "imageDataURL" in value:
                mask = _png(base64.b64decode(value["imageDataURL"].partition(",")[2]))
                if mask.shape != size:
                    raise ValueError(f"a bitmask of {mask.shape[1]} x {mask.shape[0]} for {width} x {height} pixels")
                shapes.append(Shape(name, (0, 0, width, height), mask=mask))
            elif "radiusX" in value:
                x, y = _xy([value["x"], value["y"]])[0] * percent
                points = ellipse(x, y, *(np.array([value["radiusX"], value["radiusY"]]) * percent))
                shapes.append(_polygon(name, turned(points, value.get("rotation") or 0, x, y)))
            elif "height" in value:
                x, y, wide, high = (_xy([value[key] for key in ("x", "y", "width", "height")]) * percent).ravel()
                box = corners((x, y, x + wide, y + high))
                shapes.append(Shape(name, box_of(turned(box, value.get("rotation") or 0, x, y))))
            else:
                shapes.append(Shape(name))
        yield Picture(photo, size, shapes)


def _labelme(file: Path, found: ReadReport) -> Iterator[Picture]:
    """A JSON beside each photo."""
    content, shapes = json.loads(read_text(file)), []
    photo = Path(os.path.normpath(file.parent / content["imagePath"].replace("\\", "/")))
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (int(height), int(width)) if height and width else image_size(photo)
    found.warn("flags of images (not used)", [flag for flag, is_set in (content.get("flags") or {}).items() if is_set])
    for item in content["shapes"]:
        name, kind, points = _class(item["label"]), item.get("shape_type") or "polygon", _xy(item["points"])
        if kind == "polygon":
            shapes.append(_polygon(name, points))
        elif kind == "rectangle":
            shapes.append(Shape(name, box_of(points)))
        elif kind == "circle":
            (x, y), radius = points[0], float(np.hypot(*(points[1] - points[0])))
            shapes.append(_polygon(name, ellipse(x, y, radius, radius)))
        elif kind == "mask":
            shapes.append(Shape(name, box_of(points), mask=_png(base64.b64decode(item["mask"]))))
        else:
            shapes.append(Shape(name))
    yield Picture(str(photo), size, shapes)


def _png(content: bytes) -> npt.NDArray[np.bool_]:
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            values = np.asarray(image)
    except Exception as error:  # Pillow raises many
        raise ValueError(f"a mask that is no whole PNG ({first_line(error)})") from error
    return (values[..., -1] if values.ndim == 3 else values) > 0  # alpha of a colour image


def _supervisely(file: Path, found: ReadReport) -> Iterator[Picture]:
    """``<data set>/ann/<photo>.json`` for ``<data set>/img/<photo>``."""
    content = json.loads(read_text(file))
    size, shapes = (int(content["size"]["height"]), int(content["size"]["width"])), []
    found.warn("tags of images (not used)", [file.stem] * len(content.get("tags") or ()))
    for item in content["objects"]:
        name, kind = _class(item["classTitle"]), item["geometryType"]
        if kind == "bitmap":
            mask = _png(zlib.decompress(base64.b64decode(item["bitmap"]["data"])))
            left, top = item["bitmap"]["origin"]
            shapes.append(Shape(name, (left, top, left + mask.shape[1], top + mask.shape[0]), mask=mask))
        elif kind == "rectangle":
            shapes.append(Shape(name, box_of(_xy(item["points"]["exterior"]))))
        elif kind == "polygon":
            rings = [_xy(item["points"]["exterior"]), *map(_xy, item["points"].get("interior", ()))]
            shapes.append(_polygon(name, bridged(rings)))
        else:
            shapes.append(Shape(name))
    yield Picture(str(file.parent.parent / "img" / file.stem), size, shapes)


def _via(file: Path, found: ReadReport) -> Iterator[Picture]:
    """A project of VIA 1 or 2, or its annotations as JSON. The class is the first attribute of a region that has a
    value; where no region has attributes, all are of one class."""
    content = json.loads(read_text(file))
    images = [*content.get("_via_img_metadata", content).values()]
    of_images = [image["regions"] for image in images]
    of_images = [[*regions.values()] if isinstance(regions, dict) else regions for regions in of_images]
    is_single = not any(region["region_attributes"] for regions in of_images for region in regions)
    found.warn("files whose regions have no attributes (class object)", [file.name] * (is_single and any(of_images)))
    for image, regions in zip(images, of_images, strict=True):
        shapes = []
        for region in regions:
            at = region["shape_attributes"]
            name = "object" if is_single else _class(*region["region_attributes"].values())
            if at["name"] == "polygon":
                shapes.append(_polygon(name, np.stack([at["all_points_x"], at["all_points_y"]], 1).astype(float)))
            elif at["name"] == "rect":
                shapes.append(Shape(name, (at["x"], at["y"], at["x"] + at["width"], at["y"] + at["height"])))
            elif at["name"] in ("circle", "ellipse"):
                radii = at.get("r", at.get("rx")), at.get("r", at.get("ry"))
                points = turned(ellipse(at["cx"], at["cy"], *radii), np.rad2deg(at.get("theta", 0)), at["cx"], at["cy"])
                shapes.append(_polygon(name, points))
            else:
                shapes.append(Shape(name))
        yield Picture(image["filename"], None, shapes)


def _yolo(file: Path, found: ReadReport) -> Iterator[Picture]:
    """Ultralytics' ``data.yaml``: for ``images/a.jpg`` lines ``class x y width height``, of the middle, or ``class x y
    x y x y ...`` in ``labels/a.txt``, as shares of the sides."""
    content = yaml.safe_load(read_text(file))
    if "kpt_shape" in content:
        raise ValueError("its labels have keypoints, not outlines")
    names = content["names"] if isinstance(content["names"], dict) else dict(enumerate(content["names"]))
    names = {int(number): name for number, name in names.items()}
    base = file.parent / str(content.get("path") or "")
    base = (base if base.is_dir() else file.parent).absolute()  # its path may be of another machine
    done, has_labels, label = set[Path](), False, None
    for subset in ("train", "val", "test"):
        places = content.get(subset) or ()
        for place in [places] if isinstance(places, str) else places:
            there = base / place if (base / place).exists() else base / re.sub(r"^(\.\./)+", "", place)
            if there in done:  # val, which must be given, is train where nobody has made a split
                found.warn("places that several splits name (of the first)", [place])
                continue
            done.add(there)
            if not there.exists():
                found.warn("places of splits that are not there (not used)", [f"{subset}: {place}"])
            for photo in _yolo_photos(there, base):
                head, images, tail = str(photo.with_suffix(".txt")).rpartition(f"{os.sep}images{os.sep}")
                label = Path(f"{head}{os.sep}labels{os.sep}{tail}" if images else tail)
                lines = read_text(label).splitlines() if label.is_file() else []
                has_labels |= label.is_file()
                size = image_size(photo) if lines else None
                filled = ((f"{label.name} line {i}", line) for i, line in enumerate(lines, 1) if line.strip())
                shapes = [_yolo_shape(where, line, names, size) for where, line in filled]
                yield Picture(str(photo), size, shapes, subset=subset, source=label if lines else None)
    if label and not has_labels:
        found.problems.append(f"{label}: no such file, nor that of another photo; put labels beside images")


def _yolo_photos(there: Path, base: Path) -> Iterator[Path]:
    """The photos in a folder, or those that a list names: relative to itself or to the data, or by paths of another
    machine, whose last parts are found in the data."""
    if there.is_dir():
        yield from (p for p in sorted(there.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES)
        return
    for line in map(str.strip, read_text(there).split("\n") if there.is_file() else []):
        parts = PurePosixPath(line.replace("\\", "/")).parts
        if PurePosixPath(line).suffix.lower() in IMAGE_SUFFIXES:
            places = (root.joinpath(*parts[i:]) for i in range(len(parts)) for root in (there.parent, base))
            if (photo := next(filter(Path.is_file, places), None)) is None:
                raise ValueError(f"{there.name} names {line}, which is not there")
            yield photo


def _yolo_shape(where: str, line: str, names: dict[int, str], size: tuple[int, int] | None) -> Shape:
    try:
        number, *numbers = map(float, line.split())
        name, shares = _class(names[int(number)]), _xy(numbers) * (size or (1, 1))[::-1]
    except (ValueError, KeyError):
        raise ValueError(f"{where} is not the number of a class and pairs of x and y: {line[:60]!r}") from None
    if len(shares) == 2:
        middle, sides = shares
        return Shape(name, box_of(np.array([middle - sides / 2, middle + sides / 2])))
    if len(shares) < 3:
        raise ValueError(f"{where} is neither a box nor a polygon")
    return _polygon(name, shares)


#: By format: its files below the data's root, in any case, of which there is one if the pattern has no folder; and the
#: reader of a file.
READERS: dict[str, tuple[str, Callable[[Path, ReadReport], Iterator[Picture]]]] = {
    "cvat": ("*.xml", _cvat),
    "label_studio": ("*.json", _label_studio),
    "labelme": ("**/*.json", _labelme),
    "supervisely": ("**/ann/*.json", _supervisely),
    "via": ("*.json", _via),
    "yolo": ("*.y*ml", _yolo),
}
