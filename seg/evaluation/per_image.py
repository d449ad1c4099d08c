"""``per_image.npz`` of a run: the confusion matrix of every image, for confidence intervals."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg.errors import SegError
from seg.evaluation.stages import save_quickly
from seg.evaluation.table import Row
from seg.files import atomic_path
from seg.methods.bootstrap import bootstrap_miou

FILE = "per_image.npz"

#: Identifies a row of the table: step and split.
Key = tuple[str, str]


def write_per_image(folder: Path, counts: Iterable[tuple[Sequence[str], np.ndarray]]) -> None:
    """Write the matrices of each row of the table, in its order.

    Args:
        folder: the run's. counts: the images' ids, and ``int64 (n, K, K)`` pixels by target and prediction.
    """
    arrays = (
        pair
        for number, (ids, matrices) in enumerate(counts)
        for pair in ((f"ids_{number}", np.asarray(ids, str)), (f"matrices_{number}", matrices))
    )
    with atomic_path(folder / FILE) as tmp:
        save_quickly(tmp, arrays)


@dataclass(frozen=True)
class RunFigures:
    """Metrics read from a run's folder.

    Attributes:
        folder: the run's. header: of ``metrics.json``. rows: of its table.
    """

    folder: Path
    header: Mapping[str, Any]
    rows: Mapping[Key, Row]

    @classmethod
    def read(cls, folder: Path) -> "RunFigures":
        """Read a run's folder. Raises SegError if it is none."""
        try:
            content = json.loads((folder / "metrics.json").read_text())
            rows = {(row["stage"], row["split"]): row for row in content["rows"]}
            if not (folder / FILE).is_file():
                raise OSError
            return cls(folder, content["header"], rows)
        except (OSError, ValueError, KeyError, TypeError):
            raise SegError(f"{folder}: has no metrics.json and {FILE}; name a run, or a sweep over seeds") from None

    def load(self, name: str, key: Key) -> np.ndarray:
        """``ids`` or ``matrices`` of a row."""
        with np.load(self.folder / FILE) as file:
            array: np.ndarray = file[f"{name}_{[*self.rows].index(key)}"]
        return array


def image_ids(runs: Sequence[RunFigures], key: Key) -> np.ndarray:
    """The images that any of the runs measured in a row of the table, sorted."""
    return np.unique(np.concatenate([run.load("ids", key) for run in runs]))


def resampled_miou(runs: Sequence[RunFigures], key: Key) -> np.ndarray:
    """``float64 (runs, samples)``: the mIoU over resampled images, the same for all runs.

    If the runs measured different images, samples are drawn from all of them, and each run counts its own.
    """
    ids, found = image_ids(runs, key), []
    for run in runs:
        own = run.load("matrices", key)
        matrices = np.zeros((len(ids), *own.shape[1:]), np.int64)
        matrices[np.searchsorted(ids, run.load("ids", key))] = own
        found.append(bootstrap_miou(matrices))
    return np.stack(found)
