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
        title: of the data set. classes: names by label.
        images: ``uint8 (N, S, S, 3)`` RGB, squashed to a square.
        ids: file stems. is_test: ``bool (N,)``. has_target: ``bool (N,)``.
        label_sets: for each image its classes, ascending.
        sizes: ``int64 (N, 2)`` original height and width in pixels.
        boxes: for each image a list of ``[xmin, ymin, xmax, ymax]`` in original pixels.
        box_labels: for each image the class of each box; empty if all are of its one class.
        target_is_classes: whether the ground truth has a class per pixel.
        original: the data with all classes, if ``self`` has only the foreground.
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
        """The number of classes."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of the masks' codes, from 0 on."""
        return ("background", *self.classes)

    @property
    def as_read(self) -> "PreparedData":
        """The data with all classes."""
        return self.original or self

    def merged(self) -> "PreparedData":
        """The data with one class, the foreground, for every image with a label."""
        shows = [(0,) if labels else () for labels in self.label_sets]
        nothing: list[list[int]] = [[]] * len(self)
        return replace(self, classes=(FOREGROUND,), label_sets=shows, box_labels=nothing, original=self)

    @cached_property
    def labels(self) -> np.ndarray:
        """``int64 (N,)``: the first class of every image, -1 for none."""
        return np.asarray([labels[0] if labels else -1 for labels in self.label_sets], np.int64)

    @cached_property
    def has_one_label(self) -> bool:
        """Whether every image has exactly one class."""
        return all(len(labels) == 1 for labels in self.label_sets)

    @cached_property
    def is_labelled(self) -> np.ndarray:
        """``bool (N, classes)``: the labels as indicators."""
        out = np.zeros((len(self), len(self.classes)), bool)
        for row, labels in enumerate(self.label_sets):
            out[row, list(labels)] = True
        return out

    def target(self, rows: np.ndarray) -> np.ndarray:
        """Ground truth of some images: ``uint8 (b, S, S)``, 0 background, ``1 + class``, 254 border, 255 unknown."""
        return self._coded(self._target[rows], rows)

    def _coded(self, target: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Prepared ground truth ``(b, H, W)`` of some images in these classes."""
        if self.original is not None:
            return np.where((target > 0) & (target < BORDER), np.uint8(1), target) if self.target_is_classes else target
        if self.target_is_classes:
            return target
        sets = [self.label_sets[row] for row in rows]
        # With several classes the class of a pixel is unknown.
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
    ground truth at original size is saved, too. Unreadable images are skipped and counted; an image with unreadable
    ground truth is used without it.

    Attributes:
        source: the data set.
        size: working resolution in pixels, a multiple of 32.
        max_bad_share: the largest allowed share of unreadable images and masks; one is allowed unless this is 0.
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
        """Raise SegError for data without a label in trainval, if that is known before decoding."""
        if (dataset := self.source.dataset_if_known(store)) is not None:
            _require_labels(dataset)

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """Decode in threads (Pillow releases the interpreter lock)."""
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
        for line in _always_together([record.labels for record, _ in kept if record.split != "test"], dataset.classes):
            log.warning("data: %s", line)
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
        # Relative names: a product does not depend on the data's place.
        return {
            "images": len(kept),
            "unreadable": [*skipped],
            "ground truth unreadable": [*without],
            "warnings": dict(report.warnings),
        }

    def _refuse_unreadable(self, dataset: Dataset, images: list[str], targets: list[str]) -> None:
        """Raise SegError for too many unreadable files, or if no image or no ground truth can be read."""
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
        raise SegError("no trainval image of the data has a label, so nothing can be learnt; label some")


class _Decoded(NamedTuple):
    """One image and its ground truth.

    Attributes:
        image, target: at working resolution; None if the image cannot be read. size: original height and width.
        original: compressed ground truth of that size. error: why image or ground truth cannot be read.
        has_object: whether the ground truth has an object. disagrees: whether its classes differ from the labels.
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
            warnings=(*warnings, f"{kind} that are unknown everywhere (image used without)"),
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
    """Ground truth at original size, its warnings, and whether its classes disagree with the labels."""
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
        warnings.append(f"masks with values of no class ({', '.join(map(str, strange))}; unknown there)")
    shown = {label for label in shown if label < classes}
    if shown - labels:
        warnings.append("images whose mask has a class that is not among their labels (both used)")
    if labels - shown:
        warnings.append("images with a label that their mask does not have (both used)")
    return target, warnings, bool(strange or shown - labels or (labels and not shown))


def _refuse_other_codes(dataset: Dataset, kept: list[tuple[Record, _Decoded]]) -> None:
    """Raise SegError if most masks follow another convention than ``mask_codes``."""
    masks = [(record, one) for record, one in kept if one.original]
    wrong = [record.trimap for record, one in masks if one.disagrees]
    if 2 * len(wrong) > len(masks):
        raise SegError(
            f"{len(wrong)} of {len(masks)} masks have other classes than their images' labels (for example "
            f"{wrong[0]}): 0 must be background, 1 to {len(dataset.classes)} the classes in their order and 255 "
            "unknown; write these codes, or use data=image_folder with data.mask_codes=binary (0 and 255, 0 and 1) or "
            "ids (0 background, any other number an object)"
        )
    if masks and not any(one.has_object for _, one in masks):
        none = f"none of {len(masks)} masks has an object, so no mIoU can be measured"
        if any(record.codes == "ids" for record, _ in masks):
            raise SegError(f"{none}; read as ids, 255 is unknown: for masks of 0 and 255 set data.mask_codes=binary")
        log.warning("data: %s", none)


def _always_together(labels: Sequence[Sequence[int]], classes: Sequence[str], least: int = 10) -> list[str]:
    """A line for each pair of classes that are together in nine of ten of the at least ``least`` images with either."""
    shown = np.zeros((len(labels), len(classes)))
    for image, own in enumerate(labels):
        shown[image, list(own)] = 1
    both, count = shown.T @ shown, shown.sum(0)
    either = count[:, None] + count - both
    pairs = np.argwhere(np.triu((both >= 0.9 * either) & (either >= least), 1))
    return [
        f"{classes[a]} and {classes[b]} are together in {both[a, b]:.0f} of {either[a, b]:.0f} images with either: "
        "image labels cannot tell which pixels are whose; give points (pixels.points=FILE) or boxes, or merge the two"
        for a, b in pairs
    ]


@dataclass(frozen=True)
class PoolRows:
    """The images that get masks: ``rows`` of the prepared data is ``int64 (n,)``, ascending."""

    data: PreparedData
    rows: np.ndarray


class Pool(Stage):
    """The images that get masks; the classifier always trains on all of trainval.

    Attributes:
        images: ``all``; ``with_masks``, those with ground truth; ``trainval``, all of trainval (for training a
            segmenter) and those of test with ground truth.
        limit: the most images per split (evenly spread over the list), null for no limit.
        task: masks of the ``foreground`` or of the ``classes``.
    """

    stored: ClassVar[bool] = False
    what: ClassVar[str] = "images that get masks"

    data: Prepared
    images: Literal["all", "with_masks", "trainval"] = param(default="all")
    limit: int | None = param(default=None, low=1)
    task: Task = param(default="foreground")

    def check(self, store: Products) -> None:
        """Raise SegError for ``with_masks`` without ground truth, or for more classes than masks have codes."""
        dataset = self.data.source.dataset_if_known(store)
        if dataset is not None and (count := len(self.classes_of(dataset))) > MOST_CLASSES:
            raise SegError(
                f"task=classes: {count} classes, and masks have codes for {MOST_CLASSES}; merge some, or use "
                "task=foreground"
            )
        if self.images == "with_masks" and dataset is not None and not any(r.has_target for r in dataset.records):
            raise SegError(_WITHOUT_TARGET)

    def classes_of(self, data: Dataset | PreparedData) -> tuple[str, ...]:
        """The classes of the masks."""
        return (FOREGROUND,) if self.task == "foreground" else data.classes

    def classes(self, store: Products) -> tuple[str, ...]:
        """The classes of the masks."""
        if self.task == "foreground":
            return (FOREGROUND,)
        # Without decoding the images for it, and without reading the lists again after that.
        return self.classes_of(store.get(self.data if store.has(self.data) else self.data.source))

    def files(self, store: Products) -> dict[str, Path]:
        """The image files, by image id."""
        return {record.id: record.image for record in store.get(self.data.source).records}

    def load(self, path: Path, store: Products) -> PoolRows:
        """The chosen rows. Raises SegError: none of them has a label."""
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
            raise SegError(f"pool: none of {len(rows)} images has a label, so there are no masks to make")
        return PoolRows(data, rows)


def split_counts(data: PreparedData, rows: np.ndarray) -> Counter[str]:
    """The number of ``rows`` in each split."""
    return Counter("test" if t else "trainval" for t in data.is_test[rows])
