"""``data=coco``: photos with COCO's instances JSON, whose outlines are the ground truth."""

import os
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from unicodedata import normalize
from urllib.parse import unquote

from PIL import Image

from seg.data.boxes import TOLERANCE, check_inside, check_order, clip_inside
from seg.data.coco_file import Annotation, CocoFile, CocoImage, Id, read_coco, run_lengths
from seg.data.dataset import UNKNOWN, Box, Dataset, Record, Region, Split
from seg.data.decode import draw_regions, formats, image_size
from seg.data.draw import draw_by_labels
from seg.data.findings import Findings
from seg.data.folder_layout import image_ids
from seg.data.layout import IMAGE_SUFFIXES, MissingDataError, content_fingerprint, scan
from seg.data.sources import InPlace, require_few
from seg.errors import SegError
from seg.store import Products, param

_ORIENTATION_TAG = 0x0112


class Coco(InPlace):
    """Photos and an instances JSON: the layout of COCO, and of the tools that export it.

    Classes are the categories in the order of their ids. An image's labels are those of its objects, crowds left out.
    The ground truth is drawn from the outlines; crowds are unknown. An image with an object that has no outline has
    none.

    Attributes:
        root: what the other paths are relative to.
        photos: folder of the photos; null: see :func:`find_parts`.
        instances: the JSON; null: see :func:`find_parts`.
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
        files = [part.file.path for part in self.parts]
        regions = [r.regions for r in dataset.records if r.regions is not None]
        masks = sum(not own or any(region.code != UNKNOWN for region in own) for own in regions)
        count, boxes = len(dataset.classes), sum(bool(r.boxes) for r in dataset.records)
        how = f"in {files[1]}" if len(files) > 1 else f"drawn (test_share={self.test_share:g})"
        return (
            f": {len(dataset.records)} images of {count} class{'es' if count > 1 else ''} in {files[0]}, "
            f"masks for {masks}, boxes for {boxes}, test images {how}"
        )

    @cached_property
    def parts(self) -> list["Part"]:
        """The JSONs with their photos: of trainval, and of test where there is one."""
        if self.root is None:
            raise SegError("data=coco: give data.root=DIR, the folder that holds the photos and the instances JSON")
        return find_parts(Path(self.root), self.photos, self.instances, self.test_photos, self.test_instances)

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
        found, parts = Findings(), self.parts
        names = _class_names([part.file for part in parts], self.classes, found)
        photos = _gather(parts, list(names), found)
        folder = Path(os.path.commonpath([part.folder for part in parts]))
        called = {path: path.relative_to(folder).as_posix() for path in photos}
        ids = image_ids(called.values())
        for path, photo in photos.items():
            photo.read(ids[called[path]], path, found)
        found.stop_if_any(Path(self.root or ""), one_line=True)
        _report(photos, parts, found)
        if len(parts) == 1:
            labels = {called[path]: photo.labels for path, photo in photos.items()}
            for name in draw_by_labels(labels, self.test_share, self.split_seed):
                photos[folder / name].split = "test"
        trained = {label for photo in photos.values() if photo.split == "trainval" for label in photo.labels}
        found.quirk("classes without a trainval image", (n for i, n in enumerate(names.values()) if i not in trained))
        is_drawn = any(photo.regions for photo in photos.values())
        records = [photo.record(path, has_target=is_drawn) for path, photo in photos.items()]
        records.sort(key=lambda record: record.split == "test")
        return Dataset(tuple(names.values()), tuple(records), found.quirks, False, found.examples, folder)


@dataclass(frozen=True)
class Part:
    """A JSON, the absolute folder of its photos, and by image id their names below that folder."""

    split: Split
    file: CocoFile
    folder: Path
    names: dict[Id, str]


@dataclass
class Photo:
    """What is known of a photo: what was listed, and then what its annotations come to (see :class:`Record`)."""

    split: Split
    listed: CocoImage
    annotations: list[tuple[Annotation, int]] = field(default_factory=list)
    id: str = ""
    boxes: list[tuple[Box, int]] = field(default_factory=list)
    regions: list[Region] | None = field(default_factory=list)
    misfit: str = ""

    @property
    def labels(self) -> tuple[int, ...]:
        """The classes of its objects, ascending."""
        return tuple(sorted({label for one, label in self.annotations if not one.is_crowd}))

    def read(self, name: str, path: Path, found: Findings) -> None:
        """Take boxes and regions from the annotations; what is wrong with them goes to ``found``."""
        self.id = name
        size = None
        with suppress(SegError):  # an image that is none is named and counted when it is decoded
            size = image_size(path) if self.annotations else None
        if size and self.listed.size not in (size, None):
            self._turn(path, size, found)
        if self.misfit:
            self.regions = None
            return
        for one, label in self.annotations:
            with found.gathering(one.where):
                self._add(one, label, size, found)

    def _turn(self, path: Path, size: tuple[int, int], found: Findings) -> None:
        """Annotations of the photo as it is stored go where its EXIF orientation turns them."""
        self.misfit = "images of another size than their JSON says (labels used alone)"
        if self.listed.size != size[::-1]:
            return
        with Image.open(path, formats=formats()) as image:
            orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        if orientation not in (5, 6, 7, 8):
            return
        self.misfit = "images turned by their EXIF orientation that their annotations do not fit (labels used alone)"
        if all(_fits(one, size[::-1]) for one, _ in self.annotations):
            self.annotations = [(_turned(one, size[::-1], orientation), label) for one, label in self.annotations]
            found.quirk("images whose annotations were turned along with their EXIF orientation", [self.id])
        elif all(_fits(one, size) for one, _ in self.annotations):
            found.quirk("images whose JSON has their sides before EXIF and their annotations after it", [self.id])
        else:
            return
        self.misfit = ""

    def _add(self, one: Annotation, label: int, size: tuple[int, int] | None, found: Findings) -> None:
        if not one.is_crowd:
            box = clip_inside(one.box, size)
            if box[0] == box[2] or box[1] == box[3]:
                found.quirk("empty boxes (not used)", [self.id])
            else:
                check_order(box, one.where)
                check_inside(box, size, one.where)
                self.boxes.append((box, label))
        found.quirk("polygons of one point or two (not drawn)", [self.id] * one.lines)
        if one.extent is None:
            if self.regions is not None:
                found.quirk("images with an object without an outline (no truth)", [self.id])
            self.regions = None
            return
        if one.runs_size and size and one.runs_size != size:
            height, width = one.runs_size
            raise SegError(f"its RLE is of an image of {width} x {height}, and it has {size[1]} x {size[0]}")
        x, y, right, low = one.extent
        if one.is_crowd:
            found.quirk("crowd regions (unknown)", [self.id])
        if (right - x) * (low - y) < 1:
            found.quirk("objects of less than a pixel", [self.id])
        if size and not (min(x, y) >= -TOLERANCE and right <= size[1] + TOLERANCE and low <= size[0] + TOLERANCE):
            found.quirk("outlines that stick out of their image (cut)", [self.id])
        if self.regions is not None:
            self.regions.append(Region(UNKNOWN if one.is_crowd else 1 + label, one.polygons, one.runs))

    def record(self, path: Path, *, has_target: bool) -> Record:
        """As the rest of the program knows it."""
        return Record(
            id=self.id,
            image=path,
            labels=self.labels,
            split=self.split,
            boxes=tuple(box for box, _ in self.boxes),
            codes="classes",
            box_labels=tuple(label for _, label in self.boxes) if len(self.labels) > 1 else (),
            regions=tuple(self.regions) if has_target and self.regions is not None else None,
        )


def _fits(one: Annotation, size: tuple[int, int]) -> bool:
    inside = one.box[2] <= size[1] + TOLERANCE and one.box[3] <= size[0] + TOLERANCE
    return inside and one.runs_size in (size, None)


def _turned(one: Annotation, stored: tuple[int, int], orientation: int) -> Annotation:
    """An annotation of a photo stored as ``(height, width)`` as the EXIF orientations 5 to 8 turn it."""
    height, width = stored

    def points(numbers: tuple[float, ...]) -> tuple[float, ...]:
        xs = [height - y if orientation in (6, 7) else y for y in numbers[1::2]]
        ys = [width - x if orientation in (7, 8) else x for x in numbers[::2]]
        return tuple(c for point in zip(xs, ys, strict=True) for c in point)

    def box(corners: Box) -> Box:
        x, y, right, low = points(corners)
        return min(x, right), min(y, low), max(x, right), max(y, low)

    runs = one.runs
    if runs:
        mask = draw_regions([Region(1, runs=runs)], stored).T
        mask = mask[:, ::-1] if orientation in (6, 7) else mask
        runs = run_lengths(mask[::-1] if orientation in (7, 8) else mask)
    return one._replace(
        box=box(one.box),
        extent=one.extent and box(one.extent),
        polygons=tuple(map(points, one.polygons)),
        runs=runs,
        runs_size=one.runs_size and stored[::-1],
    )


def _class_names(files: list[CocoFile], chosen: tuple[str, ...] | None, found: Findings) -> dict[Id, str]:
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
    of_name = defaultdict(list)
    for i, name in names.items():
        of_name[name].append(i)
    for name, ids in of_name.items():
        if len(both := [i for i in ids if i in used]) > 1:
            raise SegError(
                f"{first.path}: two categories, {both[0]} and {both[1]}, are called {name!r}, and both have "
                "annotations; rename one, or give their annotations one category_id"
            )
        for i in {*ids} - {(both or ids)[0]}:
            found.quirk("categories without annotations, of the name of another (merged with it)", [f"{i} {name!r}"])
            del names[i]
    parents = {(parent, name) for name, parent in first.categories.values() if parent}
    for i in names.keys() - used:
        # Roboflow's root has id 0, and is the supercategory of the others where that is written.
        is_parent = any(parent == names[i] != name for parent, name in parents)
        if is_parent or (i == 0 and not parents and len(names) > 1):
            found.quirk("categories without annotations that are a group of others (no class)", [f"{i} {names[i]!r}"])
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


def _gather(parts: list[Part], categories: list[Id], found: Findings) -> dict[Path, Photo]:
    """What the JSONs list; an image that two of them list is of the later split."""
    photos: dict[Path, Photo] = {}
    for part in parts:
        own: set[Path] = set()
        for i, name in part.names.items():
            path = part.folder / name
            if path in own:
                found.quirk("images listed twice (their annotations are put together)", [name])
                continue
            if path in photos:
                found.quirk("images listed in both splits (kept in test only)", [name])
            photos[path] = Photo(part.split, part.file.images[i])
            own.add(path)
        for one in part.file.annotations:
            if isinstance(one, SegError):
                found.problems.append(str(one))
            elif one.image not in part.names:
                found.quirk("annotations of images that are not listed (not used)", [f"image {one.image}"])
            elif one.category not in part.file.categories:
                found.problems.append(f"{one.where}: category_id {one.category} is none of the file's categories")
            elif one.category in categories:
                label = categories.index(one.category)
                photos[part.folder / part.names[one.image]].annotations.append((one, label))
    return photos


def _report(photos: dict[Path, Photo], parts: list[Part], found: Findings) -> None:
    """Count what is unusual."""
    listed: defaultdict[Path, set[str]] = defaultdict(set)
    for part in parts:
        listed[part.folder] |= set(part.names.values())
        if part.file.crowds_only:
            what = "files whose every annotation has iscrowd 1, as tools write it with RLE (taken for objects)"
            found.quirk(what, [part.file.path.name])
    for folder, names in listed.items():
        there = [e.name for e in scan(folder) if e.name.lower().endswith(IMAGE_SUFFIXES) and e.name[0] != "."]
        found.quirk("photos that no JSON lists (not used)", (name for name in there if name not in names))
    found.quirk("images without an object (background alone)", (p.id for p in photos.values() if not p.annotations))
    crowds = (p.id for p in photos.values() if {x for one, x in p.annotations if one.is_crowd} - set(p.labels))
    found.quirk("images with a class that is a crowd alone (no label of theirs)", crowds)
    misfits = [photo for photo in photos.values() if photo.misfit]
    if misfits and len(misfits) == sum(bool(photo.annotations) for photo in photos.values()):
        raise SegError(
            f"{parts[0].file.path}: not one of its {len(misfits)} images with objects has the size that it says "
            f"({misfits[0].id}, say); give the photos that were annotated"
        )
    for photo in misfits:
        found.quirk(photo.misfit, [photo.id])


def find_parts(
    root: Path,
    photos: str | None = None,
    instances: str | None = None,
    test_photos: str | None = None,
    test_instances: str | None = None,
) -> list[Part]:
    """Read the JSON of trainval, and that of test if there is one; look for their photos.

    Without ``instances`` it is the only ``annotations/instances_*.json`` (or ``instances_*.json``); of train and val
    the first, the second being of test; of Roboflow's export ``train/_annotations.coco.json`` and that of ``valid``;
    else the only JSON in ``root/annotations`` or ``root``. Without ``photos`` they are in ``val2017`` or
    ``images/val2017`` for ``instances_val2017.json``, beside a JSON that has a folder of its own, in ``images``, else
    in ``root``.

    Args:
        root: what the others are relative to.
        photos, test_photos: folders. instances, test_instances: the JSONs.

    Raises:
        MissingDataError: no such folder or JSON, or photos that are listed are not there.
        SegError: a JSON is none.
    """
    if not root.is_dir():
        raise MissingDataError(f"data.root={root}: no such folder; give the one of the photos and the JSON")
    for key, said in (("instances", instances), ("test_instances", test_instances)):
        if said is not None and not (root / said).is_file():
            raise SegError(f"data.{key}={said}: no such file in {root}; give a COCO JSON")
    test = root / test_instances if test_instances else None
    file, test = (root / instances, test) if instances else _find_files(root, test)
    parts = [_part("trainval", root, file, photos, "photos")]
    if test is not None:
        parts.append(_part("test", root, test, test_photos or photos, "test_photos"))
    return parts


def _find_files(root: Path, test: Path | None) -> tuple[Path, Path | None]:
    patterns = (
        ("annotations/instances_*.json", "instances_*.json"),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
        ("annotations/*.json", "*.json"),
    )
    there: list[Path] = []
    for several in patterns:
        there = sorted(path for pattern in several for path in root.glob(pattern) if path.name[0] != ".")
        there = [path for path in there if test is None or path.resolve() != test.resolve()]
        if len(there) == 1:
            return there[0], test
        splits = [path.stem.removeprefix("instances_").rstrip("0123456789") for path in there]
        if (splits == ["train", "val"] or [path.parent.name for path in there] == ["train", "valid"]) and not test:
            return there[0], there[1]
        if there:
            break
    names = ", ".join(path.relative_to(root).as_posix() for path in there[:4])
    what = f"holds {names}; say which with" if there else "no annotations/instances_*.json; give the JSON with"
    raise MissingDataError(f"data.root={root}: {what} data.instances=FILE (and data.test_instances=FILE)")


def _part(split: Split, root: Path, instances: Path, photos: str | None, key: str) -> Part:
    file, folder = read_coco(instances), root / (photos or "")
    if photos is None:
        stem = instances.stem.removeprefix("instances_")
        own = instances.parent if instances.parent.name != "annotations" and instances.parent != root else root / stem
        usual = (root / stem, root / "images" / stem, own, root / "images")
        folder = next((place for place in usual if place.is_dir()), root)
    if not folder.is_dir():
        raise MissingDataError(f"data.{key}={photos}: no such folder in {root}; give the one of the photos")
    folder = Path(os.path.abspath(folder))
    if not file.images:
        raise MissingDataError(f"{instances}: lists no image")
    finder, names, missing = _Finder(folder), {}, []
    listed_as: dict[str, str] = {}
    for i, image in file.images.items():
        name = finder.find(image.name)
        if name is None:
            missing.append(image.name)
            continue
        if listed_as.setdefault(name, image.name) != image.name:
            both = f"{listed_as[name]} and {image.name}"
            raise SegError(f"{instances}: lists {both}, and only {name} is in {folder}; give the folder of both")
        names[i] = name
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise MissingDataError(
            f"{instances}: {len(missing)} of the {len(file.images)} images that it lists are not in {folder} ({some}); "
            f"give the folder that has them with data.{key}=DIR, or take them out of the JSON"
        )
    return Part(split, file, folder, names)


class _Finder:
    """Finds the photos below a folder by what a JSON calls them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, said: str) -> str | None:
        """Name below the folder: by path, leading folders of another place left out, else by a unique file name."""
        for text in (said, unquote(said).rpartition("?d=")[2]):
            parts = text.replace("\\", "/").removeprefix("./").split("/")
            for start, part in enumerate(parts):
                name = "/".join(parts[start:])
                if part and ".." not in parts[start:] and "\0" not in name and os.path.isfile(self.folder / name):
                    return Path(name).as_posix()
        path = _plain("/".join(parts))
        base = path.rpartition("/")[2]
        # Label Studio puts eight digits before the name of an upload.
        for key in (base, re.sub("^[0-9a-f]{8}-", "", base)):
            there = self._by_name.get(key, [])
            there = [name for name in there if f"/{path}".endswith(f"/{_plain(name)}")] or there
            if len(there) == 1:
                return there[0]
        return None

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for place, _, files in os.walk(self.folder):
            for file in files:
                found[_plain(file)].append((Path(place) / file).relative_to(self.folder).as_posix())
        return found


def _plain(name: str) -> str:
    """Equal for names that differ in case or in how Unicode composes their letters (NFC, macOS' NFD)."""
    return normalize("NFC", name).casefold()
