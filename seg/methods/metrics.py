"""Figures from a confusion matrix over all pixels of all images, of masks, or of scores at every threshold.

For scores they come from a histogram, and are exactly those of thresholded masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from seg.errors import SegError
from seg.methods.calibration import Reliability, reliability
from seg.methods.codes import BORDER, UNKNOWN
from seg.methods.thresholds import STEPS, bin_scores

Border = Literal["ignore", "foreground", "background"]
Counts = NDArray[np.int64]

_BINS = STEPS + 2  # one for every threshold, and the last for NaN
_UNKNOWN = _BINS - 1


@cache
def _places(classes: int, *beyond: int) -> Counts:
    """``int64 (256,)``: row or column of each code in a counting table.

    The order is background, classes, the codes ``beyond``, and last all invalid codes.
    """
    known = [*range(classes + 1), *beyond]
    out = np.full(256, len(known), np.int64)
    out[known] = range(len(known))
    return out


@dataclass(frozen=True)
class Metrics:
    """Figures of masks on one set of images.

    Attributes:
        miou: mean IoU over background and classes that are in target or prediction (as in Pascal VOC); nan if no pixel
            of the target is of a class.
        iou_background: intersection over union of background, over all pixels; nan if it is absent from target and
            prediction.
        iou_foreground: mean of the classes' IoUs; nan as ``miou``.
        pixel_accuracy: share of the counted pixels that are correct.
        per_image_miou: mean over images of the mean IoU over the classes in the image's target or prediction; nan as
            ``miou``, and not comparable to it.
        images: number of images with at least one evaluated target pixel.
        pixels: number of evaluated target pixels with a prediction.
        coverage: share of the evaluated target pixels with a prediction.
        matrix: pixels by target (rows) and prediction (columns), background first.

    Examples:
        >>> confusion = Confusion(classes=2)
        >>> confusion.add(np.array([[0, 1, 2, 2]], np.uint8), np.array([[0, 1, 1, 2]], np.uint8))
        >>> confusion.compute().ious.tolist()
        [1.0, 0.5, 0.5]
    """

    miou: float
    iou_background: float
    iou_foreground: float
    pixel_accuracy: float
    per_image_miou: float
    images: int
    pixels: int
    coverage: float
    matrix: Sequence[Sequence[int]]

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, in the order of the fields."""
        return asdict(self)

    @property
    def ious(self) -> NDArray[np.float64]:
        """``float64 (C + 1,)``: of background and each class; nan as ``miou``, and for absent classes."""
        ious = _iou(np.asarray(self.matrix, np.int64))
        if np.isnan(self.miou):
            ious[1:] = np.nan
        return ious


class Confusion:
    """A confusion matrix over all pixels, accumulated image by image.

    Args:
        classes: number of classes in the masks.

    Examples:
        >>> confusion = Confusion()
        >>> confusion.add(np.array([[1, 0]], np.uint8), np.array([[1, 1]], np.uint8))
        >>> confusion.compute().iou_foreground
        0.5
    """

    def __init__(self, classes: int = 1) -> None:
        self._classes = classes
        self._tables: list[Counts] = []
        self._border: Border | None = None

    def add(self, pred: NDArray[np.uint8], target: NDArray[np.uint8], border: Border = "ignore") -> None:
        """Count one image or a batch.

        Args:
            pred: uint8 (H, W) or (B, H, W): 0 background, 1 and on the classes, 255 no decision.
            target: the ground truth, uint8 of the same shape: the same codes, 254 border, 255 no ground truth.
            border: how border pixels are counted, the same in every call; ``foreground`` is possible for one class, or
                for a target without border.

        Raises:
            ValueError: on another dtype, shape or border mode.
            SegError: on another code, or ``foreground`` with several classes. Nothing of the batch is counted then.
        """
        pred, target = _batch("prediction", pred, np.uint8, target)
        _check_border(border)
        if self._border not in (None, border):
            raise ValueError(f"border '{border}' follows '{self._border}': one matrix, one border")
        rows, columns = _places(self._classes, BORDER, UNKNOWN), _places(self._classes, UNKNOWN)
        shape = (self._classes + 4, self._classes + 3)
        tables = []
        for one_pred, one_target in zip(pred, target, strict=True):
            index = rows[one_target.ravel()] * shape[1] + columns[one_pred.ravel()]
            table = np.bincount(index, minlength=shape[0] * shape[1]).reshape(shape)
            _check_codes("target", table[-1], one_target, rows)
            _check_codes("prediction", table[:, -1], one_pred, columns)
            tables.append(_resolve(table[:-2, :-1], border))
        self._tables += tables
        self._border = border

    @property
    def matrix(self) -> Counts:
        """int64 (C + 1, C + 1): pixels by target (rows) and prediction (columns), background first."""
        return self._stacked.sum(0)[:, :-1]

    @property
    def per_image_iou(self) -> NDArray[np.float64]:
        """float64 (N, C + 1): IoU of background and each class of every image added; nan where absent."""
        return _iou(self.matrices)

    @property
    def matrices(self) -> Counts:
        """int64 (N, C + 1, C + 1): `matrix` of every image added."""
        return self._stacked[:, :, :-1]

    def compute(self) -> Metrics:
        """The figures over everything added so far."""
        return _metrics(self._stacked)

    @property
    def _stacked(self) -> Counts:
        empty = np.zeros((0, self._classes + 1, self._classes + 2), np.int64)
        return np.stack(self._tables) if self._tables else empty


class HistogramEvaluator:
    """Counts of scores and target, from which the figures at every threshold follow.

    For each image, target code and scored class there is a count for every interval of 0.001. ``metrics(t)`` equals
    exactly those of a `Confusion` of masks with the scored class where ``scores >= np.float32(t)``, else background.

    Args:
        classes: number of classes in the masks.

    Examples:
        >>> histogram = HistogramEvaluator()
        >>> histogram.add(np.array([[0.2, 0.7]], np.float32), np.array([[0, 1]], np.uint8))
        >>> [histogram.metrics(t).miou for t in (0.1, 0.5)]
        [0.25, 1.0]
    """

    def __init__(self, classes: int = 1) -> None:
        self._classes = classes
        self._images = 0
        self._places: list[NDArray[Any]] = []  # each (R, 3): image, row of the target's code, class
        self._counts: list[NDArray[np.int32]] = []  # each (R, _BINS)
        self._above: Counts | None = None  # (sum of R, _BINS): pixels at or above each edge; a cache

    def add(
        self, scores: NDArray[np.float32], target: NDArray[np.uint8], class_ids: NDArray[np.uint8] | None = None
    ) -> None:
        """Count one image or a batch.

        Args:
            scores: float32 (H, W) or (B, H, W) in [0, 1], NaN where unknown.
            target: uint8 of the same shape, as for `Confusion`.
            class_ids: uint8 of the same shape: the code of each score's class; None: 1.

        Raises:
            ValueError: on another dtype or shape.
            SegError: on a score outside [0, 1] or an unknown target code. Nothing of the batch is counted then.
        """
        scores, target = _batch("scores", scores, np.float32, target)
        ids = np.broadcast_to(np.uint8(1) if class_ids is None else class_ids, scores.shape)
        rows, last = _places(self._classes, BORDER, UNKNOWN), self._classes + 3
        places, counts = [], []
        for number, (one_scores, one_target, own) in enumerate(zip(scores, target, ids, strict=True), self._images):
            pair = rows[one_target.ravel()] * 256 + own.ravel()
            # A row of counts for each pair of a code and a class that occurs.
            kinds = np.flatnonzero(np.bincount(pair, minlength=(last + 1) * 256))
            row_of = np.zeros((last + 1) * 256, np.int64)
            row_of[kinds] = np.arange(len(kinds))
            index = row_of[pair] * _BINS + bin_scores(one_scores.ravel())
            table = np.bincount(index, minlength=len(kinds) * _BINS).reshape(-1, _BINS)
            _check_codes("target", table[kinds // 256 == last], one_target, rows)
            kept = kinds // 256 < last - 1
            counts.append(table[kept].astype(np.int32))
            places.append(np.stack([np.full(len(kinds), number), kinds // 256, kinds % 256], 1)[kept])
        self._places += places
        self._counts += counts
        self._images += len(counts)
        self._above = None

    def metrics(self, threshold: float, border: Border = "ignore") -> Metrics:
        """The figures of the masks ``scores >= np.float32(threshold)``.

        Args:
            threshold: a multiple of 0.001 in [0, 1].
            border: how border pixels are counted.

        Raises:
            ValueError: on another threshold or border mode.
        """
        return _metrics(self._tables(threshold, border))

    def matrices(self, threshold: float, border: Border = "ignore") -> Counts:
        """int64 (N, C + 1, C + 1): pixels of each image by target and prediction; arguments as for `metrics`."""
        return self._tables(threshold, border)[:, :, :-1]

    def reliability(self, border: Border = "ignore", bins: int = 15) -> Reliability:
        """Calibration: the share of pixels of the scored class by score.

        Args:
            border: how border pixels are counted. bins: as for :func:`seg.methods.reliability`.
        """
        _, target, kind = self._joined(self._places, 3).T
        if border != "ignore":
            target = np.where(target == self._classes + 1, int(border == "foreground"), target)
        counts = self._joined(self._counts, _BINS)[:, :_UNKNOWN]
        total = counts[target <= self._classes].sum(0, np.int64)
        middles = np.minimum((np.arange(_UNKNOWN) + 0.5) / STEPS, 1)
        return reliability(middles, counts[target == kind].sum(0, np.int64), total, bins)

    def _tables(self, threshold: float, border: Border) -> Counts:
        edge = _edge(threshold)
        _check_border(border)
        if self._above is None:
            # The last column counts unknown pixels.
            self._above = self._joined(self._counts, _BINS).astype(np.int64)
            self._above[:, :_UNKNOWN] = np.cumsum(self._above[:, _UNKNOWN - 1 :: -1], axis=1)[:, ::-1]
        above, width = self._above, self._classes + 2
        image, target, kind = self._joined(self._places, 3).T
        table = np.zeros((self._images, width, width), np.int64)
        np.add.at(table, (image, target, kind), above[:, edge])
        np.add.at(table, (image, target, 0), above[:, 0] - above[:, edge])
        np.add.at(table, (image, target, width - 1), above[:, _UNKNOWN])
        return _resolve(table, border)

    @staticmethod
    def _joined(parts: Sequence[NDArray[Any]], width: int) -> NDArray[Any]:
        return np.concatenate(parts) if parts else np.zeros((0, width), np.int64)

    def to_arrays(self) -> dict[str, NDArray[np.int32]]:
        """``counts`` int32 (R, 1002); ``places`` int32 (R, 3): image, target, class; ``shape``: images, classes."""
        counts, places = self._joined(self._counts, _BINS), self._joined(self._places, 3)
        shape = np.asarray([self._images, self._classes], np.int32)
        return {"counts": counts.astype(np.int32), "places": places.astype(np.int32), "shape": shape}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.int32]]) -> Self:
        """The histogram of `to_arrays`; a SegError for other arrays."""
        try:
            counts, places, (images, classes) = arrays["counts"], arrays["places"], arrays["shape"].tolist()
            fits = counts.shape == (len(places), _BINS) and bool((places < [images, classes + 2, classes + 1]).all())
        except (KeyError, ValueError):
            fits = False
        if not fits:
            raise SegError("these are no counts of scores: evaluate again")
        made = cls(classes)
        made._images, made._counts, made._places = images, [counts], [places]
        return made


def mean_iou(areas: NDArray[Any]) -> NDArray[np.float64]:
    """mIoU of areas summed over images.

    Args:
        areas: ``(..., 3, K)``: pixels in both masks, in the target, in the prediction; by class, background first.

    Returns:
        ``float64 (...)`` in [0, 1]: mean over classes in target or prediction; nan without an object in the target.

    Examples:
        >>> float(mean_iou(np.array([[6, 2], [8, 4], [7, 4]])))
        0.5
    """
    hit, target, pred = np.moveaxis(np.asarray(areas, np.float64), -2, 0)
    union = target + pred - hit
    ious = np.where(union > 0, hit / np.maximum(union, 1), 0)
    found: NDArray[np.float64] = ious.sum(-1) / np.maximum((union > 0).sum(-1), 1)
    return np.where(target[..., 1:].any(-1), found, np.nan)


def _edge(threshold: float) -> int:
    edge = round(threshold * STEPS) if np.isfinite(threshold) else -1
    if not 0 <= edge <= STEPS or np.float32(threshold) != np.float32(edge / STEPS):
        raise ValueError(f"threshold {threshold} is no multiple of {1 / STEPS} in [0, 1]")
    return edge


def _resolve(table: Counts, border: Border) -> Counts:
    """(..., C + 2, C + 2) counts by target code to (..., C + 1, C + 2): the border joins a class or is dropped."""
    resolved = table[..., :-1, :].astype(np.int64)
    if border != "ignore":
        if border == "foreground" and table.shape[-1] > 3 and table[..., -1, :].any():
            raise SegError(
                "evaluation.border=foreground: with several classes the class of a border is unknown; use ignore or "
                "background"
            )
        resolved[..., 1 if border == "foreground" else 0, :] += table[..., -1, :]
    return resolved


def _iou(counts: Counts) -> NDArray[np.float64]:
    """(..., K, K) counts to (..., K) IoUs, nan where a class is in neither target nor prediction."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(-1) + counts.sum(-2) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    """Mean without nan; nan if there is nothing else (where np.nanmean warns)."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _metrics(tables: Counts) -> Metrics:
    """(N, C + 1, C + 2) counts by target (background, classes) and prediction (those, none) to figures."""
    total = tables.sum(0)
    matrix = total[:, :-1]
    counted, evaluated = int(matrix.sum()), int(total.sum())
    iou = _iou(matrix) if total[1:].any() else np.full(len(matrix), np.nan)
    # All images at once: a loop would take most of the time of a sweep's job.
    single = _iou(tables[:, :, :-1])
    there = ~np.isnan(single)
    known = there.any(1)
    per_image = np.where(there, single, 0).sum(1)[known] / there.sum(1)[known]
    return Metrics(
        miou=_mean(iou),
        iou_background=float(_iou(matrix)[0]),
        iou_foreground=_mean(iou[1:]),
        pixel_accuracy=int(np.trace(matrix)) / counted if counted else float("nan"),
        per_image_miou=_mean(per_image) if total[1:].any() else float("nan"),
        images=int((tables.sum((1, 2)) > 0).sum()),
        pixels=counted,
        coverage=counted / evaluated if evaluated else float("nan"),
        matrix=matrix.tolist(),
    )


def _batch(name: str, array: NDArray, dtype: type[np.generic], target: NDArray) -> tuple[NDArray, NDArray]:
    for what, one, wanted in ((name, array, dtype), ("target", target, np.uint8)):
        if one.dtype != wanted or one.ndim not in (2, 3):
            raise ValueError(
                f"{what} has to be {np.dtype(wanted).name} (H, W) or (B, H, W), not {one.dtype} {one.shape}"
            )
    array, target = (one if one.ndim == 3 else one[None] for one in (array, target))
    if array.shape != target.shape:
        raise ValueError(f"{name} {array.shape} and target {target.shape} differ in shape: resize one first")
    return array, target


def _check_border(border: str) -> None:
    if border not in get_args(Border):
        raise ValueError(f"border is '{border}': it has to be one of {', '.join(get_args(Border))}")


def _check_codes(name: str, invalid: Counts, values: NDArray[np.uint8], places: Counts) -> None:
    if invalid.any():
        *most, last = np.flatnonzero(places < places.max()).tolist()
        bad = sorted({*np.unique(values).tolist()} - {*most, last})
        raise SegError(f"{name} holds the codes {bad}: only {', '.join(map(str, most))} and {last} are known")
