"""A folder of photos, one folder per class or labels in a file, and the masks, boxes and lists that lie beside them."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from seg.data.box_lists import box_files
from seg.data.layout import IMAGE_SUFFIXES, TOO_LONG, MissingDataError, scan, too_long
from seg.errors import SegError

#: Folders by these names hold a split, not a class.
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "trainval", "test", "testing"})


@dataclass(frozen=True)
class Parts:
    """The files of a data set, found by their names alone.

    Attributes:
        root: the folder of the class folders.
        images: by ``class/file`` (relative to the root), in order; one per folder and stem.
        masks: by name relative to their folder, without the suffix.
        masks_folder: where they lie, or None.
        boxes: the file or folder that lists boxes, or None.
        test_list: the file that names test images, or None.
        labels: the file that says the images' classes; None where their folders do.
        skipped: names that were not used, by a sentence that says why.
    """

    root: Path
    images: dict[str, Path]
    masks: dict[str, Path]
    masks_folder: Path | None
    boxes: Path | None
    test_list: Path | None
    labels: Path | None
    skipped: dict[str, list[str]]

    def content(self) -> Iterator[tuple[str, Path]]:
        """Name and path of every file that can change what is read."""
        yield from ((f"images/{name}", path) for name, path in self.images.items())
        yield from ((f"masks/{name}", path) for name, path in self.masks.items())
        if self.boxes is not None:
            for path in box_files(self.boxes):
                name = path.relative_to(self.boxes).as_posix() if self.boxes.is_dir() else path.suffix
                yield f"boxes/{name}", path
        if self.test_list is not None:
            yield "test_list", self.test_list
        if self.labels is not None:
            yield "labels", self.labels


def find_parts(
    root: Path,
    masks: str | bool | None = None,
    boxes: str | None = None,
    test_list: str | None = None,
    labels: str | bool | None = None,
) -> Parts:
    """Look at what lies below ``root``; opens no file.

    Args:
        root: holds a folder per class, each with its images, in folders of their own or not.
        masks: the folder of masks. None: ``root/masks``, if it holds PNG files (else it is a class); False: none,
            what is in ``root/masks`` is left out.
        boxes: what :func:`seg.data.box_lists.read_boxes` reads. None: ``boxes.csv``, ``boxes.json`` or the
            folder ``boxes`` with XML files, whichever is in ``root``.
        test_list: a file that names the test images.
        labels: a file that says the classes of the images, which may then lie in any folders or in none. None:
            ``root/labels.csv``, if it is there; False: the folders are the classes, whether it is there or not.

    Raises:
        MissingDataError: there is no such folder, or no image in a folder of a class.
        SegError: one of the others is not there, or the folders are splits or parts of the official layout.
    """
    if not root.is_dir():
        raise MissingDataError(f"data.root={root}: no such folder; give one with a folder of photos for each class")
    if (root / "annotations" / "trainval.txt").is_file():
        raise SegError(f"data.root={root}: has the official layout of Oxford-IIIT Pet; use data=oxford_pet for it")
    there = _masks_folder(root, masks)
    masks_folder = None if masks is False else there
    usual = _masks_folder(root, None)  # no class, wherever the masks are that count
    box_list = _box_list(root, boxes)
    if test_list is not None and not Path(test_list).is_file():
        raise SegError(f"data.test_list={test_list}: no such file; give a file with the name of an image per line")
    label_list = _label_list(root, labels)
    skipped: defaultdict[str, list[str]] = defaultdict(list)
    aside = [p.resolve() for p in (there, usual, box_list) if p is not None]
    if usual is not None and there is not None and usual.resolve() != there.resolve():
        skipped[f"folders of masks beside data.masks={masks} (not used)"].append(usual.name)
    # Not asked of the entries, which raise an error for a link to itself.
    entries = [Path(e) for e in scan(root) if not e.name.startswith(".")]
    folders = [p for p in entries if os.path.isdir(p) and p.resolve() not in aside]
    images: dict[str, Path] = {}
    links = _Links(root, skipped)
    for folder in folders:
        if not links.follows(folder):
            continue
        found = dict(_images(root, folder, aside, links, skipped))
        if not found:
            skipped["folders without images (no class)"].append(folder.name)
        images |= found
    loose = [p.name for p in entries if os.path.isfile(p) and _is_image(p.name)]
    if label_list is not None:
        images |= _pick(root, root, loose, skipped)
    if not images:
        what = f"its {len(loose)} images lie in no folder" if loose else "no image in a folder of a class"
        remedy = f"put each class's into one, as {root.name}/cat/1.jpg, or write their classes into labels.csv"
        raise MissingDataError(f"data.root={root}: {what}; {remedy}" if label_list is None else f"{root}: no image")
    names = {name.split("/")[0] for name in images}
    if label_list is None and len(names) > 1 and {name.lower() for name in names} <= _SPLITS:
        raise SegError(
            f"data.root={root}: its folders {', '.join(sorted(names))} are splits, not classes; put the classes' "
            "folders side by side and name the test images in a file, data.test_list="
        )
    if loose and label_list is None:
        skipped["images beside the folders of the classes (not used)"] = loose
    return Parts(
        root=root,
        images=images,
        masks=dict(_pngs(masks_folder)) if masks_folder else {},
        masks_folder=masks_folder,
        boxes=box_list,
        test_list=Path(test_list) if test_list is not None else None,
        labels=label_list,
        skipped=dict(skipped),
    )


def _masks_folder(root: Path, masks: str | bool | None) -> Path | None:
    if isinstance(masks, str):
        if not Path(masks).is_dir():
            raise SegError(f"data.masks={masks}: no such folder; give one of PNG masks with the images' names")
        return Path(masks)
    default = root / "masks"
    return default if default.is_dir() and any(_pngs(default)) else None


def _box_list(root: Path, boxes: str | None) -> Path | None:
    if boxes is not None:
        box_files(Path(boxes))
        return Path(boxes)
    there = [p for p in (root / "boxes.csv", root / "boxes.json") if p.is_file()]
    if any((root / "boxes").rglob("*.xml")):
        there.append(root / "boxes")
    if len(there) > 1:
        raise SegError(f"{' and '.join(map(str, there))}: say which to use with data.boxes_from=")
    return there[0] if there else None


def _label_list(root: Path, labels: str | bool | None) -> Path | None:
    if isinstance(labels, str):
        if not Path(labels).is_file():
            raise SegError(f"data.labels_from={labels}: no such file; give a CSV with the columns file,labels")
        return Path(labels)
    default = root / "labels.csv"
    return default if labels is None and default.is_file() else None


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _pngs(folder: Path) -> Iterator[tuple[str, Path]]:
    names = [Path(place, file) for place, _, files in os.walk(folder, onerror=_unreadable) for file in files]
    for path in sorted(names):
        if path.suffix.lower() == ".png" and not path.name.startswith("."):
            yield path.relative_to(folder).with_suffix("").as_posix(), path


class _Links:
    """Which links to folders are followed: none to what is here already, which would make copies of its images."""

    def __init__(self, root: Path, skipped: dict[str, list[str]]) -> None:
        self._root, self._skipped = root, skipped
        self._home = root.resolve()
        self._seen: set[Path] = set()

    def follows(self, folder: Path) -> bool:
        """Whether to look into a folder; one that is no link always."""
        if not folder.is_symlink():
            return True
        target = folder.resolve()
        if any(target.is_relative_to(x) or x.is_relative_to(target) for x in (self._home, *self._seen)):
            name = folder.relative_to(self._root).as_posix()
            self._skipped["links to folders that are looked at anyway (not followed)"].append(name)
            return False
        self._seen.add(target)
        return True


def _unreadable(error: OSError) -> None:
    raise SegError(f"{error.filename}: cannot be read ({error.strerror or error}); change its permissions") from error


def _images(
    root: Path, folder: Path, aside: list[Path], links: _Links, skipped: dict[str, list[str]]
) -> Iterator[tuple[str, Path]]:
    """Images of a class by ``class/.../file``, in order; of one stem under several suffixes the best."""
    for place, inner, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        inner[:] = sorted(d for d in inner if not d.startswith(".") and (Path(place) / d).resolve() not in aside)
        inner[:] = [d for d in inner if links.follows(Path(place) / d)]
        yield from _pick(root, Path(place), files, skipped).items()


def _pick(root: Path, place: Path, files: Iterable[str], skipped: dict[str, list[str]]) -> dict[str, Path]:
    """The images among the files of a folder, by their names below the root."""
    where = "" if place == root else f"{place.relative_to(root).as_posix()}/"
    stems: dict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        if file.startswith("._"):
            skipped["'._' files that macOS left behind (skipped)"].append(f"{where}{file}")
        elif _is_image(file):
            stems[os.path.splitext(file)[0]].append(file)
        elif not file.startswith("."):
            skipped["files of other kinds (skipped)"].append(f"{where}{file}")
    picked = {}
    for several in stems.values():
        best, *others = sorted(several, key=lambda name: IMAGE_SUFFIXES.index(os.path.splitext(name)[1].lower()))
        for other in others:
            skipped["images of the name of another, in another format (skipped)"].append(f"{where}{other}")
        picked[f"{where}{best}"] = place / best
    return picked


def image_ids(names: Iterable[str]) -> dict[str, str]:
    """Id by name: the stem, or the whole ``class_stem`` where several images have that stem.

    Raises:
        SegError: two images would go by one id, or a name has characters that no text file holds.
    """
    stems = {name: name.rpartition(".")[0] for name in names}
    count = Counter(stem.rpartition("/")[2] for stem in stems.values())
    ids: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name, stem in stems.items():
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
            raise SegError(f"{name[:200]!r}: a name with characters that cannot be written; rename the file")
        short = stem.rpartition("/")[2]
        ids[name] = short if count[short] == 1 else stem.replace("/", "_")
        if too_long(ids[name]):
            raise SegError(f"{name[:100]}...: {TOO_LONG}")
        if (other := taken.setdefault(ids[name], name)) != name:
            raise SegError(f"{other} and {name}: both would be called {ids[name]}; rename one")
    return ids


class Names:
    """Which image is meant by a name in a list; ``ids`` as of :func:`image_ids`."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        self._images: defaultdict[str, set[str]] = defaultdict(set)
        for name, image_id in ids.items():
            stem = name.rpartition(".")[0]
            for said in (name, stem, name.rpartition("/")[2], stem.rpartition("/")[2], image_id):
                self._images[said].add(image_id)

    def find(self, said: str, *, anywhere: bool = False) -> str | None:
        """Id of the image called so: by id, file name, ``class/file``, either without the suffix.

        Args:
            said: the name. anywhere: look past leading folders, which were those of another place.

        Raises:
            SegError: several images are called so.
        """
        said = said.replace("\\", "/").removeprefix("./")
        while said not in self._images and anywhere and "/" in said:
            said = said.partition("/")[2]
        found = self._images.get(said, set())
        if len(found) > 1:
            raise SegError(f"{said!r} is the name of {len(found)} images; write class/file")
        return next(iter(found), None)
