"""``data=coco``: photos with COCO's instances JSON, whose outlines are the truth."""

import os
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from seg.data.coco_objects import Photo
from seg.data.coco_parts import CocoPart, find_coco
from seg.data.dataset import Dataset
from seg.data.draw import draw_by_labels
from seg.data.findings import Findings
from seg.data.folder_layout import image_ids
from seg.data.layout import IMAGE_SUFFIXES, content_fingerprint, scan
from seg.data.sources import InPlace, require_few
from seg.errors import SegError
from seg.store import Products, param


class Coco(InPlace):
    """Photos and what an instances JSON says of them: the layout of COCO, and of the tools that write it.

    Classes are the categories in the order of their ids. An image's labels are those of its objects that are no
    crowd; a class that is there as a crowd alone is no label of it. The truth is drawn from the outlines, smaller
    objects on top of larger ones, and crowds, which are unknown, below all of them. An image with an object that has no
    outline has no truth.

    Attributes:
        root: what the other paths are relative to.
        photos: folder of the photos; null: ``val2017`` for ``instances_val2017.json``, else ``images``, else ``root``.
        instances: the JSON; null: the only ``instances_*.json`` in ``root/annotations`` (or in ``root``), or of
            ``instances_train*.json`` and ``instances_val*.json`` the first, the second being of the test images.
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
        """What was found, and where."""
        dataset: Dataset = store.get(self)
        records, files = dataset.records, [part.file.path for part in self.parts]
        masks, boxes = sum(r.has_truth for r in records), sum(bool(r.boxes) for r in records)
        count = len(dataset.classes)
        said = [f"{len(records)} images of {count} class{'es' if count > 1 else ''} in {files[0]}"]
        said += [f"masks for {masks}", f"boxes for {boxes}"]
        how = f"in {files[1]}" if len(files) > 1 else f"drawn (test_share={self.test_share:g})"
        return ": " + ", ".join([*said, f"test images {how}"])

    @cached_property
    def parts(self) -> list[CocoPart]:
        """The JSONs with their photos: of trainval, and of test where there is one."""
        if self.root is None:
            raise SegError("data=coco: give data.root=DIR, the folder that holds the photos and the instances JSON")
        return find_coco(Path(self.root), self.photos, self.instances, self.test_photos, self.test_instances)

    def hashed(self, cache: Path | None, *, write: bool) -> str:
        """Of the JSONs and the photos that they list."""
        root = str(Path(self.root or "").resolve())
        return content_fingerprint(root, self._content(), cache, write=write)

    def _content(self) -> Iterator[tuple[str, Path]]:
        for part in self.parts:
            yield f"{part.split}.json", part.file.path
            yield from ((f"{part.split}/{name}", path) for name, path in part.photos.items())

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
        names = self._kept(parts)
        photos: dict[Path, Photo] = {}
        for part in parts:
            _gather(part, names, photos, found)
        folder = Path(os.path.commonpath([part.folder for part in parts]))
        called = {path: path.relative_to(folder).as_posix() for path in photos}
        ids = image_ids(called.values())
        for path, photo in photos.items():
            photo.id = ids[called[path]]
            photo.read(path, found)
        found.stop_if_any(Path(self.root or ""), one_line=True)
        _tell(photos, parts, found)
        if len(parts) == 1:
            labels = {called[path]: photo.labels for path, photo in photos.items()}
            for name in draw_by_labels(labels, self.test_share, self.split_seed):
                photos[folder / name].split = "test"
        trained = {label for photo in photos.values() if photo.split == "trainval" for label in photo.labels}
        found.quirk("classes without a trainval image", (n for i, n in enumerate(names.values()) if i not in trained))
        is_drawn = any(photo.regions for photo in photos.values())
        records = [photo.record(path, has_truth=is_drawn) for path, photo in photos.items()]
        records.sort(key=lambda record: record.split == "test")
        return Dataset(tuple(names.values()), tuple(records), found.quirks, False, found.examples, folder)

    def _kept(self, parts: list[CocoPart]) -> dict[int, str]:
        """Names of the classes by their categories' ids."""
        categories = parts[0].file.categories
        for part in parts:
            if not part.file.categories:
                raise SegError(f"{part.file.path}: no categories, so nothing says what its objects are; add them")
            if part.file.categories != categories:
                differ = {*part.file.categories.items()} ^ {*categories.items()}
                shown = ", ".join(f"{i} {name!r}" for i, name in sorted(differ)[:4])
                raise SegError(
                    f"{parts[0].file.path} and {part.file.path}: other categories ({shown}); make them equal"
                )
        if self.classes is not None:
            if strange := [name for name in self.classes if name not in categories.values()]:
                raise SegError(
                    f"data.classes: {', '.join(map(repr, strange[:4]))} is no category of {parts[0].file.path}; "
                    f"there are {', '.join([*categories.values()][:8])}{', ...' if len(categories) > 8 else ''}"
                )
            categories = {i: name for i, name in categories.items() if name in self.classes}
        require_few(len(categories), f"{parts[0].file.path}", "choose some with data.classes=[...]")
        return categories


def _gather(part: CocoPart, names: dict[int, str], photos: dict[Path, Photo], found: Findings) -> None:
    """Add what a JSON lists; an image of an earlier one moves to this one's split."""
    label = {category: place for place, category in enumerate(names)}
    both, twice, strangers = [], [], []
    mine: set[Path] = set()
    for image_id, name in part.names.items():
        path = part.photos[name]
        if path in mine:
            twice.append(name)
            continue
        if path in photos:
            both.append(name)
        photos[path] = Photo(part.split, part.file.images[image_id])
        mine.add(path)
    for one in part.file.annotations():
        if isinstance(one, SegError):
            found.problems.append(str(one))
        elif one.image not in part.names:
            strangers.append(f"image {one.image}")
        elif one.category not in part.file.categories:
            found.problems.append(f"{one.where}: category_id {one.category} is none of the file's categories")
        elif one.category in label:
            photos[part.photos[part.names[one.image]]].annotations.append((one, label[one.category]))
    found.quirk("images listed twice (their annotations are put together)", twice)
    found.quirk("images listed in both splits (kept in test only)", both)
    found.quirk("annotations of images that are not listed (not used)", strangers)


def _tell(photos: dict[Path, Photo], parts: list[CocoPart], found: Findings) -> None:
    """Count what is unusual."""
    folders: defaultdict[Path, set[str]] = defaultdict(set)
    for part in parts:
        folders[part.folder] |= set(part.photos)
    for folder, listed in folders.items():
        there = [e.name for e in scan(folder) if e.name.lower().endswith(IMAGE_SUFFIXES) and e.name[0] != "."]
        found.quirk("photos that no JSON lists (not used)", (name for name in there if name not in listed))
    found.quirk("images without an object (background alone)", (p.id for p in photos.values() if not p.annotations))
    crowds = (p.id for p in photos.values() if {x for one, x in p.annotations if one.is_crowd} - set(p.labels))
    found.quirk("images with a class that is a crowd alone (no label of theirs)", crowds)
    other = [photo for photo in photos.values() if photo.is_other_size]
    if other and len(other) == sum(bool(photo.annotations) for photo in photos.values()):
        raise SegError(
            f"{parts[0].file.path}: not one of its {len(other)} images with objects has the size that it says "
            f"({other[0].id}, say); give the photos that were annotated"
        )
    found.quirk("images of another size than their JSON says (labels used alone)", (photo.id for photo in other))
