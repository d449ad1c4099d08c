"""Which classes masks get right, and what they take them for: of the last step that decides every pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.evaluation.table import ClassFigures, Row, class_figures, whole

#: Classes of the confusion table at most, background too: of more, those with most mistakes, and the others as one.
MOST = 48


@dataclass(frozen=True)
class ByClass:
    """Of one row of the stage table.

    Attributes:
        stage, split: of the row. figures: of background and each class, in the order of the codes.
        names: of the confusion table's rows and columns, K of them.
        shares: ``(K, K)``, of the truth's pixels of each class those that the masks say are of each; nan without any.
    """

    stage: str
    split: str
    figures: list[ClassFigures]
    names: list[str]
    shares: NDArray[np.float64]

    @property
    def pixels(self) -> int:
        """That were counted."""
        return sum(one.truth for one in self.figures)


def by_class(rows: Sequence[Row]) -> ByClass | None:
    """What a report says of the classes.

    Args:
        rows: the stage table.

    Returns:
        None where nothing was measured, or masks are of the foreground alone.
    """
    row: Row = whole(rows) if rows else {}
    figures = class_figures(row)
    if not figures:
        return None
    names, matrix = _most_mistaken([one.name for one in figures], np.asarray(row["matrix"], np.int64))
    total = matrix.sum(1, keepdims=True)
    shares = np.where(total > 0, matrix / np.maximum(total, 1), np.nan)
    return ByClass(str(row["stage"]), str(row["split"]), figures, names, shares)


def _most_mistaken(names: list[str], matrix: NDArray[Any]) -> tuple[list[str], NDArray[Any]]:
    """Background and the classes with most wrong pixels, in their order, and what is left in a last row and column."""
    if len(names) <= MOST:
        return names, matrix
    wrong = matrix.sum(0) + matrix.sum(1) - 2 * np.diagonal(matrix)
    wrong[0] = wrong.max() + 1  # background stays
    kept = np.sort(np.argsort(-wrong, kind="stable")[: MOST - 1])
    to = np.full(len(names), len(kept))
    to[kept] = np.arange(len(kept))
    out = np.zeros((MOST, MOST), np.int64)
    np.add.at(out, (to[:, None], to[None, :]), matrix)
    return [*(names[i] for i in kept), f"{len(names) - len(kept)} other classes"], out
