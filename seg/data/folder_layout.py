"""Names below a folder of photos: images, masks beside them, and which image a name in a list means."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from seg.data.layout import IMAGE_SUFFIXES, TOO_LONG, best_by_stem, is_writable, nfc, too_long
from seg.data.read_report import ReadReport
from seg.errors import SegError

#: Suffixes of masks: of MVTec and Carvana, ISIC, and other tools.
_MASK_SUFFIXES = ("_mask", "-mask", "_segmentation", "_seg", "_gt", "_labels", "_label", "_matte")
_NO_IMAGES = (".csv", ".tsv", ".json", ".txt", ".xml", ".xlsx", ".yaml", ".md")


def _unreadable(error: OSError) -> None:
    raise SegError(f"{error.filename}: cannot be read ({error.strerror or error}); change its permissions") from error


def images_below(root: Path, skip: Iterable[Path], report: ReadReport) -> dict[str, Path]:
    """Paths of the images below the root by relative name, one per folder and stem, without the folders in ``skip``.

    Links are followed; each folder is read once.
    """
    visited, images = {root.resolve(), *(path.resolve() for path in skip)}, {}

    def enters(folder: Path) -> bool:
        target = folder.resolve()
        inside = folder.is_symlink() and target.is_relative_to(root.resolve())
        if target in visited or inside or folder.name.startswith("."):
            return False
        visited.add(target)
        return True

    for place, inner, files in os.walk(root, onerror=_unreadable, followlinks=True):
        inner[:] = [name for name in sorted(inner) if enters(Path(place, name))]
        below = Path(place).relative_to(root)
        if place == os.fspath(root):  # the lists are here, too
            files = [name for name in files if not name.lower().endswith(_NO_IMAGES)]
        for name in best_by_stem(files, IMAGE_SUFFIXES, report, below.as_posix()).values():
            images[nfc((below / name).as_posix())] = Path(place, name)
    return images


def mask_name(suffix: str | None) -> re.Pattern[str]:
    """A pattern for the end of a mask's stem: the suffix, or for None the suffixes of tools."""
    ends = _MASK_SUFFIXES if suffix is None else (suffix,)
    return re.compile(f"(?:{'|'.join(map(re.escape, ends))})$")


def split_masks(
    images: dict[str, Path], folder: Path | None, end: re.Pattern[str]
) -> tuple[dict[str, Path], list[tuple[str, Path]]]:
    """Separate images from masks, which are in the folder or beside their image.

    Args:
        images: path by relative name. folder: of masks. end: see :func:`mask_name`.

    Returns:
        the images, and name and path of each mask.
    """
    stems = {name: name.rpartition(".")[0] for name in images}
    others = {*stems.values()}
    beside = {name for name, stem in stems.items() if end.sub("", stem) in others - {stem}}
    masks = [(name, images[name]) for name in beside]
    images = {name: path for name, path in images.items() if name not in beside}
    photos = {os.path.abspath(path) for path in images.values()}  # the masks' folder may hold photos, too
    walked = os.walk(folder, onerror=_unreadable) if folder else ()
    for path in sorted(Path(place, name) for place, _, files in walked for name in files):
        is_image = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        if is_image and os.path.abspath(path) not in photos:
            masks.append((nfc(path.relative_to(folder or "").as_posix()), path))
    return images, masks


def image_ids(names: Iterable[str]) -> dict[str, str]:
    """Id by name: the stem, or ``class_stem`` if several images have that stem.

    Raises:
        SegError: two images would have one id, or a name is too long or has control characters.
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
    """Finds images by the names in a list; ``ids`` is the result of :func:`image_ids`."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        self._ids: defaultdict[str, set[str]] = defaultdict(set)
        self._folders = {name.split("/")[0] for name in ids if "/" in name}
        for name, image_id in ids.items():
            stem = name.rpartition(".")[0]
            for known in (stem, os.path.basename(stem), image_id):
                self._ids[known].add(image_id)

    def find(self, name: str) -> str | None:
        """Id of the image of that id, file name or ``class/file``, with any image suffix or none.

        Leading folders of another machine are ignored.

        Raises:
            SegError: several images have that name.
        """
        name = nfc(name.replace("\\", "/")).removeprefix("./")
        while True:
            stem, ending = os.path.splitext(name)
            found = self._ids.get(stem if ending.lower() in IMAGE_SUFFIXES else name, set())
            folder, _, rest = name.partition("/")
            if found or not rest or folder in self._folders:
                break  # dog/2.jpg is not cat/2.jpg
            name = rest
        if len(found) > 1:
            raise SegError(f"{name!r} is the name of {len(found)} images; write class/file")
        return next(iter(found), None)
