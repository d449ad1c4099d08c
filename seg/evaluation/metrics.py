"""Evaluation: one confusion matrix over all pixels of all images, and its figures.

Both accumulators reduce every image to the same small table of integer counts, and one function
turns counts into figures, so a histogram of scores gives to the last digit what thresholding gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from seg.errors import SegError

Border = Literal["ignore", "foreground", "background"]
Counts = NDArray[np.int64]

BACKGROUND, FOREGROUND, BORDER, NONE = 0, 1, 2, 255
STEPS = 1000  # thresholds are multiples of 1 / STEPS

# The edges are the very float32 numbers that `score >= np.float32(threshold)` compares with.
_EDGES = (np.arange(STEPS + 1) / STEPS).astype(np.float32)
_BINS = STEPS + 2  # one for every edge that a score may have reached, and the last for NaN
_UNKNOWN = _BINS - 1
_INVALID = 4  # row and column of the counting table for codes that do not exist


# The codes, each with how a message says it, in the order of their rows and columns.
_TRUTH_CODES = {BACKGROUND: "0", FOREGROUND: "1", BORDER: "2 (border)", NONE: "255 (no truth)"}
_PRED_CODES = {BACKGROUND: "0", FOREGROUND: "1", NONE: "255 (no decision)"}
_TRUTH, _PRED = np.full((2, 256), _INVALID, np.int64)
_TRUTH[list(_TRUTH_CODES)], _PRED[list(_PRED_CODES)] = range(4), range(3)


@dataclass(frozen=True)
class Metrics:
    """Figures of masks on one set of images.

    Attributes:
        miou: mean of the IoUs of background and foreground, of those that exist.
        iou_background: intersection over union of background, over all pixels; nan if the class is
            absent from truth and prediction.
        iou_foreground: the same of foreground.
        pixel_accuracy: share of the counted pixels that are right.
        per_image_miou: the mean over images of the mean IoU over the classes present in the image's
            truth or prediction. Not comparable to ``miou``.
        images: images with at least one evaluated truth pixel.
        pixels: pixels counted: truth that is evaluated, with a prediction.
        coverage: share of the evaluated truth pixels that had a prediction.
    """

    miou: float
    iou_background: float
    iou_foreground: float
    pixel_accuracy: float
    per_image_miou: float
    images: int
    pixels: int
    coverage: float

    def as_dict(self) -> dict[str, float | int]:
        """The figures by name, in the order of the fields."""
        return asdict(self)


class Confusion:
    """A confusion matrix over all pixels, gathered image by image.

    Example:
        >>> confusion = Confusion()
        >>> confusion.add(np.array([[1, 0]], np.uint8), np.array([[1, 1]], np.uint8))
        >>> confusion.compute().iou_foreground
        0.5
    """

    def __init__(self) -> None:
        self._tables: list[Counts] = []
        self._border: Border | None = None

    def add(self, pred: NDArray[np.uint8], truth: NDArray[np.uint8], border: Border = "ignore") -> None:
        """Count one image or a batch.

        Args:
            pred: uint8 (H, W) or (B, H, W): 0 background, 1 foreground, 255 no decision.
            truth: uint8 of the same shape: 0 background, 1 foreground, 2 border, 255 no truth.
            border: what border pixels count as; the same in every call.

        Raises:
            ValueError: on another dtype, shape or border mode.
            SegError: on a code that is none of the above. Nothing of the batch is counted then.
        """
        pred, truth = _batch("prediction", pred, np.uint8, truth)
        _check_border(border)
        if self._border not in (None, border):
            raise ValueError(f"border '{border}' follows '{self._border}': one matrix, one border")
        width = _INVALID + 1
        tables = []
        for one_pred, one_truth in zip(pred, truth, strict=True):
            index = _TRUTH[one_truth.ravel()] * width + _PRED[one_pred.ravel()]
            table = np.bincount(index, minlength=width * width).reshape(width, width)
            _check_codes("truth", table[_INVALID], one_truth, _TRUTH_CODES)
            _check_codes("prediction", table[:, _INVALID], one_pred, _PRED_CODES)
            tables.append(_resolve(table[:3, :3], border))
        self._tables += tables
        self._border = border

    @property
    def matrix(self) -> Counts:
        """int64 (2, 2): pixels by truth (rows) and prediction (columns), background first."""
        return _stack(self._tables).sum(0)[:, :2]

    @property
    def per_image_iou(self) -> NDArray[np.float64]:
        """float64 (N, 2): IoU of background and foreground of every image added; nan where absent."""
        return _iou(_stack(self._tables)[:, :, :2])

    def compute(self) -> Metrics:
        """The figures over everything added so far."""
        return _metrics(_stack(self._tables))


class ScoreHistogram:
    """Score maps against the truth, kept as counts that answer every threshold.

    Per image and truth code, one count for every interval between two neighbouring multiples of 0.001.
    ``metrics(t)`` then equals, to the last digit, adding ``scores >= np.float32(t)`` to a `Confusion`.

    Example:
        >>> histogram = ScoreHistogram()
        >>> histogram.add(np.array([[0.2, 0.7]], np.float32), np.array([[0, 1]], np.uint8))
        >>> [histogram.metrics(t).miou for t in (0.1, 0.5)]
        [0.25, 1.0]
    """

    def __init__(self) -> None:
        self._counts: list[NDArray[np.int32]] = []  # each (3, _BINS)
        self._above: Counts | None = None  # (N, 3, _BINS): pixels at or above each edge; made when asked

    def add(self, scores: NDArray[np.float32], truth: NDArray[np.uint8]) -> None:
        """Count one image or a batch.

        Args:
            scores: float32 (H, W) or (B, H, W) in [0, 1], NaN where nothing is known.
            truth: uint8 of the same shape: 0 background, 1 foreground, 2 border, 255 no truth.

        Raises:
            ValueError: on another dtype or shape.
            SegError: on a score outside [0, 1] or an unknown truth code. Nothing of the batch is
                counted then.
        """
        scores, truth = _batch("scores", scores, np.float32, truth)
        counts = []
        for one_scores, one_truth in zip(scores, truth, strict=True):
            index = _bin(one_scores.ravel())
            index += (_TRUTH * _BINS)[one_truth.ravel()]
            table = np.bincount(index, minlength=(_INVALID + 1) * _BINS).reshape(-1, _BINS)
            _check_codes("truth", table[_INVALID], one_truth, _TRUTH_CODES)
            counts.append(table[:3].astype(np.int32))
        self._counts += counts
        self._above = None

    def metrics(self, threshold: float, border: Border = "ignore") -> Metrics:
        """The figures of the masks ``scores >= np.float32(threshold)``.

        Args:
            threshold: a multiple of 0.001 in [0, 1].
            border: what border pixels count as.

        Raises:
            ValueError: on another threshold or border mode.
        """
        edge = _edge(threshold)
        _check_border(border)
        if self._above is None:
            # The last column is no threshold: it keeps the unknown pixels.
            self._above = _stack(self._counts, (3, _BINS)).astype(np.int64)
            self._above[:, :, :_UNKNOWN] = np.cumsum(self._above[:, :, _UNKNOWN - 1 :: -1], axis=2)[:, :, ::-1]
        foreground, total = self._above[:, :, edge], self._above[:, :, 0]
        table = np.stack([total - foreground, foreground, self._above[:, :, _UNKNOWN]], axis=2)
        return _metrics(_resolve(table, border))

    def to_arrays(self) -> dict[str, NDArray[np.int32]]:
        """``counts`` int32 (N, 3, 1002): images, truth codes 0 to 2, intervals (the last: NaN)."""
        return {"counts": _stack(self._counts, (3, _BINS)).astype(np.int32)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.int32]]) -> Self:
        """The histogram that `to_arrays` wrote.

        Raises:
            SegError: if ``counts`` is missing or of another shape or dtype.
        """
        counts = arrays.get("counts")
        if counts is None or counts.dtype != np.int32 or counts.shape[1:] != (3, _BINS):
            found = "nothing" if counts is None else f"{counts.dtype} {counts.shape}"
            raise SegError(f"evaluate again: 'counts' has to be int32 (N, 3, {_BINS}), not {found}")
        made = cls()
        made._counts = list(counts)
        return made


def _bin(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the last edge that each score reaches, by the comparison that thresholding makes."""
    low, high = scores.min(initial=1), scores.max(initial=0)
    unknown = None
    if np.isnan(low):
        unknown = np.isnan(scores)
        scores = np.where(unknown, np.float32(0), scores)
        low, high = scores.min(), scores.max()
    if low < 0 or high > 1:
        raise SegError(f"scores run from {low:.4g} to {high:.4g}: they have to lie in [0, 1] (or be NaN)")
    # Rounding gives the nearest edge, whatever the product's own error; the score is at it or just below. An edge is
    # the number of its index divided by STEPS, in float32 too, which is faster than looking it up.
    edge = np.rint(scores * np.float32(STEPS))
    edge -= scores < edge / np.float32(STEPS)
    nearest = edge.astype(np.int64)
    if unknown is not None:
        nearest[unknown] = _UNKNOWN
    return nearest


def _edge(threshold: float) -> int:
    edge = round(threshold * STEPS) if np.isfinite(threshold) else -1
    if not 0 <= edge <= STEPS or np.float32(threshold) != _EDGES[edge]:
        raise ValueError(f"threshold {threshold} is no multiple of {1 / STEPS} in [0, 1]")
    return edge


def _resolve(table: Counts, border: Border) -> Counts:
    """(..., 3, 3) counts by truth code to (..., 2, 3): the border joins a class or goes."""
    resolved = table[..., :2, :].astype(np.int64)
    if border != "ignore":
        resolved[..., FOREGROUND if border == "foreground" else BACKGROUND, :] += table[..., 2, :]
    return resolved


def _iou(counts: Counts) -> NDArray[np.float64]:
    """(..., 2, 2) counts to (..., 2) IoUs, nan where a class is in neither truth nor prediction."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(-1) + counts.sum(-2) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of those that exist, nan if none does (numpy's own nanmean warns there)."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _metrics(tables: Counts) -> Metrics:
    """(N, 2, 3) counts by truth (background, foreground) and prediction (those, none) to figures."""
    total = tables.sum(0)
    counted, evaluated = int(total[:, :2].sum()), int(total.sum())
    iou = _iou(total[:, :2])
    # Of the classes that an image has; nan for an image without any. One by one this took most of a job's time.
    single = _iou(tables[:, :, :2])
    there = ~np.isnan(single)
    known = there.any(1)
    per_image = np.where(there, single, 0).sum(1)[known] / there.sum(1)[known]
    return Metrics(
        miou=_mean(iou),
        iou_background=float(iou[0]),
        iou_foreground=float(iou[1]),
        pixel_accuracy=int(total[0, 0] + total[1, 1]) / counted if counted else float("nan"),
        per_image_miou=_mean(per_image),
        images=int((tables.sum((1, 2)) > 0).sum()),
        pixels=counted,
        coverage=counted / evaluated if evaluated else float("nan"),
    )


def _stack(tables: Sequence[NDArray[Any]], shape: tuple[int, int] = (2, 3)) -> NDArray[Any]:
    return np.stack(tables) if tables else np.zeros((0, *shape), np.int64)


def _batch(name: str, array: NDArray, dtype: type[np.generic], truth: NDArray) -> tuple[NDArray, NDArray]:
    for what, one, wanted in ((name, array, dtype), ("truth", truth, np.uint8)):
        if one.dtype != wanted or one.ndim not in (2, 3):
            said = np.dtype(wanted).name
            raise ValueError(f"{what} has to be {said} (H, W) or (B, H, W), not {one.dtype} {one.shape}")
    array, truth = (one if one.ndim == 3 else one[None] for one in (array, truth))
    if array.shape != truth.shape:
        raise ValueError(f"{name} {array.shape} and truth {truth.shape} differ in shape: resize one first")
    return array, truth


def _check_border(border: str) -> None:
    if border not in get_args(Border):
        raise ValueError(f"border is '{border}': it has to be one of {', '.join(get_args(Border))}")


def _check_codes(name: str, invalid: Counts, values: NDArray[np.uint8], known: Mapping[int, str]) -> None:
    if invalid.any():
        *most, last = known.values()
        bad = sorted(set(np.unique(values).tolist()) - known.keys())
        raise SegError(f"{name} holds the codes {bad}: only {', '.join(most)} and {last} are known")
