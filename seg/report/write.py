"""Writes the results of a run: table, pictures, page, networks, masks."""

import logging
import os
import shlex
import time
from pathlib import Path

from seg.config.process import in_sweep
from seg.data.dataset import Split
from seg.evaluation.per_image import write_per_image
from seg.evaluation.table import format_classes, format_table, format_unmeasured, write_metrics
from seg.experiment import Experiment
from seg.files import write_lines
from seg.methods.calibration import Reliability
from seg.models.load import load_model
from seg.models.mask_files import export_masks
from seg.models.save import save_models

log = logging.getLogger("seg")


def write_report(experiment: Experiment, folder: Path, figures: bool = True) -> None:
    """Write the table, the pictures and the exports.

    Args:
        experiment: built and measured. folder: the run's. figures: whether to draw.
    """
    cfg, store = experiment.cfg, experiment.store
    header = {
        "data": experiment.source.title,
        "border": cfg.evaluation.border,
        "resolution": cfg.evaluation.resolution,
        "seconds": round(time.perf_counter() - experiment.started, 2),
        "stages": {name: step.masks.id for name, step in experiment.steps.items()},
        "estimated_quality": {
            name: {split: dict(zip(one._fields[:-1], one[:-1], strict=True)) for split, one in found.items()}
            for name, found in experiment.qualities.items()
        },
        "kinds": {name: step.kind for name, step in experiment.steps.items()},
    }
    if experiment.target is not None:
        target = store.get(experiment.target)
        header |= {"true_masks": len(target), "share": cfg.labelled.share}
        write_lines(folder / "true_masks.txt", (target.data.ids[row] for row in target.rows))
    write_metrics(folder, experiment.rows, header)
    if len(experiment.agreement):
        lines = (f"{name}\t{value:.4f}" for name, value in experiment.agreement.items())
        write_lines(folder / "doubtful.txt", ["# image\tagreement", *lines])
    if not in_sweep():
        write_per_image(folder, experiment.per_image())
    masks = {name: store.get(step.masks) for name, step in experiment.steps.items()}
    picture = curves = calibrated = page = None
    if figures:
        from seg.report.pictures import calibration as draw_calibration
        from seg.report.pictures import curves as draw_curves
        from seg.report.run_page import draw_panel, write_run_page

        picture = draw_panel(folder / "panel.png", experiment, masks)
        histories = {name: stage.history(store) for name, stage in experiment.trainings().items()}
        histories = {name: frame for name, frame in histories.items() if len(frame)}
        curves = draw_curves(folder / "curves.png", histories) if histories else None
        split, reliable = _calibration(experiment)
        calibrated = draw_calibration(folder / "calibration.png", split, reliable) if reliable else None
        page = write_run_page(folder, experiment, masks)
    if cfg.export.onnx or (not in_sweep() if cfg.export.models is None else cfg.export.models):
        stages = {name: step.masks for name, step in experiment.steps.items()}
        saved = save_models(folder / "models", stages, experiment.rows, experiment.pool.data, store)
        if saved:
            log.info("networks: %s (%s)", folder / "models", ", ".join(path.stem for path in saved))
        if cfg.export.onnx:
            from seg.models.onnx import export_onnx

            onnx = folder / "models/segmenter.onnx"
            difference = export_onnx(load_model(folder, "cpu"), onnx)
            log.info("%s: scores differ from PyTorch's by at most %.1g", onnx, difference)
    if cfg.export.masks or cfg.export.format:
        export, dataset = cfg.export, store.get(experiment.source)
        settings = (export.format, dataset.file_names(), export.tolerance, export.min_area)
        photos = Path(os.path.abspath(dataset.folder)).name if dataset.folder else "photos"
        count = export_masks(folder / "masks", masks, store, *settings, photos=photos)
        log.info("masks: %s (%d masks)", folder / "masks", count)
    rows = experiment.rows
    qualities = {name: found["trainval"].quality for name, found in experiment.qualities.items() if "trainval" in found}
    log.info("\n%s\n", format_table(rows) if rows or not masks else format_unmeasured(masks, qualities, picture))
    if by_class := format_classes(rows):
        log.info("%s\n", by_class)
    for line in experiment.worse():
        log.warning(line)
    for path in (picture, curves, calibrated, page, folder / "metrics.csv" if rows else None):
        if path is not None:
            log.info("%s", path)
    if (folder / "models/segmenter.safetensors").exists():
        log.info("next: python -m seg.predict %s images=PHOTOS out=masks", shlex.quote(f"model={folder}"))


def _calibration(experiment: Experiment) -> tuple[Split, dict[str, Reliability]]:
    """The split (test if it was measured), and the calibration of each step that has its own scores."""
    split: Split = "test" if any(row["split"] == "test" for row in experiment.rows) else "trainval"
    steps = {step.masks.scores.id: step for step in reversed(experiment.steps.values())}
    border, found = experiment.cfg.evaluation.border, {}
    for step in reversed(steps.values()):
        found[step.plain_name] = experiment.store.get(experiment.histogram(step, split)).reliability(border)
    return split, {name: one for name, one in found.items() if one.pixels.any()}
