"""A pipeline with everything that is measured, drawn and written about it."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig

from seg.checkpoints import ROLES, beside
from seg.cli import writable
from seg.data.dataset import Split
from seg.data.prepared import Pool, Prepared, PreparedData, split_counts
from seg.data.sources import Source, ToyPets
from seg.errors import SegError
from seg.evaluate import Metrics
from seg.evaluation import Evaluated, Histogram
from seg.export import check_format
from seg.instantiate import instantiate
from seg.refiner.affinity import Unrefined
from seg.runtime import Runtime
from seg.seeds import MaskSet, Seeds
from seg.segmenter.segmenter import Predicted
from seg.stage import Stage
from seg.store import Store
from seg.supervision.bbox import BoxScores
from seg.supervision.cam import CAM
from seg.supervision.mask import TruthScores
from seg.tracking.base import Tracker
from seg.train import Training

log = logging.getLogger("seg")

#: Keys of the groups that are no stages: ``+group.key=`` could put others there, which nobody would read.
KEYS = {
    "checkpoints": set(ROLES),
    "evaluation": {"border", "resolution", "panel"},
    "export": {"masks", "format", "models", "onnx"},
    "runtime": {f.name for f in dataclasses.fields(Runtime)} | {"precision"},
}


@dataclass
class Experiment:
    """What one config describes.

    Attributes:
        cfg: the composed config. store: where the stages' products are.
        pool: the images that get masks.
        products: the stages that are evaluated, by the name that the table gives them: masks as
            :class:`seg.seeds.Seeds`, in the order of the data's way.
        rows: the stage table, filled by :meth:`measure`.
        trackers: what the run is told to, by name.
    """

    cfg: DictConfig
    store: Store
    pool: Pool
    products: dict[str, Seeds]
    rows: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    trackers: dict[str, Tracker] = field(default_factory=dict)

    @classmethod
    def from_config(cls, cfg: DictConfig, store: Store | None = None) -> "Experiment":
        """Instantiate the stages.

        Args:
            cfg: the composed config.
            store: one to share with other experiments of this process; None for one of its own.

        Raises:
            SegError: for parameters that no stage takes or that are out of range, all together.
        """
        if unknown := [f"{group}.{k}" for group, keys in KEYS.items() for k in cfg[group] if k not in keys]:
            raise SegError(f"{', '.join(unknown)}: no such key; --cfg job shows them all")
        if cfg.epoch < 1:
            raise SegError(f"epoch={cfg.epoch}: must be at least 1")
        panel = cfg.evaluation.panel
        if not isinstance(panel, int) or panel < 0:
            raise SegError(f"evaluation.panel={panel}: must be a number of images, 0 for no picture")
        check_format(cfg.export.format)
        # The stages that Model 0 never touches are not even made: they may lack what they need.
        made: dict[str, Any] = {}
        pool = instantiate(cfg, "data.pool", made)
        seeds = instantiate(cfg, "seeds", made)
        refiner = instantiate(cfg, "refiner", made)
        name = score_name(seeds)
        threshold = cfg.threshold if seeds.threshold is None else seeds.threshold
        products = {
            f"{name} >= {threshold:g}": Seeds(scores=seeds.scores, threshold=threshold),
            "seeds": seeds,
        }
        if isinstance(seeds.scores, TruthScores):
            # Truth against itself says nothing.
            products = {}
        if not isinstance(refiner, Unrefined):
            products["refined masks"] = refiner
        if cfg.segmenter is not None:
            segmenter = instantiate(cfg, "segmenter", made)
            scores = Predicted(pool=pool, segmenter=segmenter)
            products[f"{type(segmenter.net).__name__} prediction"] = Seeds(scores=scores, threshold=0.5)
        experiment = cls(
            cfg, store or Store(Path(cfg.store), make_runtime(cfg)), pool, products, trackers=make_trackers(cfg)
        )
        experiment.evaluated(seeds, "test")  # its parameters are checked now, not after the work
        return experiment

    # -- before ----------------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Fetch data that was asked to be fetched; without them not even a key is known."""
        source = self.source
        if not self.cfg.dry_run:
            source.acquire()

    @property
    def source(self) -> Source:
        """Where the images come from."""
        prepared: Prepared = self.pool.data
        return prepared.source

    def check(self, folder: Path) -> None:
        """Let every stage refuse what is sure to fail later, and report all refusals together."""
        problems = []
        for place in (folder, self.store.root):
            if not writable(place):
                problems.append(f"{place}: cannot be written to; choose another with hydra.run.dir= or store=")
        try:
            self.store.runtime.check()
        except SegError as error:
            problems.append(str(error))
        from seg.models import in_sweep

        # A sweep has checked its trackers: a server that goes away in the middle must not fail the jobs after it.
        for tracker in () if in_sweep() else self.trackers.values():
            try:
                tracker.check()
            except SegError as error:
                problems.append(str(error))
        for stage in self._stages():
            try:
                # What is there can't fail any more.
                if not stage.stored or not self.store.has(stage):
                    stage.check(self.store)
            except SegError as error:
                if str(error) not in problems:
                    problems.append(str(error))
        if self.cfg.export.onnx:
            from seg.onnx_export import check_onnx

            try:
                check_onnx("segmenter" in self.networks())
            except SegError as error:
                problems.append(str(error))
        if problems:
            raise SegError("; ".join(problems))
        for line in self.given():
            log.info(line)

    def networks(self) -> dict[str, Training]:
        """The networks that the run trains or is given, by role."""
        return {s.role: s for s in self._stages() if isinstance(s, Training) and s.role}

    def trainings(self) -> list[Training]:
        """The trainings of the run, each kind once."""
        return list({s.what: s for s in self._stages() if isinstance(s, Training)}.values())

    def given(self) -> list[str]:
        """A line for each of ``checkpoints.*`` that is given."""
        used, lines = self.networks(), []
        for role, path in self.cfg.checkpoints.items():
            stage = used.get(role)
            if path is None:
                continue
            if stage is None or stage.checkpoint is None:
                lines.append(f"checkpoints.{role}={path}: NOT USED, for this run has no {role}")
                continue
            lines.append(f"checkpoints.{role}={path}: given, not trained")
            size, trained = getattr(stage, "input_size", None) or self.pool.data.size, beside(stage.given())
            if role == "segmenter" and trained.get("input_size", size) != size:
                was = trained["input_size"]
                lines[-1] += f"; at {was} pixels, and here it sees {size}: segmenter.input_size={was} is as it was"
        return lines

    def _stages(self) -> list[Stage]:
        # By object, not by key: a key needs the data, which may be what is missing.
        out: dict[int, Stage] = {}

        def visit(stage: Stage) -> None:
            if id(stage) not in out:
                for up in stage.upstream().values():
                    visit(up)
                out[id(stage)] = stage

        for stage in (self.pool, *self.products.values()):
            visit(stage)
        return list(out.values())

    def plan(self) -> str:
        """What a run would do, as a tree in lines."""
        lines = [self.heading(), f"store: {self.store.root}"]
        for planned in self.store.plan(self.products):
            mark = {"built": "=", "build": "+", "extend": "+", "on the fly": ".", "above": "^"}[planned.status]
            name = type(planned.stage).__name__
            lines.append(
                f"{mark} {'  ' * planned.depth}{name} {planned.stage.product}  [{planned.status}: {planned.why}]"
            )
        lines += self.given()
        lines.append("+ would run   = in the store   . made on the fly   ^ see above")
        return "\n".join(lines)

    def heading(self) -> str:
        """The first line of every run: which data it is."""
        title = getattr(self.source, "title", type(self.source).__name__)
        if isinstance(self.source, ToyPets):
            return f"data: toy_pets, a TOY: {self.source.images} drawn pictures"
        root = getattr(self.source, "root", None)
        return f"data: {title}{f' ({root})' if root else ''}{self.source.detail(self.store)}"

    # -- the work --------------------------------------------------------------------------------------

    def build(self) -> None:
        """Build every product, in the order of the data's way."""
        data: PreparedData = self.store.get(self.pool.data)
        rows = self.store.get(self.pool).rows
        counts, truths = split_counts(data, rows), split_counts(data, rows[data.has_truth[rows]])
        border, resolution = self.cfg.evaluation.border, self.cfg.evaluation.resolution
        log.info(
            "images: %d; get masks: %s; evaluation set: %s",
            len(data),
            " + ".join(f"{counts[s]} {s}" for s in get_args(Split)),
            " + ".join(f"{truths[s]} {s}" for s in get_args(Split)) + f" (border: {border}, {resolution} resolution)"
            if truths
            else "none, no image has a truth",
        )
        for stage in self.products.values():
            self.store.ensure(stage)
        self.store.together = False

    def measure(self) -> None:
        """Evaluate every product on the splits where it has images with a truth."""
        for name, stage in self.products.items():
            for split in get_args(Split):
                metrics = self.metrics(stage, split)
                if metrics.images == 0:
                    continue
                self.rows.append({"stage": name, "split": split, "oracle": stage.is_oracle, **metrics.as_dict()})

    def metrics(self, stage: Seeds, split: Split) -> Metrics:
        """Figures of one product on one split."""
        result: Metrics = self.store.get(self.evaluated(stage, split))
        return result

    def evaluated(self, stage: Seeds, split: Split) -> Evaluated:
        """The stage that measures one product on one split."""
        border, resolution = self.cfg.evaluation.border, self.cfg.evaluation.resolution
        return Evaluated(masks=stage, split=split, border=border, resolution=resolution)

    def stored_products(self) -> list[str]:
        """Everything in the store that this run is made of or has measured, as ``Stage/product``."""
        tops: list[Stage] = [self.pool]
        for stage in self.products.values():
            for split in get_args(Split):
                tops += [self.evaluated(stage, split), Histogram(scores=stage.scores, split=split)]
        return sorted({f"{type(s).__name__}/{s.product}" for top in tops for s in top.walk() if s.stored})

    def report(self, folder: Path, figures: bool = True) -> None:
        """Write the table; pictures, if ``figures`` are wanted; and what was asked to be exported."""
        from seg.report import draw_curves, draw_panel, export_masks
        from seg.table import format_table, without_figures, write_metrics

        header = {
            "data": self.heading(),
            "border": self.cfg.evaluation.border,
            "resolution": self.cfg.evaluation.resolution,
            "seconds": round(time.perf_counter() - self.started, 2),
            "stages": {name: f"{type(s).__name__}/{s.product}" for name, s in self.products.items()},
            "products": self.stored_products(),
        }
        write_metrics(folder, self.rows, header)
        masks: Mapping[str, MaskSet] = {name: self.store.get(stage) for name, stage in self.products.items()}
        picture = curves = page = None
        if figures:
            from seg.html.run_report import write_run_report

            picture = draw_panel(folder / "panel.png", masks, int(self.cfg.evaluation.panel))
            trainings = {s.what: s for s in self.trainings()}
            curves = draw_curves(folder / "curves.png", trainings, self.store)
            page = write_run_report(folder, self, masks)
        self.save_models(folder / "models")
        if self.cfg.export.masks or self.cfg.export.format:
            names = self.store.get(self.source).file_names()
            count = export_masks(folder / "masks", masks, self.store, self.cfg.export.format or "png255", names)
            log.info("masks: %s (%d files)", folder / "masks", count)
        log.info("\n%s\n", format_table(self.rows) if self.rows or not masks else without_figures(masks, picture))
        for path in (picture, curves, page, folder / "metrics.csv" if self.rows else None):
            if path is not None:
                log.info("%s", path)

    def save_models(self, folder: Path) -> None:
        """Write the networks that the run used; the segmenter as ONNX too, if that is wanted."""
        from seg.models import in_sweep, load_model, save_models

        export = self.cfg.export
        if not (export.onnx or (not in_sweep() if export.models is None else export.models)):
            return
        saved = save_models(folder, self.products, self.rows, self.pool.data, self.store)
        if saved:
            log.info("networks: %s (%s)", folder, ", ".join(path.stem for path in saved))
        if export.onnx:
            from seg.onnx_export import export_onnx

            model = load_model(folder, "cpu")
            difference = export_onnx(model, folder / "segmenter.onnx")
            log.info("%s: scores differ from PyTorch's by at most %.1g", folder / "segmenter.onnx", difference)


def make_runtime(cfg: DictConfig) -> Runtime:
    """The machine's settings in a config."""
    return Runtime(**{k: v for k, v in cfg.runtime.items() if k != "precision"})


def make_trackers(cfg: DictConfig) -> dict[str, Tracker]:
    """The trackers in a config, by name; new ones, for one run."""
    made: dict[str, Tracker] = instantiate(cfg, "tracker") if cfg.tracker else {}
    return made


def score_name(seeds: Seeds) -> str:
    """What the table calls the scores of a supervision."""
    scores = seeds.scores
    if isinstance(scores, BoxScores):
        source: Source = scores.pool.data.source
        return f"Gaussian on {source.boxes_of}" if scores.box_source == "xml" else "Gaussian on body boxes"
    if isinstance(scores, TruthScores):
        return "truth"
    if isinstance(scores, CAM):
        return f"CAM ({scores.target})"
    return scores.what or type(scores).__name__
