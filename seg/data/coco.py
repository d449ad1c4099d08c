"""``data=coco``: photos with COCO's instances JSON; its outlines are the ground truth."""

import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast
from urllib.parse import unquote

import numpy as np

from seg.data.boxes import TOLERANCE, fit_box
from seg.data.coco_file import Annotation, CocoFile, Id, read_coco
from seg.data.dataset import UNKNOWN, Box, Dataset, Record, Region, Split
from seg.data.decode import image_size
from seg.data.draw import draw_by_labels
from seg.data.folder_layout import image_ids
from seg.data.layout import IMAGE_SUFFIXES, MissingDataError, any_case, content_fingerprint, nfc, scan
from seg.data.read_report import ReadReport
from seg.data.sources import InPlace, require_few
from seg.errors import SegError
from seg.store import Products, param

_OTHER_SIZE = "images of another size than their JSON says (only labels used; save photos upright)"


class Coco(InPlace):
    """Photos and an instances JSON, from COCO or from a tool that exports it.

    Classes are the categories in the order of their ids, but for one called background. An image's labels are those of
    its objects without crowds. The ground truth is drawn from the outlines; crowds are unknown. An image with an object
    without an outline has no ground truth.

    Attributes:
        root: the other paths are relative to it.
        photos: folder of the photos; null: ``val2017`` or ``images/val2017`` for ``instances_val2017.json``, beside
            the JSON in Roboflow's layout, else ``images``, else ``root``.
        instances: the JSON; null: ``annotations/instances_*.json`` or ``instances_*.json`` (the second of train and
            val is for test), ``train/`` and ``valid/_annotations.coco.json`` (Roboflow), else the only JSON in
            ``annotations`` or ``root``.
        test_photos: folder of the test images; null: as for ``photos``, else ``photos``.
        test_instances: the JSON of the test images; null: a share is drawn.
        classes: names of categories to keep, null for all. Objects of the others are background.
        test_share: without a JSON of test images, the share drawn for test. split_seed: of that draw.
        title: the data set's name in a run's log.
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
        """Counts and places; masks that are unknown everywhere are not counted."""
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
        """The file of trainval with its photos, and that of test if there is one.

        Raises:
            MissingDataError: a folder, a file or listed photos are missing.
            SegError: a file has another format, or no annotation.
        """
        files, root = self.files(), Path(self.root or "")
        if not files[0].annotations:
            report = files[0].report
            problem = next(iter(report.problems), f"{files[0].path}: has no annotation{report.why}")
            raise SegError(f"{problem}; annotate some photos, or give another file")
        parts = [coco_part("trainval", root, files[0], self.photos, "photos")]
        photos = self.test_photos or self.photos
        return parts + [coco_part("test", root, file, photos, "test_photos") for file in files[1:]]

    def files(self) -> list[CocoFile]:
        """Read the annotations of trainval, and those of test if there are any."""
        if self.root is None:
            raise SegError("data=coco: give data.root=DIR, the folder that holds the photos and the instances JSON")
        root = Path(self.root)
        if not root.is_dir():
            raise MissingDataError(f"data.root={root}: no such folder; give the one of the photos and the JSON")
        for key, given in (("instances", self.instances), ("test_instances", self.test_instances)):
            if given is not None and not (root / given).is_file():
                raise SegError(f"data.{key}={given}: no such file in {root}; give a COCO JSON")
        test = root / self.test_instances if self.test_instances else None
        file, test = (root / self.instances, test) if self.instances else _find_files(root, test)
        return [read_coco(path) for path in (file, test) if path]

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """A hash of the JSONs and their photos."""
        content = [(f"{part.split}.json", part.file.path) for part in self.parts]
        content += [(f"{part.split}/{name}", part.folder / name) for part in self.parts for name in part.names.values()]
        return content_fingerprint(str(Path(self.root or "").resolve()), content, cache, write=write)

    def params(self) -> dict[str, Any]:
        """The content and the parameters of reading it."""
        out = super().params()
        if self.classes is not None:
            out["classes"] = sorted(set(self.classes))
        if len(self.parts) == 1:
            out["test_share"] = self.test_share
            if self.test_share > 0:
                out["split_seed"] = self.split_seed
        return out

    def load(self, path: Path, store: Products) -> Dataset:
        """Read the JSONs, and the sizes of photos with objects."""
        found, parts = ReadReport(), self.parts
        names = _class_names([part.file for part in parts], self.classes, found)
        photos = _photos(parts, {category: label for label, category in enumerate(names)}, found)
        folder = Path(os.path.commonpath([part.folder for part in parts]))
        listed = {path: path.relative_to(folder).as_posix() for path in photos}
        ids = image_ids(listed.values())
        records = [_record(ids[listed[at]], at, photo, found) for at, photo in photos.items()]
        found.raise_problems(Path(self.root or ""))
        if not any(record.boxes for record in records):
            raise SegError(f"{parts[0].file.path}: none of its objects can be used{found.why}")
        if len(parts) == 1:
            drawn = draw_by_labels({listed[r.image]: r.labels for r in records}, self.test_share, self.split_seed)
            records = [replace(r, split="test") if listed[r.image] in drawn else r for r in records]
        if not any(record.regions for record in records):
            records = [replace(record, regions=None) for record in records]
        records.sort(key=lambda record: record.split == "test")
        trained = {label for record in records if record.split == "trainval" for label in record.labels}
        found.warn("classes without a trainval image", (n for i, n in enumerate(names.values()) if i not in trained))
        return Dataset(tuple(names.values()), tuple(records), found.warnings, found.examples, folder)


class Part(NamedTuple):
    """A JSON, the absolute folder of its photos, and their names below that folder by image id."""

    split: Split
    file: CocoFile
    folder: Path
    names: dict[Id, str]


class Photo(NamedTuple):
    """A photo: its split, the ``(height, width)`` that the JSON states, and its annotations with their labels."""

    split: Split
    stated: tuple[int, int] | None
    annotations: list[tuple[Annotation, int]]


def _class_names(files: list[CocoFile], chosen: tuple[str, ...] | None, found: ReadReport) -> dict[Id, str]:
    """Names of the classes by the ids of their categories."""
    place, listed, groups = files[0].path, files[0].categories, files[0].groups
    if other := [file.path for file in files if not file.categories or file.categories != listed]:
        raise SegError(f"{other[0]}: it has no categories, or others than {place}; write the same into each")
    used = {one.category for file in files for one in file.annotations}
    count = Counter(listed.values())
    # Roboflow's root has id 0, and is the supercategory of the others where that is written.
    groups = groups or {listed.get(0, "")}
    names = {i: name for i, name in listed.items() if i in used or not (name in groups or count[name] > 1)}
    unused = (f"{i} {name!r}" for i, name in listed.items() if i not in names)
    found.warn("categories without annotations that are a group or named twice (no class)", unused)
    background = [i for i, name in names.items() if name.lower() == "background"]
    found.warn("categories that are the background (no class)", [names.pop(i) for i in background])
    if twice := [name for name, number in Counter(names.values()).items() if number > 1]:
        same = " and ".join(str(i) for i, name in names.items() if name == twice[0])
        raise SegError(f"{place}: the categories {same} are both called {twice[0]!r} and used; rename one")
    if unknown := sorted({*(chosen or ())} - {*names.values()}):
        there = ", ".join([*names.values()][:8])
        raise SegError(f"data.classes: {unknown[0]!r} is no category of {place}; there are {there}")
    names = {i: name for i, name in names.items() if chosen is None or name in chosen}
    require_few(len(names), f"{place}", "choose some with data.classes=[...]")
    return names


def _photos(parts: list["Part"], label_of: dict[Id, int], found: ReadReport) -> dict[Path, Photo]:
    """The photos that the JSONs list, by path; one that both list is in the test split."""
    photos: dict[Path, Photo] = {}
    for part in parts:
        own = {name: Photo(part.split, part.file.images[i].size, []) for i, name in part.names.items()}
        found.add(part.file.report)
        for one in part.file.annotations:
            if one.image not in part.names:
                found.warn("annotations of images that are not listed (not used)", [f"image {one.image}"])
            elif one.category not in part.file.categories:
                found.problems.append(f"{one.where}: category_id {one.category} is not among the file's categories")
            elif one.category in label_of:
                own[part.names[one.image]].annotations.append((one, label_of[one.category]))
        both = [name for name in own if part.folder / name in photos]
        found.warn("images listed in both splits (kept in test only)", both)
        photos |= {part.folder / name: photo for name, photo in own.items()}
    for folder in {part.folder: None for part in parts}:
        there = [e for e in scan(folder) if e.name.lower().endswith(IMAGE_SUFFIXES) and e.name[0] != "."]
        found.warn("photos that no JSON lists (not used)", (e.name for e in there if folder / e.name not in photos))
    return photos


def _record(name: str, path: Path, photo: Photo, found: ReadReport) -> Record:
    """Make the record of a photo; problems with its annotations go to ``found``."""
    labels = tuple(sorted({label for one, label in photo.annotations if not one.is_crowd}))
    record = Record(name, path, labels, photo.split, codes="classes")
    if not photo.annotations:
        found.warn("images without an object (all background)", [name])
        return replace(record, regions=())
    size = None
    with suppress(SegError):  # an unreadable image is named and counted when it is decoded
        size = image_size(path)
    if size and photo.stated not in (None, size):
        found.warn(_OTHER_SIZE, [name])
        return record
    boxes: list[tuple[Box, int]] = []
    regions: list[Region] = []
    for one, label in photo.annotations:
        with found.collecting(one.where):
            if size and one.runs_size not in (None, size):
                raise SegError(f"its RLE has the size {one.runs_size}, and its image {size}; export it again")
            box = one.box
            if one.extent is not None:
                regions.append(Region(UNKNOWN if one.is_crowd else 1 + label, one.polygons, one.runs))
                inside = np.clip(one.extent, 0, (*size[::-1], *size[::-1])) if size else one.extent
                if np.abs(np.subtract(one.extent, inside)).max() > TOLERANCE:
                    found.warn("outlines that extend beyond their image (cut)", [name])
                box = cast(Box, tuple(map(float, inside))) if box == one.extent else box
            if one.is_crowd:
                found.warn("crowd regions (unknown)", [name])
            elif box[0] == box[2] or box[1] == box[3]:
                found.warn("points, lines, objects without an area (only labels used)", [name])
            else:
                boxes.append((fit_box(box, size, one.where), label))
    has_target = all(one.extent for one, _ in photo.annotations)
    found.warn("images with an object without an outline (no ground truth)", [name] * (not has_target))
    return replace(
        record,
        boxes=tuple(box for box, _ in boxes),
        box_labels=tuple(label for _, label in boxes) if len(labels) > 1 else (),
        regions=tuple(regions) if has_target else None,
    )


def _find_files(root: Path, test: Path | None) -> tuple[Path, Path | None]:
    """The JSON of trainval, and that of test if there is one."""
    for patterns in (
        ("annotations/instances_*.json", "instances_*.json"),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
        ("annotations/*.json", "*.json"),
    ):
        there = sorted(path for pattern in patterns for path in root.glob(any_case(pattern)) if path.name[0] != ".")
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


def coco_part(split: Split, root: Path, file: CocoFile, photos: str | None, key: str) -> Part:
    """A file with its photos in ``root / photos`` or in the usual folders; ``key`` is for messages."""
    instances, stem = file.path, file.path.stem.removeprefix("instances_")
    usual = [root / stem, root / "images" / stem, root / "images", root]
    usual = [instances.parent] if stem == "_annotations.coco" else usual
    folder = root / photos if photos else next(place for place in usual if place.is_dir())
    if not folder.is_dir():
        raise MissingDataError(f"data.{key}={photos}: no such folder in {root}; give the one of the photos")
    folder = Path(os.path.abspath(folder))
    by_base: dict[str, list[str]] = {}
    names = {i: _find(folder, image.name, by_base) for i, image in file.images.items()}
    listed: dict[str, str] = {}
    missing = []
    for i, name in names.items():
        given = file.images[i].name
        if name is None:
            missing.append(given)
        elif listed.setdefault(name, given) != given:
            raise SegError(f"{instances}: lists {listed[name]} and {given}, and only {name} is in {folder}; add it")
    if missing:
        raise MissingDataError(
            f"{instances}: {len(missing)} of the {len(names)} images that it lists are not in {folder} "
            f"({', '.join(missing[:3])}); give the folder that has them with data.{key}=DIR, or leave them out"
        )
    return Part(split, file, folder, {i: name for i, name in names.items() if name is not None})


def _find(folder: Path, name: str, by_base: dict[str, list[str]]) -> str | None:
    """Path below the folder of the photo of that name in a JSON: the same, or with the same last parts.

    A name without a suffix, as CVAT's of a video's frames, is found if one photo has it. ``by_base`` is filled on first
    use: the paths below the folder by their last part, those of photos also without suffix but with the dot.
    """
    parts = Path(name).parts
    if ".." not in parts and "\0" not in name and not Path(name).is_absolute() and os.path.isfile(folder / name):
        return Path(name).as_posix()
    if not by_base:
        for place, _, files in os.walk(folder):
            for file in files:
                path = (Path(place) / file).relative_to(folder).as_posix()
                by_base.setdefault(_plain(file), []).append(path)
                stem, suffix = os.path.splitext(file)
                if suffix.lower() in IMAGE_SUFFIXES:
                    by_base.setdefault(f"{_plain(stem)}.", []).append(path)
    for given in (unquote(name), name):
        text = given.rpartition("?d=")[2].replace("\\", "/").removeprefix("./")
        wanted = "/" + _plain(text)
        base = wanted.rpartition("/")[2]
        of_frame = () if base.endswith(IMAGE_SUFFIXES) else (f"{base}.",)
        for key in (base, re.sub("^[0-9a-f]{8}-", "", base), *of_frame):  # Label Studio's prefix of uploads
            there = by_base.get(key, [])
            ends = [path for path in there if wanted.endswith(f"/{_plain(path)}")]
            if ends or len(there) == 1:
                return max(ends or there, key=lambda path: (path.count("/"), text.endswith(path)))
    return None


def _plain(name: str) -> str:
    """Equal for names that differ in case, in how Unicode composes their letters (NFC, macOS' NFD), or by Django's
    cleaning, which makes of ``a (1).jpg`` ``a_1.jpg`` where it is uploaded."""
    return re.sub(r"[^-\w./]", "", nfc(name).casefold().replace(" ", "_"))
