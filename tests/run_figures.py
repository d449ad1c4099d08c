"""Folders of runs that hold figures of random masks, without a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seg.evaluation.per_image import write_per_image
from seg.evaluation.table import write_metrics
from seg.methods.metrics import Confusion


def write_run(
    folder: Path, wrong: float, images: int = 40, seed: int = 0, steps: Sequence[str] = ("seeds",), first: int = 0
) -> float:
    """A run whose masks have so many wrong pixels, of images ``i<first>`` on; returns its mIoU."""
    rows, counts, rng = [], [], np.random.default_rng(seed)
    for stage in steps:
        confusion = Confusion()
        for image in range(first, first + images):
            target = np.random.default_rng(image).integers(0, 2, (16, 16)).astype(np.uint8)
            confusion.add(np.where(rng.random((16, 16)) < wrong, 1 - target, target).astype(np.uint8), target)
        marks = dict.fromkeys(("oracle", "trained_on_masks"), stage == "truth") | {"masks_used": 7 * (stage == "truth")}
        rows.append({"stage": stage, "split": "test", **marks, **confusion.compute().as_dict()})
        # Not sorted, as a data set's ids may be.
        counts.append(([f"i{image}" for image in range(first, first + images)], confusion.matrices))
    write_metrics(folder, rows, {"data": "drawn", "border": "ignore", "resolution": "working"})
    write_per_image(folder, counts)
    return float(rows[-1]["miou"])
