"""Every image decoded once: memory-mapped arrays at working resolution."""

import json
import logging
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from seg.data.dataset import BORDER, FOREGROUND, MOST_CLASSES, UNKNOWN, Dataset, Record, Task
from seg.data.decode import codes_in, decode_image, decode_trimap, draw_regions, image_warnings
from seg.data.read_report import ReadReport
from seg.data.sources import InPlace, Source
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
        if not self.has_target[row]:
            raise SegError(f"{self.ids[row]}: this image has no ground truth")
        packed = self._originals[self._offsets[row] : self._offsets[row + 1]]
        values = np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8).reshape(1, *self.sizes[row])
        return self._coded(values, np.asarray([row]))[0]

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
        if (dataset := self.source.dataset_if_known(store)) is not None:
            _require_labels(dataset)

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Decode with a pool of threads (Pillow lets go of the interpreter lock while it decodes)."""
        dataset: Dataset = store.get(self.source)
        _require_labels(dataset)
        report = ReadReport(Counter(dataset.warnings), dict(dataset.examples))
        records, names = dataset.records, dataset.file_names()
        kept: list[tuple[Record, _Decoded]] = []
        skipped: dict[str, str] = {}  # errors by file name
        without: dict[str, str] = {}
        decode = partial(_decode, size=self.size, classes=len(dataset.classes))
        with (
            rows_file(out / "images.npy", np.uint8) as images,
            rows_file(out / "target.npy", np.uint8) as targets,
            ThreadPoolExecutor(store.runtime.worker_count) as pool,
        ):
            decoded = store.runtime.bar(pool.map(decode, records), "decoding", len(records))
            for record, one in zip(records, decoded, strict=True):
                if one.image is None:
                    skipped[names[record.id]] = one.error
                    log.warning("data: skipped: %s", one.error)
                    continue
                images.write(one.image[None])
                targets.write(one.target[None])
                kept.append((record, one._replace(image=None, target=None)))
                if one.error:
                    without[names[record.id]] = one.error
                    log.warning("data: image used without its ground truth: %s", one.error)
                for warning in one.warnings:
                    report.warn(warning, [record.id])
        self._refuse_unreadable(dataset, [*skipped.values()], [*without.values()])
        report.log(logging.INFO if isinstance(self.source, InPlace) else logging.DEBUG)
        _refuse_other_codes(dataset, kept)
        np.save(out / "originals.npy", np.frombuffer(b"".join(one.original for _, one in kept), np.uint8))
        index = {
            "classes": dataset.classes,
            "ids": [record.id for record, _ in kept],
            "label_sets": [record.labels for record, _ in kept],
            "is_test": [record.split == "test" for record, _ in kept],
            "has_target": [bool(one.original) for _, one in kept],
            "sizes": [one.size for _, one in kept],
            "boxes": [record.boxes for record, _ in kept],
            "box_labels": [record.box_labels for record, _ in kept],
            "target_is_classes": dataset.target_is_classes,
            "offsets": np.cumsum([0, *(len(one.original) for _, one in kept)]).tolist(),
        }
        write_json(out / "index.json", index)
        # Names below the data's folder: a product does not say where that lies.
        return {
            "images": len(kept),
            "unreadable": [*skipped],
            "ground truth unreadable": [*without],
            "warnings": dict(report.warnings),
        }

    def _refuse_unreadable(self, dataset: Dataset, images: list[str], targets: list[str]) -> None:
        """Refuse too many unreadable files, and data of which no image or not one ground truth can be read."""
        errors, n = images + targets, len(dataset.records)
        shown = "; ".join(errors[:3]) + ("; ..." if len(errors) > 3 else "")
        if len(errors) > (self.max_bad_share and max(1, self.max_bad_share * n)) or len(images) == n:
            what = "images" if not targets else f"images ({len(targets)} for their ground truth)"
            raise SegError(
                f"{len(errors)} of {n} {what} are unreadable, more than "
                f"data.prepared.max_bad_share={self.max_bad_share:g} allows: {shown}"
            )
        if targets and len(targets) == sum(r.has_target for r in dataset.records):
            raise SegError(f"no ground truth can be read, so nothing can be measured: {shown}; correct or remove them")

    def load(self, path: Path, store: Products) -> PreparedData:
        """Memory-map the arrays and read the index."""
        index = json.loads((path / "index.json").read_text())
        return PreparedData(
            title=self.source.title,
            classes=tuple(index["classes"]),
            images=np.load(path / "images.npy", mmap_mode="r"),
            ids=index["ids"],
            label_sets=[tuple(labels) for labels in index["label_sets"]],
            is_test=np.asarray(index["is_test"], bool),
            has_target=np.asarray(index["has_target"], bool),
            sizes=np.asarray(index["sizes"], np.int64).reshape(-1, 2),
            boxes=index["boxes"],
            box_labels=index["box_labels"],
            target_is_classes=index["target_is_classes"],
            _target=np.load(path / "target.npy", mmap_mode="r"),
            _offsets=np.asarray(index["offsets"], np.int64),
            _originals=np.load(path / "originals.npy", mmap_mode="r"),
        )


def _require_labels(dataset: Dataset) -> None:
    if not any(r.labels for r in dataset.records if r.split == "trainval"):
        raise SegError(
            "no trainval image of the data has a label, so nothing can be learnt; label some with what they show"
        )


class _Decoded(NamedTuple):
    """One image and its ground truth.

    Attributes:
        image, target: at working resolution; None where the image cannot be read. size: original height and width.
        original: compressed ground truth of that size. error: why image or ground truth cannot be read.
        has_object: whether the ground truth shows one. disagrees: whether its classes are not those of the labels.
    """

    image: Any = None
    target: Any = None
    size: tuple[int, int] = (0, 0)
    original: bytes = b""
    error: str = ""
    warnings: tuple[str, ...] = ()
    has_object: bool = False
    disagrees: bool = False


def _decode(record: Record, size: int, classes: int) -> _Decoded:
    from PIL import Image

    try:
        image, hw = decode_image(record.image, size)
        warnings = image_warnings(record.image)
    except SegError as error:
        return _Decoded(error=str(error))
    without = _Decoded(image, np.full((size, size), UNKNOWN, np.uint8), hw, warnings=warnings)
    if not record.has_target:
        return without
    kind = "trimaps" if record.codes == "trimap" else "masks"
    try:
        original, more, disagrees = _ground_truth(record, hw, classes)
    except SegError as error:
        more = [f"{kind} that cannot be read (image used without)"]
        return without._replace(error=str(error), warnings=(*warnings, *more))
    if (original == UNKNOWN).all():
        return without._replace(
            warnings=(*warnings, f"{kind} of which every pixel is unknown (image used without)"),
        )
    return _Decoded(
        image,
        target=np.asarray(Image.fromarray(original).resize((size, size), Image.Resampling.NEAREST)),
        size=hw,
        original=zlib.compress(original.tobytes(), 1),
        warnings=(*warnings, *more),
        has_object=bool(((original > 0) & (original < BORDER)).any()),
        disagrees=disagrees,
    )


def _ground_truth(record: Record, hw: tuple[int, int], classes: int) -> tuple[np.ndarray, list[str], bool]:
    """Ground truth at original size, what is unusual about it, and whether its classes disagree with the labels."""
    if record.trimap is None:
        return draw_regions(record.regions or (), hw), [], False
    target, is_resized = decode_trimap(record.trimap, hw, record.codes, record.image, record.colours)
    warnings = []
    if is_resized:
        kind = "trimaps" if record.codes == "trimap" else "masks"
        warnings.append(f"{kind} of another size than their image, resized")
    if record.codes != "classes":
        if record.codes != "trimap" and (target == UNKNOWN).any():
            warnings.append("masks with pixels that are neither foreground nor background (no ground truth there)")
        return target, warnings, False
    shown, labels = {code - 1 for code in codes_in(target) if code not in (0, UNKNOWN)}, {*record.labels}
    if strange := sorted(1 + label for label in shown if label >= classes):
        target = np.where(np.isin(target, strange), np.uint8(UNKNOWN), target)
        warnings.append(f"masks with values that are no class ({', '.join(map(str, strange))}; unknown there)")
    shown = {label for label in shown if label < classes}
    if shown - labels:
        warnings.append("images whose mask shows a class that their labels lack (both used as they are)")
    if labels - shown:
        warnings.append("images whose labels name a class that their mask lacks (both used as they are)")
    return target, warnings, bool(strange or shown - labels or (labels and not shown))


def _refuse_other_codes(dataset: Dataset, kept: list[tuple[Record, _Decoded]]) -> None:
    """Refuse masks most of which follow another convention than the one that they are read by."""
    masks = [(record, one) for record, one in kept if one.original]
    wrong = [record.trimap for record, one in masks if one.disagrees]
    if 2 * len(wrong) > len(masks):
        raise SegError(
            f"{len(wrong)} of {len(masks)} masks do not show what their images' labels say ({wrong[0]}, say): 0 must "
            f"be background, 1 to {len(dataset.classes)} the classes in their order and 255 unknown; write these "
            "codes, or take data=image_folder with data.mask_codes=binary (0 and 255, 0 and 1) or ids (0, and any "
            "other number for an object)"
        )
    if masks and not any(one.has_object for _, one in masks):
        none = f"none of {len(masks)} masks shows an object, so no mIoU can be measured"
        if any(record.codes == "ids" for record, _ in masks):
            raise SegError(f"{none}; read as ids, 255 is unknown: for masks of 0 and 255 set data.mask_codes=binary")
        log.warning("data: %s", none)


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
        dataset = self.data.source.dataset_if_known(store)
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

    def files(self, store: Products) -> dict[str, Path]:
        """The image files, by image id."""
        return {record.id: record.image for record in store.get(self.data.source).records}

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
