"""Export of masks: PNG, and formats of annotation tools."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from seg.data.dataset import UNKNOWN
from seg.errors import SegError
from seg.files import write_lines
from seg.formats import brush
from seg.formats.record import Picture, Points, bridged, full_mask, outline
from seg.methods.codes import voc_palette

_logger = logging.getLogger(__name__)

PNGKind = Literal["png255", "png01", "palette"]
Format = Literal[PNGKind, "coco", "cvat", "voc", "yolo", "labelme", "label_studio"]

#: Formats with just a PNG for each image.
MASKS = get_args(PNGKind)
#: Formats with classes.
WITH_CLASSES = tuple(kind for kind in get_args(Format) if kind not in ("png255", "png01"))
#: Formats with a score for each region.
WITH_SCORES = ("coco", "label_studio")
#: Formats with outlines, which a tolerance simplifies.
OUTLINES = ("coco", "yolo", "labelme", "label_studio")


def check_format(value: Any, classes: int = 1, tolerance: float = 0.0, min_area: int = 0, key: str = "export.") -> None:
    """Raise SegError for a format without classes for masks with classes, or for settings that the format does not use.

    ``value``: the format, or None. ``key``: prefix of the settings' names in messages.
    """
    allowed = get_args(Format) if classes == 1 else WITH_CLASSES
    if value is not None and value not in allowed:
        raise SegError(f"{key}format={value}: must be one of {', '.join(allowed)} for these masks")
    if not 0 <= tolerance < float("inf"):
        raise SegError(f"{key}tolerance={tolerance}: must be at least 0, in pixels; 0 leaves outlines as they are")
    if min_area < 0:
        raise SegError(f"{key}min_area={min_area}: must be at least 0, in pixels")
    if tolerance and value not in OUTLINES:
        raise SegError(f"{key}tolerance={tolerance:g}: simplifies outlines; give {key}format, {' or '.join(OUTLINES)}")
    if min_area and value is None:
        raise SegError(f"{key}min_area={min_area}: drops regions of exported masks; give {key}format")


def save_mask(path: Path, mask: npt.NDArray[np.uint8], kind: str, **options: Any) -> None:
    """Write a mask ``uint8 (H, W)`` of 0, ``1 + class`` and 255 (ignored) as PNG.

    ``png255`` has 255 for foreground and 128 for ignored; ``png01`` and ``palette`` keep the codes. ``options`` are
    Pillow's.
    """
    image = Image.fromarray(mask)
    if kind == "png255":
        image = image.point([0, 255, *[0] * 253, 128])
    if kind == "palette":
        image = image.convert("P")
        image.putpalette(voc_palette().ravel().tolist())
    image.save(path, format="PNG", **options)


def write_classes(path: Path, names: Sequence[str]) -> None:
    """Write ``classes.txt``: for every code of the PNG a line with the code and its name."""
    lines = [f"{code} {' '.join(name.splitlines())}" for code, name in enumerate(names)]
    write_lines(path, [*lines, "255 ignored"])


def write(
    kind: Format,
    folder: Path,
    names: Sequence[str],
    pictures: Iterable[Picture],
    tolerance: float = 0.0,
    photos: str = "photos",
) -> None:
    """Write pictures for a tool; existing files are replaced.

    Args:
        kind: see ``docs/outputs.md``. folder: is created.
        names: by code, ``background`` first.
        pictures: with codes, and with shapes for all formats but PNG; an iterator is consumed one by one.
        tolerance: of outlines, in pixels; with 0 they are exact, and COCO and Label Studio get RLE instead.
        photos: name of the folder that the pictures' files are in; Label Studio's paths begin with it.

    Of photos that differ in their suffix alone, the formats with a file per photo get the first, with a warning.

    Raises:
        SegError: too many classes for the codes of an image, or an image's name with ``..`` or an absolute path.
    """
    if kind in ("palette", "cvat", "voc") and len(names) > UNKNOWN:
        raise SegError(f"format={kind}: {len(names) - 1} classes, and it has room for {UNKNOWN - 1}")
    if kind == "cvat" and (wrong := [name for name in names if ":" in name]):
        raise SegError(f"format=cvat: {wrong[0]!r} has a colon, which its labelmap.txt cannot hold; rename the class")
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "label_studio":
        pictures = (picture._replace(file=f"{photos}/{picture.file}") for picture in pictures)
    elif kind != "coco":
        pictures = _of_own_files(kind, pictures)
    FORMATS[kind](folder, names, pictures, tolerance)


def _of_own_files(kind: Format, pictures: Iterable[Picture]) -> Iterator[Picture]:
    files: dict[PurePosixPath, str] = {}
    for picture in pictures:
        first = files.setdefault(PurePosixPath(picture.file).with_suffix(""), picture.file)
        if first == picture.file:
            yield picture
        else:
            _logger.warning(
                "format=%s: %s would get the file of %s, and is left out; rename it", kind, picture.file, first
            )


def _place(folder: Path, file: str, suffix: str) -> Path:
    """The file for a photo; its folder is created."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\0" in file or not path.name:
        raise SegError(f"{file[:200]!r}: an image's name that leads out of {folder}; rename the image")
    place = folder / path.with_suffix(suffix)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _codes(picture: Picture) -> npt.NDArray[np.uint8]:
    if picture.codes is None:
        raise ValueError("a mask's picture has codes")
    return picture.codes


def _png(folder: Path, names: Sequence[str], pictures: Iterable[Picture], tolerance: float, kind: PNGKind) -> None:
    if kind == "palette":
        write_classes(folder / "classes.txt", names)
    for picture in pictures:
        save_mask(_place(folder, picture.file, ".png"), _codes(picture), kind)


def _voc(folder: Path, names: Sequence[str], pictures: Iterable[Picture], tolerance: float) -> None:
    _voc_masks(folder, pictures, UNKNOWN, "train.txt")
    write_lines(folder / "classes.txt", names)


def _cvat(folder: Path, names: Sequence[str], pictures: Iterable[Picture], tolerance: float) -> None:
    """VOC's layout with ``labelmap.txt``. CVAT has no code for undecided pixels; they become background."""
    _voc_masks(folder, pictures, 0, "default.txt")
    colours = voc_palette().tolist()
    rows = [f"{name}:{','.join(map(str, colours[code]))}::" for code, name in enumerate(names)]
    write_lines(folder / "labelmap.txt", ["# label:color_rgb:parts:actions", *rows])


def _voc_masks(folder: Path, pictures: Iterable[Picture], unknown: int, list_file: str) -> None:
    """Write the masks of classes and of objects, with a code for undecided pixels, and the list of the images."""
    listed = []
    for picture in pictures:
        codes, objects = _codes(picture), np.zeros_like(_codes(picture))
        is_unknown = codes == UNKNOWN
        for number, shape in enumerate(picture.shapes):
            objects[full_mask(shape, codes.shape)] = 1 + number % 253
        for part, mask in (("SegmentationClass", codes), ("SegmentationObject", objects)):
            path = _place(folder / part, picture.file, ".png")
            save_mask(path, np.where(is_unknown, np.uint8(unknown), mask), "palette")
        listed.append(PurePosixPath(picture.file).with_suffix("").as_posix())
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    write_lines(lists / list_file, listed)


def _coco(folder: Path, names: Sequence[str], pictures: Iterable[Picture], tolerance: float) -> None:
    """A JSON of instances as RLE; with a tolerance as polygons, except regions with holes."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for picture in pictures:
        size = height, width = picture.size or (0, 0)
        images.append({"id": len(images) + 1, "file_name": picture.file, "height": height, "width": width})
        for shape in picture.shapes:
            rle = coco_mask.encode(np.asfortranarray(full_mask(shape, size), dtype=np.uint8))
            one: dict[str, Any] = {"id": len(annotations) + 1, "image_id": len(images), "iscrowd": 0}
            one |= {"category_id": names.index(shape.class_name), "area": int(coco_mask.area(rle))}
            one |= {"bbox": coco_mask.toBbox(rle).tolist()}
            one |= {} if shape.score is None else {"score": round(shape.score, 4)}
            rings = outline(shape, tolerance) if tolerance else []
            runs = rle | {"counts": rle["counts"].decode()}
            annotations.append(one | {"segmentation": [_flat(rings[0])] if len(rings) == 1 else runs})
    document: dict[str, Any] = {"info": {"description": "weakseg"}, "images": images, "annotations": annotations}
    document["categories"] = [{"id": code, "name": name} for code, name in enumerate(names) if code]
    (folder / "annotations").mkdir(exist_ok=True)
    write_lines(folder / "annotations/instances_default.json", [json.dumps(document)])


def _flat(ring: Points) -> list[float]:
    return np.round(ring, 2).ravel().tolist()


def _polygons(picture: Picture, tolerance: float) -> Iterator[tuple[str, Points, float | None]]:
    """For each region the class, one polygon with its holes, and the score."""
    for shape in picture.shapes:
        yield shape.class_name, bridged(outline(shape, tolerance)), shape.score


def _yolo(folder: Path, names: Sequence[str], pictures: Iterable[Picture], tolerance: float) -> None:
    """Ultralytics' segmentation: a text file per image in ``labels/``; the photos belong into ``images/``."""
    for picture in pictures:
        sides, lines = (picture.size or (1, 1))[::-1], []
        for name, ring, _ in _polygons(picture, tolerance):
            shares = " ".join(f"{share:.6g}" for share in (ring / sides).ravel())
            lines.append(f"{names.index(name) - 1} {shares}")
        write_lines(_place(folder / "labels", picture.file, ".txt"), lines)
    listed = [f"  {code}: {json.dumps(name)}" for code, name in enumerate(names[1:])]
    write_lines(folder / "data.yaml", ["train: images", "val: images", "names:", *listed])


def _labelme(folder: Path, names: Sequence[str], pictures: Iterable[Picture], tolerance: float) -> None:
    """A JSON per image, which belongs beside its photo."""
    for picture in pictures:
        height, width = picture.size or (0, 0)
        shapes: list[dict[str, Any]] = [
            {"label": name, "points": np.round(ring, 2).tolist(), "group_id": None, "shape_type": "polygon"}
            | {"description": "" if score is None else f"score {score:.2f}", "flags": {}}
            for name, ring, score in _polygons(picture, tolerance)
        ]
        document: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": PurePosixPath(picture.file).name,
        }
        document |= {"imageData": None, "imageHeight": height, "imageWidth": width}
        write_lines(_place(folder, picture.file, ".json"), [json.dumps(document)])


def _label_studio(folder: Path, names: Sequence[str], pictures: Iterable[Picture], tolerance: float) -> None:
    """Tasks with predictions (brush strokes, or polygons with a tolerance) and the labelling interface."""
    tasks = []
    for picture in pictures:
        size = height, width = picture.size or (0, 0)
        results = []
        for number, shape in enumerate(picture.shapes):
            if tolerance:
                points = bridged(outline(shape, tolerance)) / (width, height) * 100
                kind, value = "polygon", {"points": np.round(points, 5).tolist(), "closed": True}
            else:
                kind, value = "brush", {"format": "rle", "rle": brush.encode(full_mask(shape, size))}
            one: dict[str, Any] = {"id": f"r{number}", "type": f"{kind}labels", "from_name": kind, "to_name": "image"}
            one |= {"original_width": width, "original_height": height, "image_rotation": 0}
            one |= {} if shape.score is None else {"score": round(shape.score, 4)}
            results.append(one | {"value": value | {f"{kind}labels": [shape.class_name]}})
        prediction: dict[str, Any] = {"model_version": "weakseg", "result": results}
        scores = [shape.score for shape in picture.shapes if shape.score is not None]
        prediction |= {"score": round(sum(scores) / len(scores), 4)} if scores else {}
        tasks.append({"data": {"image": f"/data/local-files/?d={quote(picture.file)}"}, "predictions": [prediction]})
    write_lines(folder / "tasks.json", [json.dumps(tasks)])
    kind = "Polygon" if tolerance else "Brush"
    head = [
        "<View>",
        '  <Image name="image" value="$image"/>',
        f'  <{kind}Labels name="{kind.lower()}" toName="image">',
    ]
    labels = [f"    <Label value={quoteattr(name)}/>" for name in names[1:]]
    write_lines(folder / "interface.xml", [*head, *labels, f"  </{kind}Labels>", "</View>"])


#: Writer by format: a function of folder, names by code, pictures and tolerance.
FORMATS: Mapping[Format, Callable[[Path, Sequence[str], Iterable[Picture], float], None]] = {
    **{kind: partial(_png, kind=kind) for kind in MASKS},
    "coco": _coco,
    "cvat": _cvat,
    "voc": _voc,
    "yolo": _yolo,
    "labelme": _labelme,
    "label_studio": _label_studio,
}
