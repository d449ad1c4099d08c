"""A folder of photos, one folder per class or labels in a file, and the masks, boxes and lists that lie beside them."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from seg.data.layout import IMAGE_SUFFIXES, TOO_LONG, MissingDataError, best_by_stem, is_writable, nfc, scan, too_long
from seg.data.read_report import ReadReport
from seg.data.tables import box_files
from seg.errors import SegError

#: Folders by these names hold a split, not a class.
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "trainval", "test", "testing"})
#: Folders by these names hold masks, not a class.
_MASK_FOLDERS = frozenset({"masks", "mask", "ground_truth", "groundtruth", "gt", "segmentations"})
_LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif")
#: What tools put behind an image's name to name its mask: MVTec and Carvana, ISIC, others.
_MASK_SUFFIXES = ("_mask", "-mask", "_segmentation", "_seg", "_gt", "_labels", "_label", "_matte")
_NO_IMAGES = (".csv", ".tsv", ".json", ".txt", ".xml", ".xlsx", ".yaml", ".md")


@dataclass(frozen=True)
class Parts:
    """The files of a data set, found by their names alone.

    Attributes:
        images: by ``class/file`` (relative to the root), in order; one per folder and stem.
        masks: by name relative to ``masks_folder``.
        mask_suffix: what stands between an image's stem and the ending in the name of its mask.
        labels: the file that says the images' classes; None where their folders do.
        found: what was not used.
    """

    root: Path
    images: dict[str, Path]
    masks: dict[str, Path]
    masks_folder: Path | None
    mask_suffix: str
    boxes: Path | None
    test_list: Path | None
    labels: Path | None
    found: ReadReport

    def content(self) -> Iterator[tuple[str, Path]]:
        """Name and path of every file that can change what is read."""
        boxes = {path.relative_to(self.boxes or "").as_posix(): path for path in box_files(self.boxes)}
        lists = {name: path for name, path in (("test", self.test_list), ("labels", self.labels)) if path}
        for part, files in (("images", self.images), ("masks", self.masks), ("boxes", boxes), ("lists", lists)):
            yield from ((f"{part}/{name}", path) for name, path in files.items())


def find_parts(
    root: Path,
    masks: str | bool | None = None,
    boxes: str | None = None,
    test_list: str | None = None,
    labels: str | bool | None = None,
    mask_suffix: str | None = None,
) -> Parts:
    """Look at what lies below ``root``; opens no file. The arguments are those of the source.

    Raises:
        MissingDataError: there is no such folder, or no image in a folder of a class.
        SegError: one of the others is not there, masks are lossy, or the folders are no classes.
    """
    if not root.is_dir():
        raise MissingDataError(f"data.root={root}: no such folder at {root.absolute()}; give one of photos")
    if (root / "annotations" / "trainval.txt").is_file():
        raise SegError(f"data.root={root}: has the official layout of Oxford-IIIT Pet; use data=oxford_pet for it")
    usual = [entry.name for entry in scan(root) if entry.name.lower() in _MASK_FOLDERS and entry.is_dir()]
    folder = _given("masks", masks, root, *usual)
    box_list = _given("boxes_from", boxes, root, "boxes.csv", "boxes.json", "boxes")
    label_list = _given("labels_from", labels, root, "labels.csv")
    no_class = {(root / name).resolve() for name in usual} | {p.resolve() for p in (folder, box_list) if p}
    found = ReadReport()
    images = _images(root, no_class, found)
    loose = [name for name in images if "/" not in name]
    if label_list is None:
        images = {name: path for name, path in images.items() if "/" in name}
        found.warn("images beside the folders of the classes (not used)", loose)
    if not images:
        what = f"its {len(loose)} images lie in no folder" if loose else "no image in a folder of a class"
        remedy = f"put each class's into one, as {root.name}/cat/1.jpg, or write their classes into labels.csv"
        raise MissingDataError(f"data.root={root}: {what}; {remedy}")
    names = {name.split("/")[0] for name in images}
    if label_list is None and {name.lower() for name in names} <= _SPLITS:
        raise SegError(
            f"data.root={root}: its folders {', '.join(sorted(names))} are splits, not classes; put the classes' "
            "folders side by side and name the test images in a file, data.test_list="
        )
    if inside := [name for name in images if not _MASK_FOLDERS.isdisjoint(name.lower().split("/")[1:-1])]:
        raise SegError(f"{root / inside[0]}: looks like a mask among the images; put masks into {root / 'masks'}")
    images, own, suffix = _split_masks(images, _files(folder), mask_suffix)
    if masks is False:
        own, suffix = {}, ""
    if lossy := [path for path in own.values() if path.suffix.lower() not in _LOSSLESS]:
        raise SegError(
            f"{lossy[0]}: {len(lossy)} of {len(own)} masks are in a format that changes pixels (JPEG, WebP, ...); make "
            "PNG of the originals, or leave them out: data.masks=false (if they are photos: data.mask_suffix='')"
        )
    return Parts(
        root=root,
        images=images,
        masks=own,
        masks_folder=folder or root if own else None,
        mask_suffix=suffix,
        boxes=box_list,
        test_list=_given("test_list", test_list, root),
        labels=label_list,
        found=found,
    )


def _given(key: str, value: str | bool | None, root: Path, *usual: str) -> Path | None:
    """The path that is given; where none is, the only usual one that is there."""
    if value is False:
        return None
    there = [root / name for name in usual if (root / name).exists()]
    if value is None and len(there) > 1:
        raise SegError(f"{' and '.join(map(str, there))}: say which to use with data.{key}=")
    path = Path(str(value)) if value is not None else next(iter(there), None)
    if path is not None and not (path.is_dir() if key == "masks" else path.exists()):
        kinds = {
            "masks": "folder of masks",
            "boxes_from": "CSV, COCO JSON or folder of VOC XML",
            "labels_from": "CSV file,labels",
        }
        what = kinds.get(key, "file with the name of an image per line")
        raise SegError(f"data.{key}={value}: no {what} at {path.absolute()}")
    return path


def _unreadable(error: OSError) -> None:
    raise SegError(f"{error.filename}: cannot be read ({error.strerror or error}); change its permissions") from error


def _images(root: Path, no_class: set[Path], found: ReadReport) -> dict[str, Path]:
    """The images below the root but in some folders. Links are followed, each folder being looked at once."""
    seen, images = {root.resolve(), *no_class}, {}

    def is_new(folder: Path) -> bool:
        target = folder.resolve()
        if target in seen or folder.name.startswith("."):
            return False
        if folder.is_symlink() and target.is_relative_to(root.resolve()):
            return False
        seen.add(target)
        return True

    for place, inner, files in os.walk(root, onerror=_unreadable, followlinks=True):
        inner[:] = [name for name in sorted(inner) if is_new(Path(place, name))]
        below = Path(place).relative_to(root)
        if place == os.fspath(root):  # where the lists lie, too
            files = [name for name in files if not name.lower().endswith(_NO_IMAGES)]
        for name in best_by_stem(files, IMAGE_SUFFIXES, found, below.as_posix()).values():
            images[nfc((below / name).as_posix())] = Path(place, name)
    return images


def _files(folder: Path | None) -> dict[str, Path]:
    walked = os.walk(folder, onerror=_unreadable) if folder else ()
    paths = sorted(Path(place, name) for place, _, files in walked for name in files if not name.startswith("."))
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    return {nfc(path.relative_to(folder or "").as_posix()): path for path in images}


def _split_masks(
    images: dict[str, Path], masks: dict[str, Path], suffix: str | None
) -> tuple[dict[str, Path], dict[str, Path], str]:
    """The images that are no masks; these masks and those of their folder; the suffix, found where it is None."""
    stems = {name.rpartition(".")[0] for name in images}
    own, beside = {os.path.basename(stem) for stem in stems}, set()
    for end in _MASK_SUFFIXES if suffix is None else (suffix,) if suffix else ():
        beside = {name for name in images if (stem := name.rpartition(".")[0]).removesuffix(end) in stems - {stem}}
        if beside or any((stem := Path(name).stem).removesuffix(end) in own - {stem} for name in masks):
            suffix = end
            break
    masks = {name: images[name] for name in beside} | masks
    images = {name: path for name, path in images.items() if name not in beside}
    photos = {os.path.abspath(path) for path in images.values()}  # where masks lie among them
    return images, {name: p for name, p in masks.items() if os.path.abspath(p) not in photos}, suffix or ""


def image_ids(names: Iterable[str]) -> dict[str, str]:
    """Id by name: the stem, or the whole ``class_stem`` where several images have that stem.

    Raises:
        SegError: two images would go by one id, or a name has characters that no text file holds.
    """
    stems = {name: name.rpartition(".")[0] for name in names}
    count = Counter(os.path.basename(stem) for stem in stems.values())
    taken: dict[str, str] = {}
    for name, stem in stems.items():
        short = os.path.basename(stem)
        image_id = short if count[short] == 1 else stem.replace("/", "_")
        if not is_writable(name):
            raise SegError(f"{name[:200]!r}: a name with characters that cannot be written; rename the file")
        if too_long(image_id):
            raise SegError(f"{name[:100]}...: {TOO_LONG}")
        if (other := taken.setdefault(image_id, name)) != name:
            raise SegError(f"{other} and {name}: both would be called {image_id}; rename one")
    return {name: image_id for image_id, name in taken.items()}


class Names:
    """Which image is meant by a name in a list; ``ids`` as of :func:`image_ids`."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        self._ids: defaultdict[str, set[str]] = defaultdict(set)
        self._folders = {name.split("/")[0] for name in ids if "/" in name}
        for name, image_id in ids.items():
            stem = name.rpartition(".")[0]
            for known in (stem, os.path.basename(stem), image_id):
                self._ids[known].add(image_id)

    def find(self, name: str, *, anywhere: bool = False) -> str | None:
        """Id of the image called so: by id, file name, ``class/file``, with any ending of images or none.

        Args:
            name: the name. anywhere: look past leading folders, which were those of another place.

        Raises:
            SegError: several images are called so.
        """
        name = nfc(name.replace("\\", "/")).removeprefix("./")
        while True:
            stem, ending = os.path.splitext(name)
            found = self._ids.get(stem if ending.lower() in IMAGE_SUFFIXES else name, set())
            folder, _, rest = name.partition("/")
            if found or not anywhere or not rest or folder in self._folders:
                break  # dog/2.jpg is not cat/2.jpg
            name = rest
        if len(found) > 1:
            raise SegError(f"{name!r} is the name of {len(found)} images; write class/file")
        return next(iter(found), None)
