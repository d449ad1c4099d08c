"""A folder of photos, one folder per class or labels in a file, and the masks, boxes and lists that lie beside them."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from seg.data.box_lists import box_files
from seg.data.decode import formats
from seg.data.layout import IMAGE_SUFFIXES, TOO_LONG, MissingDataError, is_writable, scan, too_long
from seg.errors import SegError

#: Folders by these names hold a split, not a class.
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "trainval", "test", "testing"})
_LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif")
# Endings of pictures that are not read, or only where Pillow was built with their library.
_UNREAD = ".heic .heif .avif .jxl .dng .cr2 .cr3 .nef .arw .orf .rw2 .raw .psd .svg .eps .tga .ico .exr .dcm .nii .pdf"
#: Folders by these names hold masks, not a class.
_MASK_FOLDERS = frozenset({"masks", "mask", "ground_truth", "groundtruth", "gt", "segmentations"})
ANOTHER_FORMAT = "images of the name of another, in another format (skipped)"
_OTHER_IMAGES = frozenset(_UNREAD.split())
# What tools put behind an image's name to name its mask: MVTec and Carvana, ISIC, others.
_MASK_SUFFIXES = ("_mask", "-mask", "_segmentation", "_seg", "_gt", "_labels", "_label", "_matte")


@dataclass(frozen=True)
class Parts:
    """The files of a data set, found by their names alone.

    Attributes:
        images: by ``class/file`` (relative to the root), in order; one per folder and stem.
        masks: by name relative to ``masks_folder``.
        mask_suffix: what stands between an image's stem and the ending in the name of its mask.
        labels: the file that says the images' classes; None where their folders do.
        skipped: names that were not used, by a sentence that says why.
    """

    root: Path
    images: dict[str, Path]
    masks: dict[str, Path]
    masks_folder: Path | None
    mask_suffix: str
    boxes: Path | None
    test_list: Path | None
    labels: Path | None
    skipped: dict[str, list[str]]

    def content(self) -> Iterator[tuple[str, Path]]:
        """Name and path of every file that can change what is read."""
        yield from ((f"images/{name}", path) for name, path in self.images.items())
        yield from ((f"masks/{name}", path) for name, path in self.masks.items())
        if self.boxes is not None:
            base = self.boxes if self.boxes.is_dir() else None
            for path in box_files(self.boxes):
                yield f"boxes/{path.relative_to(base).as_posix() if base else path.suffix}", path
        yield from ((n, p) for n, p in (("test_list", self.test_list), ("labels", self.labels)) if p is not None)


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
        SegError: one of the others is not there, masks are lossy, or the folders are splits or parts of the official
            layout.
    """
    if not root.is_dir():
        raise MissingDataError(
            f"data.root={root}: no such folder{_looked_for(root)}; give one with a folder of photos for each class"
        )
    if (root / "annotations" / "trainval.txt").is_file():
        raise SegError(f"data.root={root}: has the official layout of Oxford-IIIT Pet; use data=oxford_pet for it")
    usual = [Path(e) for e in scan(root) if e.name.lower() in _MASK_FOLDERS and os.path.isdir(e)]
    folder = _given("masks", masks, "folder; give one of PNG masks with the images' names")
    if folder is None and len(usual) > 1 and masks is not False:
        raise SegError(f"{' and '.join(map(str, usual))}: say which to use with data.masks=")
    box_list = _box_list(root, boxes)
    test = _given("test_list", test_list, "file; give a file with the name of an image per line")
    label_list = _given("labels_from", labels, "file; give a CSV with the columns file,labels")
    if labels is None and (root / "labels.csv").is_file():
        label_list = root / "labels.csv"
    skipped: defaultdict[str, list[str]] = defaultdict(list)
    aside = {p.resolve() for p in (folder, *usual, box_list) if p is not None}
    if folder is not None:
        others = (path.name for path in usual if path.resolve() != folder.resolve())
        skipped[f"folders of masks beside data.masks={masks} (not used)"] += others
    elif usual and masks is None:
        folder = usual[0]
    below: dict[str, dict[str, Path]] = {}
    for place, files in _walk(root, aside, skipped):
        below.setdefault(place.relative_to(root).parts[0] if place != root else "", {}).update(
            _pick(root, place, files, skipped)
        )
    loose = below.pop("", {})
    tables = {path for ending in (".csv", ".tsv", ".json", ".xlsx") for path in root.glob(f"[!.]*{ending}")}
    unused = sorted(path.name for path in tables - {box_list, label_list, test})
    skipped["tables in data.root (not used; see data.labels_from, data.boxes_from)"] += unused
    skipped["folders without images (no class)"] += [name for name, own in below.items() if not own]
    images = {name: path for own in below.values() for name, path in own.items()}
    if label_list is not None:
        images |= loose
    elif images:
        skipped["images beside the folders of the classes (not used)"] += loose
    if not images:
        what = f"its {len(loose)} images lie in no folder" if loose else "no image in a folder of a class"
        what += "".join(f", but {len(own)} {why}" for why, own in skipped.items() if why.startswith("files ending"))
        remedy = f"put each class's into one, as {root.name}/cat/1.jpg, or write their classes into labels.csv"
        raise MissingDataError(f"data.root={root}: {what}; {remedy}" if label_list is None else f"{root}: no image")
    names = {name.split("/")[0] for name in images}
    if label_list is None and {name.lower().removesuffix("annot") for name in names} <= _SPLITS:
        raise SegError(
            f"data.root={root}: its folders {', '.join(sorted(names))} are splits, not classes; put the classes' "
            "folders side by side and name the test images in a file, data.test_list="
        )
    inside = [name for name in images if not _MASK_FOLDERS.isdisjoint(name.lower().split("/")[1:-1])]
    if inside:
        raise SegError(
            f"{root / inside[0]}: looks like a mask among the images; put the masks of {root.name}/cat into "
            f"{root.name}/masks/cat (or, if they are photos, rename the folder)"
        )
    images, found, suffix = _split_masks(images, folder, mask_suffix)
    if masks is False:
        found, suffix = {}, ""
    return Parts(
        root=root,
        images=images,
        masks=found,
        masks_folder=folder or root if found else None,
        mask_suffix=suffix,
        boxes=box_list,
        test_list=test,
        labels=label_list,
        skipped={why: own for why, own in skipped.items() if own},
    )


def _looked_for(path: Path) -> str:
    """The whole path of a relative one; and what Hydra may have done to it."""
    if path.is_absolute():
        return ""
    cause = " (hydra.job.chdir=true moved the run there: give the whole path)" if Path(".hydra").is_dir() else ""
    return f" at {path.absolute()}{cause}"


def _given(key: str, said: str | bool | None, what: str) -> Path | None:
    if not isinstance(said, str):
        return None
    path = Path(said)
    if not (path.is_dir() if what.startswith("folder") else path.is_file()):
        kind, _, remedy = what.partition(";")
        raise SegError(f"data.{key}={said}: no such {kind}{_looked_for(path)};{remedy}")
    return path


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


def _unreadable(error: OSError) -> None:
    raise SegError(f"{error.filename}: cannot be read ({error.strerror or error}); change its permissions") from error


def _walk(root: Path, aside: set[Path], skipped: dict[str, list[str]]) -> Iterator[tuple[Path, list[str]]]:
    """Folders with their files, in order. Of links to folders none to what is here already, which would make copies."""
    seen = {root.resolve()}

    def follows(folder: Path) -> bool:
        target = folder.resolve()
        if target in aside or folder.name.startswith("."):
            return False
        if folder.is_symlink():
            if any(target.is_relative_to(x) or x.is_relative_to(target) for x in seen):
                name = folder.relative_to(root).as_posix()
                skipped["links to folders that are looked at anyway (not followed)"].append(name)
                return False
            seen.add(target)
        return True

    for place, inner, files in os.walk(root, onerror=_unreadable, followlinks=True):
        inner[:] = [name for name in sorted(inner) if follows(Path(place, name))]
        yield Path(place), sorted(files)


def _pick(root: Path, place: Path, files: Iterable[str], skipped: dict[str, list[str]]) -> dict[str, Path]:
    """The images among the files of a folder, by their names below the root; of one stem the best format."""
    where = "" if place == root else f"{place.relative_to(root).as_posix()}/"
    stems: dict[str, list[str]] = defaultdict(list)
    for file in files:
        stem, ending = os.path.splitext(file)
        ending = ending.lower()
        if file.startswith("._"):
            skipped["'._' files that macOS left behind (skipped)"].append(f"{where}{file}")
        elif file.startswith("."):
            continue
        elif ending in IMAGE_SUFFIXES and Image.registered_extensions()[ending] in formats():
            stems[normalise_name(stem)].append(file)
        elif ending in _OTHER_IMAGES or ending in Image.registered_extensions():
            why = f"files ending in {ending}, which are not read here (not used; convert them to JPEG or PNG)"
            skipped[why].append(f"{where}{file}")
        elif place != root:
            skipped["files of other kinds (skipped)"].append(f"{where}{file}")
    picked = {}
    for several in stems.values():
        best, *others = sorted(several, key=lambda name: IMAGE_SUFFIXES.index(os.path.splitext(name)[1].lower()))
        for other in others:
            skipped[ANOTHER_FORMAT].append(f"{where}{other}")
        picked[normalise_name(f"{where}{best}")] = place / best
    return picked


def _split_masks(
    images: dict[str, Path], folder: Path | None, suffix: str | None
) -> tuple[dict[str, Path], dict[str, Path], str]:
    """The images that are no masks; the masks of them and of the folder; the suffix, found where it is None."""
    stems = {name.rpartition(".")[0] for name in images}
    masks: dict[str, Path] = {}
    for end in _MASK_SUFFIXES if suffix is None else (suffix,) if suffix else ():
        if any(stem.endswith(end) and stem.removesuffix(end) in stems for stem in stems):
            masks, suffix = {n: p for n, p in images.items() if Path(n).stem.endswith(end)}, end
            images = {name: path for name, path in images.items() if name not in masks}
            break
    photos = {os.path.abspath(path) for path in images.values()}  # where masks lie among them
    for place, inner, files in os.walk(folder, onerror=_unreadable) if folder else ():
        inner.sort()
        for path in (Path(place, file) for file in sorted(files) if not file.startswith(".")):
            if path.suffix.lower() in (*IMAGE_SUFFIXES, *_OTHER_IMAGES) and os.path.abspath(path) not in photos:
                masks[normalise_name(path.relative_to(folder or "").as_posix())] = path
    if lossy := [path for path in masks.values() if path.suffix.lower() not in _LOSSLESS]:
        raise SegError(
            f"{lossy[0]}: {len(lossy)} of {len(masks)} masks are in a format that changes pixels (JPEG, WebP, ...); "
            "make PNG of the originals, or leave the masks out with data.masks=false (if they are photos that end in "
            "_mask or the like: data.mask_suffix='')"
        )
    own, called = {name.rpartition("/")[2] for name in (*stems, *images)}, [Path(name).stem for name in masks]
    if suffix is None and own.isdisjoint(called):
        ends = Counter(s[i:] for s in called for i in range(len(s)) if s[i] in "_-. " and s[:i] in own)
        suffix = ends.most_common(1)[0][0] if ends else None
    return images, masks, suffix or ""


def normalise_name(name: str) -> str:
    """A file's name to compare by: ``/`` between folders, and accents as one character (macOS writes two)."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


def image_ids(names: Iterable[str]) -> dict[str, str]:
    """Id by name: the stem, or the whole ``class_stem`` where several images have that stem.

    Raises:
        SegError: two images would go by one id, or a name has characters that no text file holds.
    """
    stems = {name: name.rpartition(".")[0] for name in names}
    count = Counter(stem.rpartition("/")[2] for stem in stems.values())
    taken: dict[str, str] = {}
    for name, stem in stems.items():
        if not is_writable(name):
            raise SegError(f"{name[:200]!r}: a name with characters that cannot be written; rename the file")
        short = stem.rpartition("/")[2]
        image_id = short if count[short] == 1 else stem.replace("/", "_")
        if too_long(image_id):
            raise SegError(f"{name[:100]}...: {TOO_LONG}")
        if (other := taken.setdefault(image_id, name)) != name:
            raise SegError(f"{other} and {name}: both would be called {image_id}; rename one")
    return {name: image_id for image_id, name in taken.items()}


class Names:
    """Which image is meant by a name in a list; ``ids`` as of :func:`image_ids`."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        self._images: defaultdict[str, set[str]] = defaultdict(set)
        self._folders = {normalise_name(name).split("/")[0] for name in ids if "/" in name}
        for name, image_id in ids.items():
            stem = name.rpartition(".")[0]
            for said in (name, stem, name.rpartition("/")[2], stem.rpartition("/")[2], image_id):
                self._images[normalise_name(said)].add(image_id)

    def knows(self, said: str) -> bool:
        """Whether an image, or several, are called so, wherever they lie."""
        try:
            return self.find(said, anywhere=True) is not None
        except SegError:
            return True

    def find(self, said: str, *, anywhere: bool = False) -> str | None:
        """Id of the image called so: by id, file name, ``class/file``, with any ending of images or none.

        Args:
            said: the name. anywhere: look past leading folders, which were those of another place.

        Raises:
            SegError: several images are called so.
        """
        said = normalise_name(said)
        while True:
            stem, ending = os.path.splitext(said)
            found = self._images.get(said) or (self._images.get(stem) if ending.lower() in IMAGE_SUFFIXES else None)
            folder, _, rest = said.partition("/")
            if found or not anywhere or not rest or folder in self._folders:
                break  # dog/2.jpg is not cat/2.jpg
            said = rest
        if found and len(found) > 1:
            raise SegError(f"{said!r} is the name of {len(found)} images; write class/file")
        return next(iter(found), None) if found else None
