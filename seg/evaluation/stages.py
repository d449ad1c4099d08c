"""Evaluation as stages, so that no metric is computed twice."""

import io
import json
import logging
import zipfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from seg.data.dataset import Split
from seg.data.prepared import Pool
from seg.errors import SegError
from seg.files import write_json
from seg.masks import MaskSet, Threshold
from seg.methods.boundary import boundary_areas
from seg.methods.metrics import Border, Confusion, HistogramEvaluator, Metrics, mean_iou
from seg.methods.thresholds import STEPS
from seg.store import Products, Stage, param
from seg.supervision.mask import LabelledSubset
from seg.supervision.scores import ScoreMaps, ScoreStage

NONE = np.zeros(0, np.int64)


def rows_with_target(scores: ScoreMaps | MaskSet, split: Split, exclude: np.ndarray = NONE) -> np.ndarray:
    """Positions (``int64``) of the images of a split that have ground truth, without the rows ``exclude``."""
    rows = scores.rows
    data = scores.data
    chosen = np.flatnonzero(data.has_target[rows] & (data.is_test[rows] == (split == "test")))
    return chosen[~np.isin(rows[chosen], exclude)]


def _rows(exclude: LabelledSubset | None, store: Products) -> np.ndarray:
    return NONE if exclude is None else store.get(exclude).rows


class Histogram(Stage):
    """Counts of scores against ground truth at working resolution, which give the metrics at every threshold.

    Attributes:
        scores: what is evaluated. split: ``trainval`` or ``test``.
        exclude: images whose ground truth was used for training; they are left out.
    """

    what: ClassVar[str] = "score histogram"
    log_level: ClassVar[int] = logging.DEBUG

    scores: ScoreStage
    split: Split
    exclude: LabelledSubset | None = param(default=None, key=False)  # it is upstream, where there is one

    def build(self, out: Path, store: Products) -> dict[str, Any]:
        """One pass over the scores and the ground truth."""
        scores: ScoreMaps = store.get(self.scores)
        chosen = rows_with_target(scores, self.split, _rows(self.exclude, store))
        data = scores.data
        histogram = HistogramEvaluator(data.count)
        size = store.runtime.batch_size
        for start in store.runtime.bar(range(0, len(chosen), size), "evaluating"):
            part = chosen[start : start + size]
            target = data.target(scores.rows[part])
            maps, class_ids = scores.argmax(part)
            histogram.add(maps, target, class_ids)
        save_quickly(out / "counts.npz", histogram.to_arrays().items())
        return {"images": len(chosen)}

    def load(self, path: Path, store: Products) -> HistogramEvaluator:
        """The counts."""
        with np.load(path / "counts.npz") as arrays:
            return HistogramEvaluator.from_arrays(dict(arrays))


def save_quickly(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """``np.savez_compressed`` with zlib's fastest level: for counts six times as fast, and 10 % larger."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays:
            file = io.BytesIO()
            np.lib.format.write_array(file, array, allow_pickle=False)
            # Without a time stamp, so that equal counts are equal files.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), file.getbuffer(), zipfile.ZIP_DEFLATED, 1)


class Evaluated(Stage):
    """The metrics of masks on a split, from one confusion matrix over all pixels.

    Attributes:
        masks: what is evaluated. split: ``trainval`` or ``test``; images without ground truth are left out.
        border: what the ground truth's border pixels count as.
        resolution: ``working``, or ``original`` to compare at every image's own size.
        exclude: images whose ground truth was used for training; they are left out.
    """

    what: ClassVar[str] = "figures"
    log_level: ClassVar[int] = logging.DEBUG

    masks: Threshold
    split: Split
    border: Border = param(default="ignore")
    resolution: Literal["working", "original"] = param(default="working")
    exclude: LabelledSubset | None = param(default=None, key=False)

    def check(self, store: Products) -> None:
        """With several classes, border pixels cannot count as foreground."""
        pool = next((s for s in self.masks.walk() if isinstance(s, Pool)), None)
        dataset = pool.data.source.dataset_if_known(store) if pool and self.border == "foreground" else None
        if pool and dataset and len(pool.classes_of(dataset)) > 1:
            raise SegError("evaluation.border=foreground: goes with one class alone; use ignore or background")

    @cached_property
    def histogram(self) -> Histogram | None:
        """The histogram that gives the metrics; None if the masks themselves must be compared."""
        # Thresholds that a criterion chooses are on the grid.
        low, high = self.masks.bounds or ((0.0, 0.0) if self.masks.is_cut else (0.0, 1.0))
        on_grid = low == high and abs(high * STEPS - round(high * STEPS)) < 1e-9
        plain = self.resolution == "working" and not self.masks.clean_up
        counted = Histogram(scores=self.masks.scores, split=self.split, exclude=self.exclude)
        return counted if plain and on_grid else None

    def upstream(self) -> dict[str, Stage]:
        """The masks, and the histogram if it is used."""
        return super().upstream() | ({"histogram": self.histogram} if self.histogram else {})

    def build(self, out: Path, store: Products) -> None:
        """Compare the masks with the ground truth."""
        if self.histogram is not None:
            counted: HistogramEvaluator = store.get(self.histogram)
            metrics = counted.metrics(self.masks.bounds_in(store)[1], self.border)
        else:
            confusion = Confusion(store.get(self.masks).data.count)
            for pred, target in self._batches(store):
                confusion.add(pred, target, self.border)
            metrics = confusion.compute()
            save_quickly(out / "matrices.npz", [("matrices", confusion.matrices)])
        write_json(out / "metrics.json", metrics.as_dict())

    def _chosen(self, masks: MaskSet, store: Products) -> np.ndarray:
        return rows_with_target(masks, self.split, _rows(self.exclude, store))

    def _batches(self, store: Products) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Masks and their ground truth, ``uint8 (b, H, W)``."""
        masks: MaskSet = store.get(self.masks)
        chosen, data = self._chosen(masks, store), masks.data
        size = store.runtime.batch_size if self.resolution == "working" else 1
        for start in store.runtime.bar(range(0, len(chosen), size), "evaluating"):
            part = chosen[start : start + size]
            if self.resolution == "working":
                target = data.target(masks.rows[part])
            else:
                target = data.original_target(int(masks.rows[part[0]]))[None]
            yield masks.at(part, target.shape[1:]), target

    def per_image(self, store: Products) -> tuple[list[str], np.ndarray]:
        """The images' ids, and ``int64 (n, C + 1, C + 1)``: their pixels by target and prediction."""
        masks: MaskSet = store.get(self.masks)
        ids = [masks.data.ids[row] for row in masks.rows[self._chosen(masks, store)]]
        if self.histogram is not None:
            counted: HistogramEvaluator = store.get(self.histogram)
            return ids, counted.matrices(self.masks.bounds_in(store)[1], self.border)
        store.ensure(self)
        with np.load(store.folder(self) / "matrices.npz") as file:
            return ids, file["matrices"]

    def load(self, path: Path, store: Products) -> Metrics:
        """The metrics; ``images`` is 0 if the split has no ground truth."""
        return Metrics(**json.loads((path / "metrics.json").read_text()))


class Boundary(Evaluated):
    """The Boundary IoU of masks on a split, with areas summed over all images."""

    what: ClassVar[str] = "Boundary IoU"

    @property
    def histogram(self) -> None:
        """None: a histogram has no positions."""

    def build(self, out: Path, store: Products) -> None:
        """Compare the masks with the ground truth near their contours."""
        count = store.get(self.masks).data.count
        areas = np.zeros((3, count + 1), np.int64)
        for preds, targets in self._batches(store):
            for pred, target in zip(preds, targets, strict=True):
                areas += boundary_areas(pred, target, count, self.border)
        write_json(out / "areas.json", areas.tolist())

    def load(self, path: Path, store: Products) -> Any:
        """``float``: its mean over background and classes."""
        return float(mean_iou(np.asarray(json.loads((path / "areas.json").read_text()))))
