"""``data=coco``: photos with COCO's instances JSON, whose outlines are the ground truth."""

import os
import re
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast
from unicodedata import normalize
from urllib.parse import unquote

import numpy as np
from PIL import Image

from seg.data.boxes import TOLERANCE, fit_box
from seg.data.coco_file import Annotation, CocoFile, Id, read_coco, run_lengths
from seg.data.dataset import UNKNOWN, Box, Dataset, Record, Region, Split
from seg.data.decode import draw_regions, exif_orientation, image_size
from seg.data.draw import draw_by_labels
from seg.data.folder_layout import image_ids
from seg.data.layout import IMAGE_SUFFIXES, MissingDataError, content_fingerprint, scan
from seg.data.read_report import ReadReport
from seg.data.sources import InPlace, require_few
from seg.errors import SegError
from seg.store import Products, param

_OTHER_SIZE = "of another size than their JSON says (labels used alone)"


class Coco(InPlace):
    """Photos and an instances JSON: the layout of COCO, and of the tools that export it.

    Classes are the categories in the order of their ids. An image's labels are those of its objects, crowds left out.
    The ground truth is drawn from the outlines; crowds are unknown. An image with an object that has no outline has
    none.

    Attributes:
        root: what the other paths are relative to.
        photos: folder of the photos; null: ``val2017`` or ``images/val2017`` for ``instances_val2017.json``, beside
            the JSON in Roboflow's layout, else ``images``, else ``root``.
        instances: the JSON; null: the only ``annotations/instances_*.json`` or ``instances_*.json`` (of train and val
            the first, the second being of test), ``train/_annotations.coco.json`` and that in ``valid`` (Roboflow),
            else the only JSON in ``annotations`` or ``root``.
        test_photos: folder of the test images; null: as for ``photos``, else ``photos``.
        test_instances: their JSON; null: a share is drawn.
        classes: names of categories to keep, null for all. What is of another one is background.
        test_share: without a JSON of test images, the share that becomes test.
        split_seed: of that draw.
        title: what the first line of a run calls it.
    """

    what: ClassVar[str] = "photos with COCO's instances, read in place"
    boxes_of: ClassVar[str] = "boxes"
    boxes_hint: ClassVar[str] = "give instances with bbox"
    licence: ClassVar[str] = "of each photo, as the licenses of its JSON say"

    root: str | None = param(default=None, key=False)
    photos: str | None = param(default=None, key=False)
    instances: str | None = param(default=None, key=False)
    test_photos: str | None = param(default=None, key=False)
    test_instances: str | None = param(default=None, key=False)
    classes: tuple[str, ...] | None = param(default=None)
    test_share: float = param(default=0.2, low=0, below=1)
    split_seed: int = param(default=0, low=0)
    title: str = param(default="coco", key=False)

    def detail(self, store: Products) -> str:
        """What was found, and where; a mask that is unknown all over is not counted."""
        dataset: Dataset = store.get(self)
        records, files = dataset.records, [part.file.path for part in self.parts]
        drawn = [r.regions for r in records if r.regions is not None]
        masks = sum(not own or any(region.code != UNKNOWN for region in own) for own in drawn)
        classes = f"{len(dataset.classes)} class{'es' if len(dataset.classes) > 1 else ''}"
        how = f"in {files[1]}" if len(files) > 1 else f"drawn (test_share={self.test_share:g})"
        found = f"masks for {masks}, boxes for {sum(bool(r.boxes) for r in records)}, test images {how}"
        return f": {len(records)} images of {classes} in {files[0]}, {found}"

    @cached_property
    def parts(self) -> list["Part"]:
        """The JSONs with their photos: of trainval, and of test where there is one.

        Raises:
            MissingDataError: no such folder or JSON, or photos that are listed are not there.
            SegError: a JSON is none.
        """
        if self.root is None:
            raise SegError("data=coco: give data.root=DIR, the folder that holds the photos and the instances JSON")
        root = Path(self.root)
        if not root.is_dir():
            raise MissingDataError(f"data.root={root}: no such folder; give the one of the photos and the JSON")
        for key, said in (("instances", self.instances), ("test_instances", self.test_instances)):
            if said is not None and not (root / said).is_file():
                raise SegError(f"data.{key}={said}: no such file in {root}; give a COCO JSON")
        test = root / self.test_instances if self.test_instances else None
        file, test = (root / self.instances, test) if self.instances else _find_files(root, test)
        parts = [_part("trainval", root, file, self.photos, "photos")]
        if not parts[0].file.annotations:
            raise SegError(f"{file}: lists no annotation; give the JSON of the instances")
        return [*parts, _part("test", root, test, self.test_photos or self.photos, "test_photos")] if test else parts

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """Of the JSONs and the photos that they list."""
        content = [(f"{part.split}.json", part.file.path) for part in self.parts]
        content += [(f"{part.split}/{name}", part.folder / name) for part in self.parts for name in part.names.values()]
        return content_fingerprint(str(Path(self.root or "").resolve()), content, cache, write=write)

    def params(self) -> dict[str, Any]:
        """The content, and how it is understood; what plays no part is left out."""
        out = super().params()
        if self.classes is not None:
            out["classes"] = sorted(set(self.classes))
        if len(self.parts) == 1:
            out["test_share"] = self.test_share
            if self.test_share > 0:
                out["split_seed"] = self.split_seed
        return out

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the JSONs, and the sizes of the photos that have objects."""
        found, parts = ReadReport(), self.parts
        names = _class_names([part.file for part in parts], self.classes, found)
        photos = _gather(parts, {category: label for label, category in enumerate(names)}, found)
        folder = Path(os.path.commonpath([part.folder for part in parts]))
        called = {path: path.relative_to(folder).as_posix() for path in photos}
        ids = image_ids(called.values())
        fits = _fits(photos)
        records = [_record(ids[called[p]], p, photo, fits.get(p, Fit()), found) for p, photo in photos.items()]
        found.stop_if_any(Path(self.root or ""))
        if not any(record.boxes for record in records):
            why = "".join(f"; {sentence}: {count}" for sentence, count in found.warnings.items())
            raise SegError(f"{parts[0].file.path}: not one object that it lists can be used{why}")
        if len(parts) == 1:
            labels = {called[record.image]: record.labels for record in records}
            drawn = draw_by_labels(labels, self.test_share, self.split_seed)
            records = [replace(r, split="test") if called[r.image] in drawn else r for r in records]
        if not any(record.regions for record in records):
            records = [replace(record, regions=None) for record in records]
        records.sort(key=lambda record: record.split == "test")
        trained = {label for record in records if record.split == "trainval" for label in record.labels}
        found.warn("classes without a trainval image", (n for i, n in enumerate(names.values()) if i not in trained))
        return Dataset(tuple(names.values()), tuple(records), found.warnings, found.examples, folder)


class Part(NamedTuple):
    """A JSON, the absolute folder of its photos, and by image id their names below that folder."""

    split: Split
    file: CocoFile
    folder: Path
    names: dict[Id, str]


class Photo(NamedTuple):
    """What is listed of a photo: its annotations with their labels."""

    split: Split
    size: tuple[int, int] | None
    annotations: list[tuple[Annotation, int]]


def _class_names(files: list[CocoFile], chosen: tuple[str, ...] | None, found: ReadReport) -> dict[Id, str]:
    """Names of the classes by their categories' ids, of those categories that are classes."""
    first = files[0]
    names = {i: name for i, (name, _) in first.categories.items()}
    for file in files:
        if not file.categories:
            raise SegError(f"{file.path}: no categories, so nothing says what its objects are; add them")
        if differ := {i: name for i, (name, _) in file.categories.items()}.items() ^ names.items():
            shown = ", ".join(f"{i} {name!r}" for i, name in sorted(differ, key=str)[:4])
            raise SegError(f"{first.path} and {file.path}: other categories ({shown}); make them equal")
    used = {one.category for file in files for one in file.annotations if isinstance(one, Annotation)}
    parents = {parent for name, parent in first.categories.values() if parent not in ("", "none", name)}
    taken = {name: i for i, name in names.items() if i in used}
    for i, name in [*names.items()]:
        other = taken.setdefault(name, i)
        if i in used and other != i:
            raise SegError(
                f"{first.path}: two categories, {i} and {other}, are called {name!r}, and both have annotations; "
                "rename one, or give their annotations one category_id"
            )
        # Roboflow's root has id 0, and is the supercategory of the others where that is written.
        is_root = name in parents or (i == 0 and not parents and bool(used))
        if i not in used and (other != i or is_root):
            what = "that are a group of others (no class)" if other == i else "of the name of another (merged with it)"
            found.warn(f"categories without annotations {what}", [f"{i} {name!r}"])
            del names[i]
    if chosen is not None:
        if unknown := [name for name in chosen if name not in names.values()]:
            raise SegError(
                f"data.classes: {', '.join(map(repr, unknown[:4]))} is no category of {first.path}; "
                f"there are {', '.join([*names.values()][:8])}{', ...' if len(names) > 8 else ''}"
            )
        names = {i: name for i, name in names.items() if name in chosen}
    require_few(len(names), f"{first.path}", "choose some with data.classes=[...]")
    return names


def _gather(parts: list[Part], label_of: dict[Id, int], found: ReadReport) -> dict[Path, Photo]:
    """What the JSONs list, by photo; one that two of them list is of the later split."""
    photos: dict[Path, Photo] = {}
    for part in parts:
        own: set[Path] = set()
        for i, name in part.names.items():
            path = part.folder / name
            if path in own:
                found.warn("images listed twice (their annotations are put together)", [name])
                continue
            if path in photos:
                found.warn("images listed in both splits (kept in test only)", [name])
            photos[path] = Photo(part.split, part.file.images[i].size, [])
            own.add(path)
        used: set[tuple[Any, ...]] = set()
        for one in part.file.annotations:
            if isinstance(one, SegError):
                found.problems.append(str(one))
            elif one.image not in part.names:
                found.warn("annotations of images that are not listed (not used)", [f"image {one.image}"])
            elif one.category not in part.file.categories:
                found.problems.append(f"{one.where}: category_id {one.category} is none of the file's categories")
            elif one.category in label_of:
                path, same = part.folder / part.names[one.image], len(used)
                used.add((path, *one._replace(where="")))
                if len(used) == same:
                    found.warn("annotations that repeat another (used once)", [part.names[one.image]])
                else:
                    photos[path].annotations.append((one, label_of[one.category]))
        if part.file.crowds_only:
            what = "files whose every annotation has iscrowd 1, as tools write it with RLE (taken for objects)"
            found.warn(what, [part.file.path.name])
    for folder in {part.folder: None for part in parts}:
        there = [e for e in scan(folder) if e.name.lower().endswith(IMAGE_SUFFIXES) and e.name[0] != "."]
        found.warn("photos that no JSON lists (not used)", (e.name for e in there if folder / e.name not in photos))
    return photos


def _record(name: str, path: Path, photo: Photo, fit: "Fit", found: ReadReport) -> Record:
    """Bring a photo's annotations into this program's form; what is wrong with them goes to ``found``."""
    labels = tuple(sorted({label for one, label in photo.annotations if not one.is_crowd}))
    record = Record(name, path, labels, photo.split, codes="classes")
    if not photo.annotations:
        found.warn("images without an object (background alone)", [name])
        return replace(record, regions=())
    if {label for _, label in photo.annotations} - {*labels}:
        found.warn("images with a class that is a crowd alone (no label of theirs)", [name])
    size, annotations = fit.size, photo.annotations
    if size and not fit.upright and not fit.stored:
        what = "turned by their EXIF orientation that their annotations do not fit (labels alone)"
        found.warn(f"images {what if fit.orientation > 1 else _OTHER_SIZE}", [name])
        return record
    if size and not fit.upright:
        annotations = [(_turned(one, size[::-1], fit.orientation), label) for one, label in annotations]
        found.warn("images whose annotations were turned along with their EXIF orientation", [name])
    elif fit.orientation > 1:
        found.warn("images whose JSON has their sides before EXIF and their annotations after it", [name])
    boxes: list[tuple[Box, int]] = []
    regions: list[Region] | None = []
    for one, label in annotations:
        with found.gathering(one.where):
            if not one.is_crowd:
                box = one.box
                if size and one.box == one.extent:  # cut as the outline is
                    box = cast(Box, tuple(np.clip(box, 0, (*size[::-1], *size[::-1])).tolist()))
                if box[0] == box[2] or box[1] == box[3]:
                    found.warn("empty boxes (not used)", [name])
                else:
                    boxes.append((fit_box(box, size, one.where), label))
            found.warn("polygons of one point or two (not drawn)", [name] * one.lines)
            if one.extent is None:
                regions = None
                continue
            if one.runs_size and size and one.runs_size != size:
                sides = "{1} x {0}".format
                raise SegError(f"its RLE is of an image of {sides(*one.runs_size)}, and it has {sides(*size)}")
            x, y, right, low = one.extent
            found.warn("crowd regions (unknown)", [name] * one.is_crowd)
            found.warn("objects of less than a pixel", [name] * ((right - x) * (low - y) < 1))
            if size and max(-x, -y, right - size[1], low - size[0]) > TOLERANCE:
                found.warn("outlines that stick out of their image (cut)", [name])
            if regions is not None:
                regions.append(Region(UNKNOWN if one.is_crowd else 1 + label, one.polygons, one.runs))
    if regions is None:
        found.warn("images with an object without an outline (no ground truth)", [name])
    return replace(
        record,
        boxes=tuple(box for box, _ in boxes),
        box_labels=tuple(label for _, label in boxes) if len(labels) > 1 else (),
        regions=None if regions is None else tuple(regions),
    )


class Fit(NamedTuple):
    """How a photo's annotations fit in it.

    Attributes:
        size: of the upright photo, ``(height, width)``; None where it cannot be read.
        orientation: its EXIF orientation if that swaps the sides that the JSON has, else 1.
        upright, stored: whether the annotations fit in the image after and before EXIF.
    """

    size: tuple[int, int] | None = None
    orientation: int = 1
    upright: bool = True
    stored: bool = False


def _fits(photos: dict[Path, Photo]) -> dict[Path, Fit]:
    """Of each photo with annotations; those of one JSON that fit both before and after EXIF go with the others."""
    fits = {path: _fit(path, photo) for path, photo in photos.items() if photo.annotations}
    alone = Counter((photos[path].split, fit.upright) for path, fit in fits.items() if fit.upright != fit.stored)
    for path, fit in fits.items():
        split = photos[path].split
        if fit.upright and fit.stored:
            fits[path] = fit._replace(upright=alone[split, True] >= alone[split, False])
    return fits


def _fit(path: Path, photo: Photo) -> Fit:
    size = None
    with suppress(SegError):  # an image that is none is named and counted when it is decoded
        size = image_size(path)
    if size is None or photo.size in (size, None):
        return Fit(size)
    orientation = exif_orientation(path)
    if photo.size != size[::-1] or orientation not in (5, 6, 7, 8):
        return Fit(size, upright=False)
    right, low = (max(one.box[i] for one, _ in photo.annotations) - TOLERANCE for i in (2, 3))
    sizes = {one.runs_size for one, _ in photo.annotations} - {None}
    return Fit(
        size,
        orientation,
        upright=right <= size[1] and low <= size[0] and sizes <= {size},
        stored=right <= size[0] and low <= size[1] and sizes <= {size[::-1]},
    )


def _turned(one: Annotation, stored: tuple[int, int], orientation: int) -> Annotation:
    """An annotation of a photo stored as ``(height, width)`` as the EXIF orientations 5 to 8 turn it."""
    x, y, right, low = one.box
    region = Region(1, one.polygons or ((x, y, right, y, right, low, x, low),), one.runs)
    mask = draw_regions([region], stored).T
    mask = mask[:, ::-1] if orientation in (6, 7) else mask
    mask = mask[::-1] if orientation in (7, 8) else mask
    box = Image.fromarray(np.ascontiguousarray(mask)).getbbox() or (0, 0, 0, 0)
    if one.extent is None:
        return one._replace(box=box)
    return one._replace(box=box, extent=box, polygons=(), runs=run_lengths(mask), runs_size=stored[::-1])


def _find_files(root: Path, test: Path | None) -> tuple[Path, Path | None]:
    for patterns in (
        ("annotations/instances_*.json", "instances_*.json"),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
        ("annotations/*.json", "*.json"),
    ):
        there = sorted(path for pattern in patterns for path in root.glob(pattern) if path.name[0] != ".")
        there = [path for path in there if test is None or path.resolve() != test.resolve()]
        if len(there) == 1:
            return there[0], test
        splits = [path.stem.removeprefix("instances_").rstrip("0123456789") for path in there]
        if test is None and (splits == ["train", "val"] or [p.parent.name for p in there] == ["train", "valid"]):
            return there[0], there[1]
        if there:
            break
    names = ", ".join(path.relative_to(root).as_posix() for path in there[:4])
    what = f"holds {names}; say which with" if there else "no annotations/instances_*.json; give the JSON with"
    raise MissingDataError(f"data.root={root}: {what} data.instances=FILE (and data.test_instances=FILE)")


def _part(split: Split, root: Path, instances: Path, photos: str | None, key: str) -> Part:
    file, stem = read_coco(instances), instances.stem.removeprefix("instances_")
    usual = [root / stem, root / "images" / stem, root / "images", root]
    usual = [instances.parent] if stem == "_annotations.coco" else usual
    folder = root / photos if photos else next(place for place in usual if place.is_dir())
    if not folder.is_dir():
        raise MissingDataError(f"data.{key}={photos}: no such folder in {root}; give the one of the photos")
    folder = Path(os.path.abspath(folder))
    places: dict[str, list[str]] = defaultdict(list)  # by plain file name, once a photo is not where the JSON says
    names: dict[Id, str] = {}
    listed: dict[str, str] = {}
    missing = []
    for i, image in file.images.items():
        if (name := _find(folder, image.name, places)) is None:
            missing.append(image.name)
        elif listed.setdefault(name, image.name) != image.name:
            both = f"{listed[name]} and {image.name}"
            raise SegError(f"{instances}: lists {both}, and only {name} is in {folder}; give the folder of both")
        else:
            names[i] = name
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise MissingDataError(
            f"{instances}: {len(missing)} of the {len(file.images)} images that it lists are not in {folder} ({some}); "
            f"give the folder that has them with data.{key}=DIR, or take them out of the JSON"
        )
    return Part(split, file, folder, names)


def _find(folder: Path, said: str, places: dict[str, list[str]]) -> str | None:
    """A photo's name below the folder: by path, without leading folders of another place, or by a unique file name."""
    for text in (said, unquote(said).rpartition("?d=")[2]):
        parts = text.replace("\\", "/").removeprefix("./").split("/")
        for start, part in enumerate(parts):
            name = "/".join(parts[start:])
            if part and ".." not in parts[start:] and "\0" not in name and os.path.isfile(folder / name):
                return Path(name).as_posix()
    if not places:
        for place, _, files in os.walk(folder):
            for file in files:
                places[_plain(file)].append((Path(place) / file).relative_to(folder).as_posix())
    path = _plain("/".join(parts))
    base = path.rpartition("/")[2]
    for key in (base, re.sub("^[0-9a-f]{8}-", "", base)):  # which Label Studio puts before the name of an upload
        there = [name for name in places.get(key, []) if f"/{path}".endswith(f"/{_plain(name)}")] or places.get(key, [])
        if len(there) == 1:
            return there[0]
    return None


def _plain(name: str) -> str:
    """Equal for names that differ in case or in how Unicode composes their letters (NFC, macOS' NFD)."""
    return normalize("NFC", name).casefold()
