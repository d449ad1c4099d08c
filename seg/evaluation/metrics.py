"""Evaluation: one confusion matrix over all pixels of all images, and its figures.

Both accumulators reduce every image to the same small table of integer counts, and one function
turns counts into figures, so a histogram of scores gives to the last digit what thresholding gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from seg.data.dataset import UNKNOWN, border_code
from seg.errors import SegError

Border = Literal["ignore", "foreground", "background"]
Counts = NDArray[np.int64]

STEPS = 1000  # thresholds are multiples of 1 / STEPS

# The edges are the very float32 numbers that `score >= np.float32(threshold)` compares with.
_EDGES = (np.arange(STEPS + 1) / STEPS).astype(np.float32)
_BINS = STEPS + 2  # one for every edge that a score may have reached, and the last for NaN
_UNKNOWN = _BINS - 1


class _Codes:
    """The codes of masks of so many classes, by the rows and columns of the counting tables.

    Rows, of the truth: background and classes, border, none, what does not exist. Columns, of the prediction:
    background and classes, no decision, what does not exist.
    """

    def __init__(self, classes: int) -> None:
        known = {code: str(code) for code in range(classes + 1)}
        border = border_code(classes)
        self.truth_said = known | {border: f"{border} (border)", UNKNOWN: "255 (no truth)"}
        self.pred_said = known | {UNKNOWN: "255 (no decision)"}
        self.rows, self.columns = classes + 4, classes + 3
        self.truth, self.pred = (
            _places(said, count - 1) for said, count in ((self.truth_said, self.rows), (self.pred_said, self.columns))
        )


def _places(said: Mapping[int, str], other: int) -> Counts:
    out = np.full(256, other, np.int64)
    out[list(said)] = range(len(said))
    return out


_codes = cache(_Codes)


@dataclass(frozen=True)
class Metrics:
    """Figures of masks on one set of images.

    Attributes:
        miou: mean of the IoUs of background and foreground, or of background and each class; of those that exist.
        iou_background: intersection over union of background, over all pixels; nan if the class is
            absent from truth and prediction.
        iou_foreground: the same of foreground; of several classes the mean of those that exist.
        pixel_accuracy: share of the counted pixels that are right.
        per_image_miou: the mean over images of the mean IoU over the classes present in the image's
            truth or prediction. Not comparable to ``miou``.
        images: images with at least one evaluated truth pixel.
        pixels: pixels counted: truth that is evaluated, with a prediction.
        coverage: share of the evaluated truth pixels that had a prediction.
        matrix: of several classes, pixels by truth (rows) and prediction (columns), background first; else None.
    """

    miou: float
    iou_background: float
    iou_foreground: float
    pixel_accuracy: float
    per_image_miou: float
    images: int
    pixels: int
    coverage: float
    matrix: Sequence[Sequence[int]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, in the order of the fields, less a matrix that is None."""
        return {key: value for key, value in asdict(self).items() if key != "matrix" or value is not None}

    @property
    def ious(self) -> NDArray[np.float64]:
        """``float64 (C + 1,)``: of background and each class; nan for what is in neither truth nor prediction."""
        if self.matrix is None:
            return np.asarray([self.iou_background, self.iou_foreground])
        return _iou(np.asarray(self.matrix, np.int64))


class Confusion:
    """A confusion matrix over all pixels, gathered image by image.

    Args:
        classes: how many kinds of object the masks tell apart.

    Example:
        >>> confusion = Confusion()
        >>> confusion.add(np.array([[1, 0]], np.uint8), np.array([[1, 1]], np.uint8))
        >>> confusion.compute().iou_foreground
        0.5
    """

    def __init__(self, classes: int = 1) -> None:
        self._classes = classes
        self._tables: list[Counts] = []
        self._border: Border | None = None

    def add(self, pred: NDArray[np.uint8], truth: NDArray[np.uint8], border: Border = "ignore") -> None:
        """Count one image or a batch.

        Args:
            pred: uint8 (H, W) or (B, H, W): 0 background, 1 foreground or 1 and on the classes, 255 no decision.
            truth: uint8 of the same shape: the same, 2 border (254 of several classes), 255 no truth.
            border: what border pixels count as; the same in every call. Of several classes nobody knows which one a
                border is of: it is ``ignore`` or ``background``, or the truth has none.

        Raises:
            ValueError: on another dtype, shape or border mode.
            SegError: on a code that is none of the above. Nothing of the batch is counted then.
        """
        pred, truth = _batch("prediction", pred, np.uint8, truth)
        _check_border(border)
        if self._border not in (None, border):
            raise ValueError(f"border '{border}' follows '{self._border}': one matrix, one border")
        codes = _codes(self._classes)
        tables = []
        for one_pred, one_truth in zip(pred, truth, strict=True):
            index = codes.truth[one_truth.ravel()] * codes.columns + codes.pred[one_pred.ravel()]
            table = np.bincount(index, minlength=codes.rows * codes.columns).reshape(codes.rows, codes.columns)
            _check_codes("truth", table[-1], one_truth, codes.truth_said)
            _check_codes("prediction", table[:, -1], one_pred, codes.pred_said)
            tables.append(_resolve(table[:-2, :-1], border))
        self._tables += tables
        self._border = border

    @property
    def matrix(self) -> Counts:
        """int64 (C + 1, C + 1): pixels by truth (rows) and prediction (columns), background first."""
        return self._stacked.sum(0)[:, :-1]

    @property
    def per_image_iou(self) -> NDArray[np.float64]:
        """float64 (N, C + 1): IoU of background and each class of every image added; nan where absent."""
        return _iou(self._stacked[:, :, :-1])

    def compute(self) -> Metrics:
        """The figures over everything added so far."""
        return _metrics(self._stacked)

    @property
    def _stacked(self) -> Counts:
        return _stack(self._tables, (self._classes + 1, self._classes + 2))


class ScoreHistogram:
    """Score maps against the truth, kept as counts that answer every threshold.

    Per image and truth code, one count for every interval between two neighbouring multiples of 0.001.
    ``metrics(t)`` then equals, to the last digit, adding ``scores >= np.float32(t)`` to a `Confusion`. Of several
    classes a pixel is of the one with the largest score, if that reaches the threshold; counts are then kept for every
    pair of a truth code and a class that an image has.

    Args:
        classes: how many kinds of object the masks tell apart.

    Example:
        >>> histogram = ScoreHistogram()
        >>> histogram.add(np.array([[0.2, 0.7]], np.float32), np.array([[0, 1]], np.uint8))
        >>> [histogram.metrics(t).miou for t in (0.1, 0.5)]
        [0.25, 1.0]
    """

    def __init__(self, classes: int = 1) -> None:
        self._classes = classes
        self._images = 0
        self._places: list[NDArray[Any]] = []  # each (R, 3): image, row of the truth's code, class
        self._counts: list[NDArray[np.int32]] = []  # each (R, _BINS), of these
        self._above: Counts | None = None  # (sum of R, _BINS): pixels at or above each edge; made when asked

    def add(
        self, scores: NDArray[np.float32], truth: NDArray[np.uint8], which: NDArray[np.uint8] | None = None
    ) -> None:
        """Count one image or a batch.

        Args:
            scores: float32 (H, W) or (B, H, W) in [0, 1], NaN where nothing is known.
            truth: uint8 of the same shape, as for `Confusion`.
            which: uint8 of the same shape, of several classes: the code of each score's class.

        Raises:
            ValueError: on another dtype or shape.
            SegError: on a score outside [0, 1] or an unknown truth code. Nothing of the batch is
                counted then.
        """
        scores, truth = _batch("scores", scores, np.float32, truth)
        codes = _codes(self._classes)
        places, counts = [], []
        for number, (one_scores, one_truth) in enumerate(zip(scores, truth, strict=True), self._images):
            index = _bin(one_scores.ravel())
            rows = codes.truth[one_truth.ravel()]
            if which is None:
                kinds = np.arange(codes.rows) * 256 + 1
                index += rows * _BINS
            else:
                own = (which if which.ndim == 3 else which[None])[number - self._images]
                # A row for each pair that there is: for all of them most would be empty.
                kinds, pair = np.unique(rows * 256 + own.ravel(), return_inverse=True)
                index += pair * _BINS
            table = np.bincount(index, minlength=len(kinds) * _BINS).reshape(-1, _BINS)
            _check_codes("truth", table[kinds // 256 == codes.rows - 1], one_truth, codes.truth_said)
            kept = kinds // 256 < codes.rows - 2
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
            border: what border pixels count as.

        Raises:
            ValueError: on another threshold or border mode.
        """
        edge = _edge(threshold)
        _check_border(border)
        if self._above is None:
            # The last column is no threshold: it keeps the unknown pixels.
            self._above = self._joined(self._counts, _BINS).astype(np.int64)
            self._above[:, :_UNKNOWN] = np.cumsum(self._above[:, _UNKNOWN - 1 :: -1], axis=1)[:, ::-1]
        above, width = self._above, self._classes + 2
        image, truth, kind = self._joined(self._places, 3).T
        table = np.zeros((self._images, width, width), np.int64)
        np.add.at(table, (image, truth, kind), above[:, edge])
        np.add.at(table, (image, truth, 0), above[:, 0] - above[:, edge])
        np.add.at(table, (image, truth, width - 1), above[:, _UNKNOWN])
        return _metrics(_resolve(table, border))

    @staticmethod
    def _joined(parts: Sequence[NDArray[Any]], width: int) -> NDArray[Any]:
        return np.concatenate(parts) if parts else np.zeros((0, width), np.int64)

    def to_arrays(self) -> dict[str, NDArray[np.int32]]:
        """``counts`` int32 (N, 3, 1002): images, truth codes 0 to 2, intervals (the last: NaN).

        Of several classes ``counts`` int32 (R, 1002) and ``places`` int32 (R, 3), the image, truth code and class of
        each row; ``shape``, the number of images and of classes.
        """
        counts = self._joined(self._counts, _BINS).astype(np.int32)
        if self._classes == 1:
            return {"counts": counts.reshape(self._images, 3, _BINS)}
        places = self._joined(self._places, 3).astype(np.int32)
        return {"counts": counts, "places": places, "shape": np.asarray([self._images, self._classes], np.int32)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.int32]]) -> Self:
        """The histogram that `to_arrays` wrote.

        Raises:
            SegError: if ``counts`` is missing or of another shape or dtype.
        """
        counts, places = arrays.get("counts"), arrays.get("places")
        shape = (3, _BINS) if places is None else (_BINS,)
        if counts is None or counts.dtype != np.int32 or counts.shape[1:] != shape:
            found = "nothing" if counts is None else f"{counts.dtype} {counts.shape}"
            raise SegError(f"evaluate again: 'counts' has to be int32 (N, 3, {_BINS}), not {found}")
        if places is None:
            images, classes = len(counts), 1
            places = np.stack(np.broadcast_arrays(*np.ogrid[:images, :3, 1:2]), 3).reshape(-1, 3)
        else:
            images, classes = (int(x) for x in arrays["shape"])
            fits = places.shape == (len(counts), 3) and (places >= 0).all()
            if not fits or (places >= [images, classes + 2, classes + 1]).any():
                raise SegError("evaluate again: 'places' does not fit 'counts'")
        made = cls(classes)
        made._images, made._counts, made._places = images, [counts.reshape(-1, _BINS)], [places]
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
    """(..., C + 2, C + 2) counts by truth code to (..., C + 1, C + 2): the border joins a class or goes."""
    resolved = table[..., :-1, :].astype(np.int64)
    if border != "ignore":
        if border == "foreground" and table.shape[-1] > 3 and table[..., -1, :].any():
            raise ValueError("border 'foreground': of several classes, give border pixels the code of one")
        resolved[..., 1 if border == "foreground" else 0, :] += table[..., -1, :]
    return resolved


def _iou(counts: Counts) -> NDArray[np.float64]:
    """(..., K, K) counts to (..., K) IoUs, nan where a class is in neither truth nor prediction."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(-1) + counts.sum(-2) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of those that exist, nan if none does (numpy's own nanmean warns there)."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _metrics(tables: Counts) -> Metrics:
    """(N, C + 1, C + 2) counts by truth (background, classes) and prediction (those, none) to figures."""
    total = tables.sum(0)
    matrix = total[:, :-1]
    counted, evaluated = int(matrix.sum()), int(total.sum())
    iou = _iou(matrix)
    # Of the classes that an image has; nan for an image without any. One by one this took most of a job's time.
    single = _iou(tables[:, :, :-1])
    there = ~np.isnan(single)
    known = there.any(1)
    per_image = np.where(there, single, 0).sum(1)[known] / there.sum(1)[known]
    return Metrics(
        miou=_mean(iou),
        iou_background=float(iou[0]),
        iou_foreground=_mean(iou[1:]),
        pixel_accuracy=int(np.trace(matrix)) / counted if counted else float("nan"),
        per_image_miou=_mean(per_image),
        images=int((tables.sum((1, 2)) > 0).sum()),
        pixels=counted,
        coverage=counted / evaluated if evaluated else float("nan"),
        matrix=None if len(matrix) == 2 else matrix.tolist(),
    )


def _stack(tables: Sequence[NDArray[Any]], shape: tuple[int, int]) -> NDArray[Any]:
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
