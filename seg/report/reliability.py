"""How much the seeds can be relied on: mIoU of ``score >= threshold`` at every threshold.

Of several classes a pixel is of the one with the largest score, where that reaches the threshold,
and right is the right class.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np

from seg.data.dataset import Split
from seg.evaluation.metrics import Border
from seg.evaluation.stages import Histogram
from seg.experiment import Step
from seg.report.page import data_uri
from seg.store import Store
from seg.supervision.mask import LabelledSubset

#: Thresholds of the curves; multiples of the histogram's 0.001.
THRESHOLDS = tuple(round(0.02 * i, 2) for i in range(51))


@dataclass(frozen=True)
class Curve:
    """mIoU by threshold, of the scores behind one step on one split.

    Attributes:
        name: of the step. split: of the images. miou: ``float64 (51,)``, at :data:`THRESHOLDS`.
        used: the bounds of the masks: background below the first, foreground from the second on.
    """

    name: str
    split: str
    miou: np.ndarray
    used: tuple[float, float]

    @property
    def best(self) -> tuple[float, float]:
        """The threshold with the highest mIoU, and that mIoU."""
        i = int(np.nanargmax(self.miou))
        return THRESHOLDS[i], float(self.miou[i])


def curves_of(
    steps: Mapping[str, Step], border: Border, store: Store, apart: LabelledSubset | None = None
) -> list[Curve]:
    """The curves of the seeds, and of every other step whose scores were counted already.

    Args:
        steps: the chain. border: as in the stage table. apart: of trainval, what was learnt from and is left out.

    Returns:
        One per kind of scores and split with a truth; none where nothing can be measured.
    """
    out: list[Curve] = []
    # The last step of equal scores names them: "seeds" says more than "CAM >= 0.4".
    named = {step.masks.scores.id: (name, step) for name, step in steps.items()}
    for name, step in named.values():
        for split in get_args(Split):
            left_out = apart if split == "trainval" else None
            counted = Histogram(scores=step.masks.scores, split=split, apart=left_out)
            if step.kind != "seeds" and not store.has(counted):
                continue
            histogram = store.get(counted)
            miou = np.asarray([histogram.metrics(t, border).miou for t in THRESHOLDS])
            if not np.isnan(miou).all():
                out.append(Curve(name, split, miou, step.masks.bounds_in(store)))
    return out


def draw(curves: list[Curve]) -> str:
    """The curves, at least one, as the data URI of an SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), facecolor="white", layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(curve.name for curve in curves))
    for curve in curves:
        colour = f"C{names.index(curve.name)}"
        style = "-" if curve.split == "trainval" else "--"
        axes.plot(THRESHOLDS, curve.miou, style, color=colour, linewidth=1.7, label=f"{curve.name}, {curve.split}")
        for place in set(curve.used):
            axes.axvline(place, color=colour, linewidth=0.9, linestyle=":")
    axes.set(xlabel="threshold (dotted: in this run)", ylabel="mIoU", xlim=(0, 1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False)
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "weakseg"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return data_uri(drawn.getvalue(), ".svg")
