"""Every image decoded once: memory-mapped arrays at working resolution."""

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from seg.data.dataset import BORDER, FOREGROUND, MOST_CLASSES, UNKNOWN, Codes, Dataset, Record, Task
from seg.data.decode import codes_in, decode_image, decode_trimap, draw_regions, formats, image_warnings, to_target
from seg.data.read_report import ReadReport
from seg.data.sources import Source
from seg.errors import SegError
from seg.files import rows_file, write_json
from seg.store import Products, Stage, param

log = logging.getLogger(__name__)

_WITHOUT_TARGET = "pool.images=with_masks: no image of the data has ground truth; use pool.images=all (data.images=all)"


@dataclass(frozen=True)
class PreparedData:
    """A data set in memory-mapped arrays; ``N`` images of side ``S``, rows ordered as the data set's.

    Attributes:
        title: name for people. classes: names by label.
        images: ``uint8 (N, S, S, 3)`` RGB, squashed to a square.
        ids: file stems. is_test: ``bool (N,)``. has_target: ``bool (N,)``.
        label_sets: per image the classes that are in it, ascending.
        sizes: ``int64 (N, 2)`` original height and width in pixels.
        boxes: per image a list of ``[xmin, ymin, xmax, ymax]`` in original pixels.
        box_labels: per image the class of each box; empty where all are of its one class.
        target_is_classes: whether the ground truth itself says of which class a pixel is.
        original: the data with all of their classes, where these are one in ``self``: the foreground.
    """

    title: str
    classes: tuple[str, ...]
    images: np.ndarray
    ids: list[str]
    label_sets: Sequence[tuple[int, ...]]
    is_test: np.ndarray
    has_target: np.ndarray
    sizes: np.ndarray
    boxes: list[list[list[float]]]
    box_labels: list[list[int]]
    target_is_classes: bool
    _target: np.ndarray = field(repr=False)
    _offsets: np.ndarray = field(repr=False)
    _originals: np.ndarray = field(repr=False)
    _codes: list[Codes | None] = field(repr=False)
    original: "PreparedData | None" = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def side(self) -> int:
        """Working resolution ``S`` in pixels."""
        return int(self.images.shape[1])

    @property
    def count(self) -> int:
        """How many classes the masks tell apart."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """What the codes of the masks mean, from 0 on."""
        return ("background", *self.classes)

    @property
    def as_read(self) -> "PreparedData":
        """The data with all of their classes."""
        return self.original or self

    def merged(self) -> "PreparedData":
        """The data with one class, the foreground, of every image that is labelled with a class."""
        shows = [(0,) if labels else () for labels in self.label_sets]
        nothing: list[list[int]] = [[]] * len(self)
        return replace(self, classes=(FOREGROUND,), label_sets=shows, box_labels=nothing, original=self)

    @cached_property
    def labels(self) -> np.ndarray:
        """``int64 (N,)``: the first class of every image, -1 for one without."""
        return np.asarray([labels[0] if labels else -1 for labels in self.label_sets], np.int64)

    @cached_property
    def has_one_label(self) -> bool:
        """Whether every image is of one class."""
        return all(len(labels) == 1 for labels in self.label_sets)

    @cached_property
    def is_labelled(self) -> np.ndarray:
        """``bool (N, classes)``: which classes are in which image."""
        out = np.zeros((len(self), len(self.classes)), bool)
        for row, labels in enumerate(self.label_sets):
            out[row, list(labels)] = True
        return out

    def target(self, rows: np.ndarray) -> np.ndarray:
        """Ground truth of some images: ``uint8 (b, S, S)``, 0 background, ``1 + class``, 254 border, 255 unknown."""
        return self._coded(self._target[rows], rows)

    def _coded(self, target: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Ground truth ``(b, H, W)`` of some images, as it was prepared, in these classes."""
        if self.original is not None:
            return np.where((target > 0) & (target < BORDER), np.uint8(1), target) if self.target_is_classes else target
        if self.target_is_classes:
            return target
        sets = [self.label_sets[row] for row in rows]
        # Of several classes it does not say which one a pixel is of.
        code = np.asarray([1 + own[0] if len(own) == 1 else UNKNOWN for own in sets], np.uint8)
        return np.where(target == 1, code[:, None, None], target)

    def original_target(self, row: int) -> np.ndarray:
        """Ground truth of one image at its original size: ``uint8 (H, W)``, coded as ``target``."""
        from PIL import Image

        if not self.has_target[row]:
            raise SegError(f"{self.ids[row]}: this image has no ground truth")
        start, end = self._offsets[row], self._offsets[row + 1]
        values = np.asarray(Image.open(io.BytesIO(self._originals[start:end].tobytes()), formats=formats()))
        codes = self._codes[row]
        return self._coded((values if codes is None else to_target(values, codes))[None], np.asarray([row]))[0]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row by image id."""
        return {name: i for i, name in enumerate(self.ids)}


class Prepared(Stage):
    """Decode every image of a source once.

    Images and ground-truth masks are squashed to ``size x size`` (images antialiased, masks to the nearest pixel); the
    ground truth at original size is kept beside them, compressed. Unreadable images are named, skipped and counted; an
    image whose ground truth is unreadable is used without it.

    Attributes:
        source: the data set.
        size: working resolution in pixels, a multiple of 32.
        max_bad_share: share of unreadable images and masks above which the run is refused; one is allowed
            unless this is 0.
    """

    what: ClassVar[str] = "images at working resolution"

    source: Source
    size: int = param(default=224, low=32)
    max_bad_share: float = param(default=0.01, low=0, high=1, key=False)

    def validate(self) -> None:
        """The networks halve five times."""
        if self.size % 32:
            raise SegError(f"data.size={self.size}: must be a multiple of 32, such as {self.size // 32 * 32 + 32}")

    def check(self, store: Products) -> None:
        """Refuse data without a label to learn from, if that is known before they are decoded."""
        if (dataset := self.source.seen(store)) is not None:
            _require_labels(dataset)

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Decode with a pool of threads (Pillow lets go of the interpreter lock while it decodes)."""
        dataset: Dataset = store.get(self.source)
        _require_labels(dataset)
        found = ReadReport(Counter(dataset.warnings), dict(dataset.examples))
        kept: list[tuple[Record, _Facts]] = []
        bad: dict[str, str] = {}  # the trouble of each image that is left out, and of each ground truth
        untrue: dict[str, str] = {}
        with rows_file(out / "images.npy", np.uint8) as images, rows_file(out / "target.npy", np.uint8) as targets:
            for record, decoded in self._decoded(dataset, store):
                if isinstance(decoded, SegError):
                    bad[record.id] = str(decoded)
                    log.warning("data: skipped: %s", decoded)
                    continue
                image, target, facts = decoded
                images.write(image[None])
                targets.write(target[None])
                if facts.trouble:
                    untrue[record.id] = facts.trouble
                    log.warning("data: image used without its ground truth: %s", facts.trouble)
                for warning in facts.warnings:
                    found.warn(warning, [record.id])
                kept.append((record, facts))
        self._refuse(dataset, list(bad.values()), list(untrue.values()))
        found.tell(logging.DEBUG if dataset.is_toy else logging.INFO)
        _refuse_other_codes(dataset, kept)
        np.save(out / "originals.npy", np.frombuffer(b"".join(facts.original for _, facts in kept), np.uint8))
        write_json(out / "index.json", _index(dataset, kept))
        # Names below the data's folder, for a product tells nothing of where that lies.
        names = dataset.file_names()
        return {
            "images": len(kept),
            "unreadable": [names[i] for i in bad],
            "ground truth unreadable": [names[i] for i in untrue],
            "warnings": dict(found.warnings),
        }

    def _decoded(self, dataset: Dataset, store: Products) -> "Iterator[tuple[Record, _Decoded | SegError]]":
        """Every record with what is in its files, in order."""

        def one(record: Record) -> "tuple[Record, _Decoded | SegError]":
            try:
                return record, _decode(record, self.size, len(dataset.classes))
            except SegError as error:
                return record, error

        with ThreadPoolExecutor(store.runtime.worker_count) as pool:
            yield from store.runtime.bar(pool.map(one, dataset.records), "decoding", len(dataset.records))

    def _refuse(self, dataset: Dataset, bad: list[str], untrue: list[str]) -> None:
        """Refuse too many unreadable files, more than one; and that no image or not one ground truth can be read."""
        both, n = bad + untrue, len(dataset.records)
        some = "; ".join(both[:3]) + ("; ..." if len(both) > 3 else "")
        if len(both) > (self.max_bad_share and max(1, self.max_bad_share * n)) or len(bad) == n:
            what = "images" if not untrue else f"images ({len(untrue)} for their ground truth)"
            raise SegError(
                f"{len(both)} of {n} {what} are unreadable, more than "
                f"data.prepared.max_bad_share={self.max_bad_share:g} allows: {some}"
            )
        if untrue and len(untrue) == sum(r.has_target for r in dataset.records):
            raise SegError(f"no ground truth can be read, so nothing could be measured: {some}; mend or remove them")

    def load(self, path: Path, store: Products) -> PreparedData:
        """Memory-map the arrays and read the index."""
        index = json.loads((path / "index.json").read_text())
        return PreparedData(
            title=self.source.title,
            classes=tuple(index["classes"]),
            images=np.load(path / "images.npy", mmap_mode="r"),
            ids=index["ids"],
            label_sets=[tuple(labels) for labels in index["labels"]],
            is_test=np.asarray(index["is_test"], bool),
            has_target=np.asarray(index["has_target"], bool),
            sizes=np.asarray(index["sizes"], np.int64).reshape(-1, 2),
            boxes=index["boxes"],
            box_labels=index["box_labels"],
            target_is_classes=index["target_is_classes"],
            _target=np.load(path / "target.npy", mmap_mode="r"),
            _offsets=np.asarray(index["offsets"], np.int64),
            _originals=np.load(path / "originals.npy", mmap_mode="r"),
            _codes=index["codes"],
        )


def _require_labels(dataset: Dataset) -> None:
    if not any(r.labels for r in dataset.records if r.split == "trainval"):
        raise SegError(
            "no trainval image of the data has a label, so nothing can be learnt; label some with what they show"
        )


def _refuse_other_codes(dataset: Dataset, kept: "list[tuple[Record, _Facts]]") -> None:
    """Refuse masks most of which speak for another convention than the one that they are read by."""
    masks = [(record, facts) for record, facts in kept if facts.original]
    wrong = [(record, facts) for record, facts in masks if facts.mismatch]
    # A mask that lacks one of several labels says little alone.
    if 4 * len(wrong) > len(masks) and 2 * sum(facts.differs for _, facts in masks) > len(masks):
        what, count = min(facts.mismatch for _, facts in wrong), len(dataset.classes)  # "codes" first
        raise SegError(
            f"{len(wrong)} of {len(masks)} masks {what} ({wrong[0][0].trimap}, say): 0 must be background, 1 to "
            f"{count} the classes in their order and 255 unknown; write these codes, or take data=image_folder with "
            "data.mask_codes=binary (0 and 255, 0 and 1) or ids (0, and any other number for an object)"
        )
    if masks and not any(facts.has_object for _, facts in masks):
        none = f"none of {len(masks)} masks shows an object, so no mIoU can be measured"
        if any(record.codes == "ids" for record, _ in masks):
            raise SegError(f"{none}; read as ids, 255 is unknown: for masks of 0 and 255 set data.mask_codes=binary")
        log.warning("data: %s", none)


class _Facts(NamedTuple):
    """Of one image: original size, the ground truth as a file, its codes and content, warnings, trouble with it.

    ``mismatch``: what its mask of classes does, if that speaks for another convention; ``differs``: whether it shows
    other classes than the labels say.
    """

    size: tuple[int, int]
    original: bytes = b""
    codes: Codes | None = None
    warnings: tuple[str, ...] = ()
    trouble: str = ""
    has_object: bool = False
    mismatch: str = ""
    differs: bool = False


_Decoded = tuple[np.ndarray, np.ndarray, _Facts]


def _index(dataset: Dataset, kept: list[tuple[Record, _Facts]]) -> dict[str, Any]:
    """What is known of the images beside their pixels, as JSON values."""
    return {
        "classes": dataset.classes,
        "ids": [record.id for record, _ in kept],
        "labels": [record.labels for record, _ in kept],
        "is_test": [record.split == "test" for record, _ in kept],
        "has_target": [bool(facts.original) for _, facts in kept],
        "sizes": [facts.size for _, facts in kept],
        "boxes": [record.boxes for record, _ in kept],
        "box_labels": [record.box_labels for record, _ in kept],
        "target_is_classes": dataset.target_is_classes,
        "offsets": np.cumsum([0, *(len(facts.original) for _, facts in kept)]).tolist(),
        "codes": [facts.codes for _, facts in kept],
    }


def _decode(record: Record, size: int, classes: int) -> _Decoded:
    from PIL import Image

    image, hw = decode_image(record.image, size)
    warnings = image_warnings(record.image)
    unknown = np.full((size, size), 255, np.uint8)
    if not record.has_target:
        return image, unknown, _Facts(hw, warnings=warnings)
    kind = "trimaps" if record.codes == "trimap" else "masks"
    photo = record.image if kind == "masks" else None
    try:
        if record.trimap is None:
            original, resized = draw_regions(record.regions or (), hw), False
        else:
            original, resized = decode_trimap(record.trimap, hw, record.codes, photo, record.colours)
    except SegError as error:
        warnings = (*warnings, f"{kind} that cannot be read (image used without)")
        return image, unknown, _Facts(hw, warnings=warnings, trouble=str(error))
    if (original == UNKNOWN).all():
        warnings = (*warnings, f"{kind} of which every pixel is unknown (image used without)")
        return image, unknown, _Facts(hw, warnings=warnings)
    if resized:
        warnings = (*warnings, f"{kind} of another size than their image, resized")
    codes: Codes | None = record.codes
    mismatch, differs = "", False
    if codes == "classes" and record.trimap is not None:
        there = set(codes_in(original)) - {0, UNKNOWN}
        if strange := sorted(there - {*range(1, classes + 1)}):
            original = np.where(np.isin(original, strange), np.uint8(UNKNOWN), original)
            codes, mismatch = None, "have codes that are no class"  # the file says something else
            warnings = (
                *warnings,
                f"masks with values that are no class ({', '.join(map(str, strange))}; unknown there)",
            )
        shown = {code - 1 for code in there.difference(strange)}
        differs = bool(mismatch) or shown != set(record.labels)
        if not mismatch and (shown - set(record.labels) or (record.labels and not shown)):
            mismatch = "show none of their image's labels, or a class that is none of these"
        if shown - set(record.labels):
            warnings = (*warnings, "images whose mask shows a class that their labels lack (both used as they are)")
        if set(record.labels) - shown:
            warnings = (*warnings, "images whose labels name a class that their mask lacks (both used as they are)")
    elif kind == "masks" and record.trimap is not None and (original == UNKNOWN).any():
        warnings = (*warnings, "masks with pixels that are neither foreground nor background (no ground truth there)")
        codes = None if codes == "binary" else codes  # a soft mask's 1 is no foreground
    target = np.asarray(Image.fromarray(original).resize((size, size), Image.Resampling.NEAREST))
    has_object = bool(((original > 0) & (original < BORDER)).any())
    packed = _pack(record.trimap, original, codes)
    return image, target, _Facts(hw, *packed, warnings, has_object=has_object, mismatch=mismatch, differs=differs)


def _pack(path: Path | None, original: np.ndarray, codes: Codes | None) -> tuple[bytes, Codes | None]:
    """Ground truth at its own size as the bytes of an image file, with the codes in it; None for our own codes.

    The file itself, where it is a small one that holds what was read from it: compressing anew takes as long as
    decoding.
    """
    from PIL import Image

    if path is not None and codes is not None:
        with Image.open(path, formats=formats()) as image:
            as_it_is = image.mode in ("L", "P") and image.size == original.shape[::-1]
        if as_it_is and path.stat().st_size < original.size / 4:
            return path.read_bytes(), codes
    buffer = io.BytesIO()
    # With a palette (its indices are the codes) Pillow tries no filters on the rows: half the time and half the size.
    Image.fromarray(original).convert("P").save(buffer, "PNG", compress_level=3)
    return buffer.getvalue(), None


@dataclass(frozen=True)
class PoolRows:
    """The part of a prepared data set that gets masks: ``rows`` is ``int64 (n,)``, ascending."""

    data: PreparedData
    rows: np.ndarray


class Pool(Stage):
    """Which images the mask stages work on; the classifier always trains on all of trainval.

    Attributes:
        images: ``all``; ``with_masks``, those that have ground truth only; ``trainval``, all of trainval (whose masks a
            segmenter learns from) and of test those that have ground truth.
        limit: at most so many per split (evenly spread over the list), null for no limit.
        task: what their masks tell apart: the ``foreground``, or the ``classes`` too.
    """

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "images that get masks"

    data: Prepared
    images: Literal["all", "with_masks", "trainval"] = param(default="all")
    limit: int | None = param(default=None, low=1)
    task: Task = param(default="foreground")

    def check(self, store: Products) -> None:
        """Refuse to choose by ground truth that none has, or more classes than masks have codes."""
        dataset = self.data.source.seen(store)
        if dataset is not None and (count := len(self.classes_of(dataset))) > MOST_CLASSES:
            raise SegError(
                f"task=classes: {count} classes, and masks have codes for {MOST_CLASSES}; merge some, or use "
                "task=foreground"
            )
        if self.images == "with_masks" and dataset is not None and not any(r.has_target for r in dataset.records):
            raise SegError(_WITHOUT_TARGET)

    def classes_of(self, data: Dataset | PreparedData) -> tuple[str, ...]:
        """The classes that the masks of some data tell apart."""
        return (FOREGROUND,) if self.task == "foreground" else data.classes

    def classes(self, store: Products) -> tuple[str, ...]:
        """The classes that the masks tell apart."""
        if self.task == "foreground":
            return (FOREGROUND,)
        # Images are not decoded for them, nor the lists read again once they are.
        return self.classes_of(store.get(self.data if store.has(self.data) else self.data.source))

    def load(self, path: Path, store: Products) -> PoolRows:
        """The rows chosen; refuses to choose none with a label. With ``task=foreground`` all classes are one."""
        data: PreparedData = store.get(self.data)
        if self.task == "foreground":
            data = data.merged()
        chosen = []
        for is_test in (False, True):
            wanted = self.images == "all" or (self.images == "trainval" and not is_test)
            rows = np.flatnonzero((data.is_test == is_test) & (data.has_target | wanted))
            if self.limit is not None and len(rows) > self.limit:
                rows = rows[np.linspace(0, len(rows) - 1, self.limit).round().astype(int)]
            chosen.append(rows)
        rows = np.sort(np.concatenate(chosen))
        if len(rows) == 0:
            raise SegError(_WITHOUT_TARGET)
        if not any(data.label_sets[row] for row in rows.tolist()):
            raise SegError(f"pool: not one of {len(rows)} images has a label, so there is nothing to make a mask of")
        return PoolRows(data, rows)


def split_counts(data: PreparedData, rows: np.ndarray) -> Counter[str]:
    """How many of ``rows`` lie in which split."""
    return Counter("test" if t else "trainval" for t in data.is_test[rows])
