"""``report.html`` of a run: what was run, how good it is, what it looks like, what it cost; and the panel."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from seg.config.process import command, given_overrides
from seg.data.dataset import Split
from seg.evaluation.stages import Histogram
from seg.evaluation.table import ClassFigures, Row, class_figures, decisive_row
from seg.experiment import Experiment
from seg.files import write_lines
from seg.masks import MaskSet
from seg.report.gallery import classes_of, key_of, make_gallery, next_cards, picture_cells, rank, shared_rows
from seg.report.page import NAME, data_uri, embedded, write_page
from seg.report.pictures import SCORE_MAP, panel
from seg.store.manifest import size_of
from seg.supervision.mask import Target

#: Thresholds of the reliability curves; multiples of the histogram's 0.001.
THRESHOLDS = tuple(round(0.02 * i, 2) for i in range(51))
#: Classes of the confusion table at most, background too: of more, those with most mistakes.
MOST_CLASSES = 48


def draw_panel(path: Path, experiment: Experiment, masks: Mapping[str, MaskSet]) -> Path | None:
    """A panel of some images: test images with a ground truth, evenly spread over the list; else trainval's, else any.

    Returns:
        ``path``, or None if there was nothing to draw.
    """
    shared = shared_rows(masks) if masks else np.zeros(0, np.int64)
    count = experiment.cfg.evaluation.panel
    if count == 0 or len(shared) == 0:
        return None
    data = next(iter(masks.values())).data
    with_target = shared[data.has_target[shared]]
    rows = next(rows for rows in (with_target[data.is_test[with_target]], with_target, shared) if len(rows))
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    names = [f"{data.ids[row][-25:]}\n{', '.join(classes_of(data, row))[:25]}" for row in rows]
    return panel(path, [picture_cells(experiment.steps, masks, row) for row in rows], names, data.title, key_of(data))


def write_run_page(folder: Path, experiment: Experiment, masks: Mapping[str, MaskSet]) -> Path:
    """Write the report of a run that was built and measured.

    Args:
        folder: the run's; ``curves.png`` is taken from it, ``annotate_next.txt`` goes into it, where two steps have
            different masks to compare. experiment: with its rows. masks: the steps' masks by name.

    Returns:
        The path of the page.

    Raises:
        SegError: if it cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    cfg, store = experiment.cfg, experiment.store
    data, overrides = store.get(experiment.pool).data, given_overrides()
    gallery = make_gallery(experiment.steps, masks, cfg.evaluation.border, store.runtime)
    curves = curves_of(experiment)
    ids = [experiment.steps[name].masks.id for name in masks]
    compared = {name: one for i, (name, one) in enumerate(masks.items()) if ids[i] not in ids[:i]}
    used = [store.get(stage).rows for stage in experiment.stages() if isinstance(stage, Target)]
    ranked = rank(compared, np.concatenate([np.zeros(0, np.int64), *used]), store.runtime)
    if ranked:  # as labelled.list reads it
        lines = [f"{data.ids[row]}\t{value:.4f}\t{', '.join(classes_of(data, row))}" for row, value in ranked]
        write_lines(folder / "annotate_next.txt", ["# image\tdisagreement\tclass", *lines])
    values: dict[str, Any] = {
        "title": experiment.source.title,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "seconds": time.perf_counter() - experiment.started,
        "device": str(store.runtime.device),
        "command": command(overrides, folders=False),
        "is_known": bool(overrides),
        "rows": experiment.rows,
        "partial": any(row["coverage"] < 1 for row in experiment.rows),
        "border": cfg.evaluation.border,
        "resolution": cfg.evaluation.resolution,
        "true_masks": len(store.get(experiment.target)) if experiment.target is not None else 0,
        "qualities": experiment.qualities,
        "worse": experiment.worse(),
        "gallery": gallery,
        "next_ones": next_cards(compared, ranked),
        "compared": [*compared],
        "several": data.count > 1,
        "by_class": by_class(experiment.rows),
        "legend": key_of(data).legend,
        "scale": ", ".join(to_hex(colormaps[SCORE_MAP](i / 8)) for i in range(9)),
        "training": embedded(folder / "curves.png"),
        "reliability": draw(curves) if curves else None,
        "curves": curves,
        "costs": costs(experiment),
    }
    return write_page(folder / NAME, "run.html", values)


@dataclass(frozen=True)
class ByClass:
    """Which classes masks get right, and what they take them for.

    Attributes:
        stage, split: of the row. figures: of background and each class, in the order of the codes.
        names: of the confusion table's rows and columns, K of them.
        shares: ``(K, K)``, of the ground truth's pixels of each class those that the masks say are of each; nan without
            any.
    """

    stage: str
    split: str
    figures: list[ClassFigures]
    names: list[str]
    shares: np.ndarray

    @property
    def pixels(self) -> int:
        """That were counted."""
        return sum(one.target for one in self.figures)


def by_class(rows: Sequence[Row]) -> ByClass | None:
    """Of the last step of the stage table that decides every pixel; None for masks of the foreground alone."""
    row: Row = decisive_row(rows) if rows else {}
    figures = class_figures(row)
    if not figures:
        return None
    matrix = np.asarray(row["matrix"], np.int64)
    total = matrix.sum(1, keepdims=True)
    shares = np.where(total > 0, matrix / np.maximum(total, 1), np.nan)
    wrong = matrix.sum(0) + matrix.sum(1) - 2 * np.diagonal(matrix)
    wrong[0] = wrong.max() + 1  # background stays
    kept = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    return ByClass(row["stage"], row["split"], figures, [figures[i].name for i in kept], shares[np.ix_(kept, kept)])


@dataclass(frozen=True)
class Curve:
    """mIoU of ``score >= threshold`` by threshold, of the scores behind one step on one split.

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


def curves_of(experiment: Experiment) -> list[Curve]:
    """The curves of the seeds, and of every other step whose scores were counted already."""
    out: list[Curve] = []
    store = experiment.store
    # The last step of equal scores names them: "seeds" says more than "CAM >= 0.4".
    named = {step.masks.scores.id: (name, step) for name, step in experiment.steps.items()}
    for name, step in named.values():
        for split in get_args(Split):
            counted = Histogram(scores=step.masks.scores, split=split, exclude=experiment.excluded(split))
            if step.kind != "seeds" and not store.has(counted):
                continue
            histogram, border = store.get(counted), experiment.cfg.evaluation.border
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


def costs(experiment: Experiment) -> list[dict[str, Any]]:
    """The stored products that a run needed, each once, upstream first.

    Returns:
        Of each ``stage`` and ``product``, its two names; ``what`` it is; its ``bytes``; and the ``seconds`` that it
        took, None where they are not known.
    """
    out: dict[Path, dict[str, Any]] = {}
    store = experiment.store
    for stage in (one for one in experiment.stages() if one.stored):
        folder = store.folder(stage)
        if folder not in out and (manifest := store.manifest(stage)) is not None:
            name, _, product = stage.id.partition("/")
            out[folder] = {"stage": name, "product": product, "what": stage.what, "bytes": size_of(folder)}
            out[folder]["seconds"] = manifest.get("seconds")
    return list(out.values())
