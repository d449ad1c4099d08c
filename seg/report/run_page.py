"""``report.html`` of a run: what was run, how good it is, what it looks like, what it cost."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg.config.process import command, given_overrides
from seg.experiment import Experiment
from seg.masks import MaskSet
from seg.report.annotate import annotate_next
from seg.report.classes import by_class
from seg.report.facts import costs, differences
from seg.report.gallery import make_gallery
from seg.report.page import NAME, embedded, write_page
from seg.report.panel import key_of
from seg.report.pictures import SCORE_MAP
from seg.report.reliability import curves_of, draw


def write_run_page(folder: Path, experiment: Experiment, masks: Mapping[str, MaskSet]) -> Path:
    """Write the report of a run that was built and measured.

    Args:
        folder: the run's; ``curves.png`` is taken from it, ``annotate_next.txt`` goes into it.
        experiment: with its rows. masks: the steps' masks by name.

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
    curves = curves_of(experiment.steps, cfg.evaluation.border, store, experiment.truth)
    next_ones, compared = annotate_next(folder, experiment, masks)
    spent = costs([experiment.pool, *(step.masks for step in experiment.steps.values())], store)
    values: dict[str, Any] = {
        "title": experiment.source.title,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "seconds": time.perf_counter() - experiment.started,
        "device": str(store.runtime.device),
        "command": command(overrides, folders=False),
        "is_known": bool(overrides),
        "differences": differences(cfg, overrides),
        "rows": experiment.rows,
        "partial": any(row["coverage"] < 1 for row in experiment.rows),
        "border": cfg.evaluation.border,
        "resolution": cfg.evaluation.resolution,
        "true_masks": len(store.get(experiment.truth)) if experiment.truth is not None else 0,
        "gallery": gallery,
        "next_ones": next_ones,
        "compared": compared,
        # The pictures open with what the run is for, its last masks.
        "start": gallery.columns.index(gallery.masks[-1]) if gallery.cards and gallery.masks else 0,
        "several": data.count > 1,
        "by_class": by_class(experiment.rows),
        "legend": key_of(data).legend,
        "scale": ", ".join(to_hex(colormaps[SCORE_MAP](i / 8)) for i in range(9)),
        "training": embedded(folder / "curves.png"),
        "reliability": draw(curves) if curves else None,
        "curves": curves,
        "costs": spent,
    }
    return write_page(folder / NAME, "run.html", values)
