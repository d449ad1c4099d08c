"""The official Oxford-IIIT Pet folder layout, with the peculiarities that such folders have in the wild."""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from seg.data.boxes import read_box_file
from seg.data.dataset import Box, Dataset, Record, Split
from seg.errors import SegError

FOLDER = "oxford-iiit-pet"
# In order of preference, should one stem come under two names.
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_LISTS = ("trainval", "test")
_SHOWN_PROBLEMS = 5
_SHOWN_EXAMPLES = 3


class MissingDataError(SegError):
    """There is no data set at this place, or a part without which nothing can be done is not there."""


@dataclass
class _Findings:
    """What was met while reading: peculiarities to live with, and problems to stop for."""

    quirks: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def quirk(self, sentence: str, names: Iterable[str]) -> None:
        names = list(names)
        if names:
            self.quirks[sentence] += len(names)
            self.examples[sentence] = (*self.examples.get(sentence, ()), *names)[:_SHOWN_EXAMPLES]

    def stop_if_any(self, folder: Path) -> None:
        found = self.problems
        if len(found) == 1:
            raise SegError(found[0])
        if found:
            more = [f"and {len(found) - _SHOWN_PROBLEMS} more"] if len(found) > _SHOWN_PROBLEMS else []
            lines = [f"{len(found)} problems in {folder}:", *found[:_SHOWN_PROBLEMS], *more]
            raise SegError("\n  ".join(lines))


@dataclass(frozen=True)
class _Line:
    """A line of a list: image id, official class id (from 1), and where it stands."""

    id: str
    class_id: int
    where: str


def layout_folder(root: Path) -> Path:
    """Folder that holds ``images/`` and ``annotations/``: ``root/oxford-iiit-pet``, or ``root`` itself."""
    inner = root / FOLDER
    itself = (root / "images").is_dir() or (root / "annotations").is_dir()
    return root if itself and not inner.is_dir() else inner


def missing_parts(root: Path) -> tuple[str, ...]:
    """Names of the parts without which nothing can be read (empty: all there), relative to the layout."""
    folder = layout_folder(root)
    if not folder.is_dir():
        return (FOLDER,)
    lists = [f"annotations/{name}.txt" for name in _LISTS if not (folder / f"annotations/{name}.txt").is_file()]
    return tuple([] if (folder / "images").is_dir() else ["images"]) + tuple(lists)


def read_official_layout(root: Path, *, title: str, is_toy: bool = False) -> Dataset:
    """Read lists, boxes and file names of ``root/oxford-iiit-pet`` (or of ``root`` itself); open no image.

    The classes are those of ``trainval.txt`` and ``test.txt``, ordered by their official ids, which may
    have gaps; the label is the place in that order. Names are the image names without their number
    (``american_bulldog_12`` is an ``american_bulldog``). ``list.txt`` is a check only and may be missing.
    An image that both lists name is kept in test and dropped from trainval.

    Args:
        root: where the data lie.
        title: what reports call the data.
        is_toy: whether the pictures are drawn.

    Returns:
        The data set; ``quirks`` counts what is unusual, ``examples`` names up to three of each.

    Raises:
        MissingDataError: ``images/`` or one of the two lists is not there, or no listed image is.
        SegError: a malformed line, a class id out of range, a class without trainval images, and what
            :func:`seg.data.boxes.read_box_file` refuses. All problems of a kind are reported together.
    """
    folder = layout_folder(root)
    if missing := missing_parts(root):
        raise MissingDataError(f"no Oxford-IIIT Pet data at {root}: missing {', '.join(missing)}")
    found = _Findings()
    annotations = folder / "annotations"
    lines = {name: _read_list(annotations / f"{name}.txt", found) for name in _LISTS}
    reference = _read_list(annotations / "list.txt", found) if (annotations / "list.txt").is_file() else []
    listed = _without_leakage(lines, found)
    names = _class_names([line for name in _LISTS for line in lines[name]], reference, found)
    found.stop_if_any(folder)  # what follows would only repeat the problems of the lists
    _compare(listed, reference, found)

    images = _images(folder / "images", found)
    trimaps = _stems(annotations / "trimaps", (".png",), found)
    box_files = _stems(annotations / "xmls", (".xml",), found)
    found.quirk("listed images that are missing", (i for i in listed if i not in images))
    found.quirk("images that no list names (not used)", (i for i in images if i not in listed))
    found.quirk("trimaps of images that no list names", (i for i in trimaps if i not in listed))
    found.quirk("box files of images that no list names (not read)", (i for i in box_files if i not in listed))
    present = {i: entry for i, entry in listed.items() if i in images}
    if not present:
        raise MissingDataError(f"none of the {len(listed)} listed images is in {folder / 'images'}")
    found.quirk("images without a trimap", (i for i in present if i not in trimaps))
    trained = {line.class_id for line, split in present.values() if split == "trainval"}
    found.problems += [
        f"empty class: {name!r} (id {i}) has no trainval image; add some, or take its lines out of the lists"
        for i, name in names.items()
        if i not in trained
    ]
    boxes = _boxes({i: box_files[i] for i in present if i in box_files}, found)
    found.quirk(
        "trainval images without boxes",
        (i for i, (_, split) in present.items() if split == "trainval" and not boxes.get(i)),
    )
    found.stop_if_any(folder)

    label = {class_id: index for index, class_id in enumerate(names)}
    records = tuple(
        Record(i, images[i], label[line.class_id], split, trimaps.get(i), boxes.get(i, ()))
        for i, (line, split) in present.items()
    )
    return Dataset(title, tuple(names.values()), records, found.quirks, is_toy, found.examples)


def _read_list(path: Path, found: _Findings) -> list[_Line]:
    """Lines ``stem class-id species breed-id`` (the last two may be left out); comments and blanks skipped."""
    lines, blank, comments = [], [], []
    for number, text in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        where = f"{path} line {number}"
        parts = text.split()
        if not parts:
            blank.append(f"{path.name} line {number}")
        elif parts[0].startswith("#"):
            comments.append(f"{path.name} line {number}")
        elif len(parts) not in (2, 4) or not all(part.isascii() and part.isdigit() for part in parts[1:]):
            shown = text if len(text) <= 60 else text[:57] + "..."
            found.problems.append(f"{where}: {shown!r} is not 'name class-id species breed-id'")
        elif not parts[0].rpartition("_")[0]:
            found.problems.append(f"{where}: {parts[0]!r} does not name its class, as in 'beagle_7'")
        else:
            lines.append(_Line(parts[0], int(parts[1]), where))
    found.quirk("blank lines in the lists", blank)
    found.quirk("comment lines in the lists", comments)
    return lines


def _without_leakage(lines: dict[str, list[_Line]], found: _Findings) -> dict[str, tuple[_Line, Split]]:
    """Every listed image once, trainval first; those of test never in trainval."""
    test = {line.id for line in lines["test"]}
    listed: dict[str, tuple[_Line, Split]] = {}
    twice, both = [], []
    for split in _LISTS:
        seen: set[str] = set()
        for line in lines[split]:
            if line.id in seen:
                twice.append(line.id)
            elif split == "trainval" and line.id in test:
                both.append(line.id)
            else:
                listed[line.id] = (line, cast(Split, split))
            seen.add(line.id)
    found.quirk("images listed twice in a split (kept once)", twice)
    found.quirk("images listed in both splits (kept in test only)", both)
    return listed


def _class_names(lines: list[_Line], reference: list[_Line], found: _Findings) -> dict[int, str]:
    """Class name by official id, ascending. Lines that contradict the majority of theirs are problems."""
    known = {line.class_id for line in reference}
    ids: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for line in lines:
        ids[_class_of(line.id)][line.class_id] += 1
    usual = {name: counts.most_common(1)[0][0] for name, counts in ids.items()}
    for line in lines:
        if line.class_id < 1 or (known and line.class_id not in known):
            limits = f"the ids of list.txt ({min(known)} to {max(known)})" if known else "1 and above"
            found.problems.append(f"{line.where}: class id {line.class_id} out of range, which is {limits}")
        elif line.class_id != usual[_class_of(line.id)]:
            is_usual = usual[_class_of(line.id)]
            found.problems.append(f"{line.where}: {line.id!r} has class id {line.class_id}, its class has {is_usual}")
    names: dict[int, str] = {}
    for name, class_id in sorted(usual.items(), key=lambda item: item[1]):
        if class_id in names:
            found.problems.append(f"class id {class_id} goes by two names, {names[class_id]!r} and {name!r}")
        names.setdefault(class_id, name)
    return names


def _class_of(image_id: str) -> str:
    return image_id.rpartition("_")[0]


def _compare(listed: dict[str, tuple[_Line, Split]], reference: list[_Line], found: _Findings) -> None:
    """Hold the splits against list.txt, which names the images of both."""
    if not reference:
        return
    ids = {line.id: line.class_id for line in reference}
    found.quirk("images of list.txt that neither split names", (i for i in ids if i not in listed))
    found.quirk("images of the splits that list.txt lacks", (i for i in listed if i not in ids))
    found.quirk(
        "images with another class id in list.txt (not followed)",
        (i for i, (line, _) in listed.items() if ids.get(i, line.class_id) != line.class_id),
    )


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder in the order of their names; none where it is missing."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _stems(folder: Path, suffixes: tuple[str, ...], found: _Findings) -> dict[str, Path]:
    """Path by stem of the files with one of the suffixes (the first suffix wins), macOS leftovers left out."""
    best: dict[str, tuple[int, str]] = {}
    leftovers, others = [], []
    for entry in _scan(folder):
        stem, suffix = os.path.splitext(entry.name)
        suffix = suffix.lower()
        if entry.name.startswith("._"):
            leftovers.append(f"{folder.name}/{entry.name}")
        elif suffix not in suffixes:
            others.append(f"{folder.name}/{entry.name}")
        else:
            best[stem] = min(best.get(stem, (len(suffixes), "")), (suffixes.index(suffix), entry.name))
    found.quirk("'._' files that macOS left behind (skipped)", leftovers)
    found.quirk("files of other kinds (skipped)", others)
    return {stem: folder / name for stem, (_, name) in best.items()}


def _images(folder: Path, found: _Findings) -> dict[str, Path]:
    return _stems(folder, _IMAGE_SUFFIXES, found)


def _boxes(files: dict[str, Path], found: _Findings) -> dict[str, tuple[Box, ...]]:
    """Boxes by image id. The name of the XML file counts, not the ``<filename>`` inside of it."""
    boxes: dict[str, tuple[Box, ...]] = {}
    several, none, misnamed, unsized = [], [], [], []
    for image_id, path in files.items():
        try:
            content = read_box_file(path)
        except SegError as error:
            found.problems.append(str(error))
            continue
        boxes[image_id] = content.boxes
        if len(content.boxes) > 1:
            several.append(image_id)
        if not content.boxes:
            none.append(image_id)
        if content.filename is not None and os.path.splitext(content.filename)[0] != image_id:
            misnamed.append(image_id)
        if content.size is None:
            unsized.append(image_id)
    found.quirk("box files with several objects", several)
    found.quirk("box files without an object", none)
    found.quirk("box files whose <filename> is another image's (the file's own name counts)", misnamed)
    found.quirk("box files without an image size (upper limits not checked)", unsized)
    return boxes


def layout_fingerprint(root: Path, cache: Path | None = None) -> str:
    """Hash of what the data set contains, wherever it lies: names, sizes and contents of its files.

    Args:
        root: as in :func:`read_official_layout`.
        cache: a JSON file that remembers the content hashes of files by name, size and time of change, so
            that a second call opens none of them. It is made if it is missing, and only saves time: it is
            done without where it cannot be read or written.

    Returns:
        sha256 in hex over the sorted (relative name, size, sha256 of the content) of images, trimaps, box
        files and lists.

    Raises:
        MissingDataError: there is no data set.
        SegError: a file cannot be read.
    """
    folder = layout_folder(root)
    if missing := missing_parts(root):
        raise MissingDataError(f"no Oxford-IIIT Pet data at {root}: missing {', '.join(missing)}")
    # The folder is part of the cache: a copy may keep names, sizes and times and yet differ.
    place = str(folder.resolve())
    known = _read_cache(cache, place)
    files: dict[str, tuple[int, int, str]] = {}
    for name, entry in _content(folder):
        try:
            stat = entry.stat()
            old = known.get(name)
            if old is not None and old[0] == stat.st_size and old[1] == stat.st_mtime_ns:
                files[name] = (old[0], old[1], old[2])
            else:
                content = Path(entry.path).read_bytes()
                files[name] = (len(content), stat.st_mtime_ns, hashlib.sha256(content).hexdigest())
        except OSError as error:
            raise SegError(f"{entry.path}: cannot be read ({error.strerror or error})") from error
    if cache is not None and {k: tuple(v) for k, v in known.items()} != files:
        _write_cache(cache, place, files)
    text = "".join(f"{name}\0{size}\0{content}\n" for name, (size, _, content) in sorted(files.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _content(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Relative name and entry of every file that can change what is read."""
    for part, suffixes in (
        ("images", _IMAGE_SUFFIXES),
        ("annotations/trimaps", (".png",)),
        ("annotations/xmls", (".xml",)),
        ("annotations", (".txt",)),
    ):
        for entry in _scan(folder / part):
            if not entry.name.startswith("._") and entry.name.lower().endswith(suffixes):
                yield f"{part}/{entry.name}", entry


def _read_cache(cache: Path | None, place: str) -> dict[str, list]:
    if cache is None:
        return {}
    try:
        content = json.loads(cache.read_bytes())
        return content["files"] if content["folder"] == place else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _write_cache(cache: Path, place: str, files: dict[str, tuple[int, int, str]]) -> None:
    part = cache.with_name(f"{cache.name}.{os.getpid()}.part")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"folder": place, "files": files}), encoding="utf-8")
        part.replace(cache)
    except OSError:
        part.unlink(missing_ok=True)
