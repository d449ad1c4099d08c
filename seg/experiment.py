"""An experiment: the chain of steps that a config describes, built and measured."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from seg.config.process import given_overrides, in_sweep
from seg.config.tree import make_objects
from seg.config.used import masks_used, unused
from seg.data.dataset import Split
from seg.data.prepared import Pool, Prepared, PreparedData, split_counts
from seg.data.sources import Source
from seg.errors import SegError, run_checks
from seg.evaluation.auto import witness_for
from seg.evaluation.quality import Estimated, Witness
from seg.evaluation.stages import Boundary, Evaluated, Histogram
from seg.files import writable
from seg.formats import check_format
from seg.masks import Threshold
from seg.methods.metrics import Metrics
from seg.methods.quality import Quality
from seg.models.onnx import check_onnx
from seg.nets.pretrained import weights_dir
from seg.store import Parameters, Stage, Store, param
from seg.supervision.auto_threshold import ScoreHistogram
from seg.supervision.mask import LabelledSubset
from seg.train import NetworkStage, Pretrained, Training

log = logging.getLogger("seg")

#: A smaller drop in estimated quality between two steps is noise.
NOTICED = 0.02

Kind = Literal["scores", "seeds", "refined", "prediction"]


class Step(Parameters):
    """One step of the chain: masks that are built, measured and shown.

    Attributes:
        kind: ``scores`` (a supervision's score maps at a threshold, shown as maps), ``seeds``, ``refined`` masks, or a
            network's ``prediction``.
        masks: the stage.
        title: the name in tables and pages; null for a name by kind.
    """

    kind: Kind
    masks: Threshold
    title: str | None = param(default=None)

    @property
    def plain_name(self) -> str:
        """The name without the threshold, equal in runs that differ in it."""
        of_kind = {"seeds": "seeds", "refined": "refined masks"}
        return self.title or of_kind.get(self.kind) or self.masks.scores.title

    @property
    def name(self) -> str:
        """The name in tables."""
        at = f" >= {self.masks.threshold_text}" if self.kind == "scores" and self.title is None else ""
        return self.plain_name + at


@dataclass
class Experiment:
    """The stages of one config, and what is measured of them.

    Attributes:
        cfg: the composed config. store: of the products.
        pool: the images that get masks.
        steps: the chain by the names of the table, upstream first.
        rows: the table, filled by :meth:`measure`.
        qualities: estimated quality by step and split, filled by :meth:`measure`.
        agreement: by trainval image, how well other images predict the last step's mask; ascending.
        masks_used: by step, how many ground-truth masks were used to choose its settings.
        made: the objects instantiated from the config, by key.
    """

    cfg: DictConfig
    store: Store
    pool: Pool
    steps: dict[str, Step]
    rows: list[dict[str, Any]] = field(default_factory=list)
    qualities: dict[str, dict[str, Quality]] = field(default_factory=dict)
    agreement: "pd.Series[float]" = field(default_factory=lambda: pd.Series(dtype=float))
    masks_used: dict[str, int] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def from_config(
        cls, cfg: DictConfig, store: Store | None = None, objects: dict[Any, Any] | None = None
    ) -> "Experiment":
        """Instantiate the stages.

        Args:
            cfg: the composed config.
            store: to share between experiments; None for a new one.
            objects: stages of other experiments, of which equal ones are reused; new ones are added.

        Raises:
            SegError: unknown or invalid parameters, all in one message.
        """
        for key, least in (("epoch", 1), ("evaluation.panel", 0)):
            if not least <= (value := OmegaConf.select(cfg, key)) < 2**31:
                raise SegError(f"{key}={value}: must be at least {least}")
        if cfg.weights_dir is not None and not Path(cfg.weights_dir).is_dir():
            raise SegError(f"weights_dir={cfg.weights_dir}: no such folder")
        weights_dir.set(cfg.weights_dir)
        made: dict[str, Any] = {}
        pool = make_objects(cfg, "data.pool", made, objects)
        check_format(cfg.export.format, 1, cfg.export.tolerance, cfg.export.min_area)
        named = {k: step for k, step in make_objects(cfg, "chain", made, objects).items() if step is not None}
        steps: dict[str, Step] = {}
        for key, step in named.items():
            if not isinstance(step, Step):
                raise SegError(
                    f"chain: {key}={step!r} is no step; give _target_: seg.experiment.Step, a kind and masks, or null"
                )
            if steps.setdefault(step.name, step) is not step:
                raise SegError(f"chain: two steps are called {step.name!r}; give one of them another title")
        store = store or Store(Path(cfg.store), make_objects(cfg, "runtime", made))
        experiment = cls(cfg, store, pool, steps, made=made)
        used = masks_used(cfg, [f"chain.{key}" for key in named], given_overrides(), made)
        for step, masks in zip(named.values(), used.values(), strict=True):  # two keys may have the same step
            experiment.masks_used[step.name] = max(masks, experiment.masks_used.get(step.name, 0))
        experiment.evaluated_stages()  # creates, and so checks them
        return experiment

    @property
    def source(self) -> Source:
        """Where the images come from."""
        prepared: Prepared = self.pool.data
        return prepared.source

    def acquire(self) -> None:
        """Download data if the config asks for it: store keys depend on the data.

        Raises:
            SegError: the settings cannot work on this machine, or the data are missing or wrong.
        """
        if not self.cfg.dry_run:
            runtime = self.store.runtime
            designs = [s.design for s in self.stages() if isinstance(s, NetworkStage)]
            trained = [s for s in designs if isinstance(s, Training) and s in self.stages()]
            run_checks([runtime.check, *(partial(s.check_runtime, runtime) for s in trained)])
            self.source.acquire()

    def check(self, folder: Path) -> None:
        """Check the folders and every stage that is not built; raises all problems as one SegError."""
        store = self.store.alone()
        checks: list[Callable[[], Any]] = [partial(_refuse_unwritable, folder)]
        # A read-only store is fine if everything is in it.
        if not all(store.has(evaluated) for evaluated in self.evaluated_stages()):
            checks.append(partial(_refuse_unwritable, store.root))
        checks += [store.runtime.check, *(partial(e.check, store) for e in self.evaluated_stages())]
        dataset = self.source.dataset_if_known(store)
        if dataset is not None:
            checks.append(partial(check_format, self.cfg.export.format, len(self.pool.classes_of(dataset))))
        checks += [lambda s=s: (s.stored and store.has(s)) or s.check(store) for s in self.stages()]  # type: ignore[misc]
        first = next(iter(self.steps.values()), None)
        if first is not None and (estimated := self._estimated(first)):
            checks.append(partial(estimated["trainval"].witness.check, store))
        if self.cfg.export.onnx:
            checks.append(lambda: check_onnx(bool(self.networks("segmenter"))))
        run_checks(checks)
        for line in self.given():
            log.info(line)

    def networks(self, role: str) -> list[NetworkStage]:
        """The networks of a role, trained or given."""
        return [s for s in self.stages() if isinstance(s, NetworkStage) and s.role == role]

    def trainings(self) -> dict[str, Training]:
        """The trainings of the run by name; a second segmenter is ``segmenter 2``."""
        out: dict[str, Training] = {}
        for stage in {s.key: s for s in self.stages() if isinstance(s, Training)}.values():
            same = sum(other.what == stage.what for other in out.values())
            out[f"{stage.what} {same + 1}" if same else stage.what] = stage
        return out

    @cached_property
    def target(self) -> LabelledSubset | None:
        """The images whose ground truth is used for training, if any."""
        return next((s for s in self.stages() if isinstance(s, LabelledSubset)), None)

    def unused(self, typed: Iterable[str], groups: Iterable[str]) -> dict[str, str]:
        """A message for each override that has no effect in this run."""
        return unused(self.cfg, self.made, typed, groups)

    def given(self) -> list[str]:
        """A line for each checkpoint that is given."""
        given = (s for s in self.stages() if isinstance(s, Pretrained))
        return list(dict.fromkeys(f"checkpoints.{s.role}={s.file}: given, not trained" for s in given))

    def stages(self) -> list[Stage]:
        """Every stage of the run, upstream first; told apart by object, since keys need the data."""
        out: dict[int, Stage] = {}

        def visit(stage: Stage) -> None:
            if id(stage) not in out:
                for up in stage.upstream().values():
                    visit(up)
                out[id(stage)] = stage

        for stage in (self.pool, *(step.masks for step in self.steps.values())):
            visit(stage)
        return list(out.values())

    def heading(self) -> str:
        """The first line of a run: the data and their folder."""
        root = getattr(self.source, "root", None)
        return f"data: {self.source.title}" + (f" ({root})" if root else "") + self.source.detail(self.store)

    def build(self) -> None:
        """Build every step, in order."""
        self.store.expect(self.stages())
        data: PreparedData = self.store.get(self.pool.data)
        rows = self.store.get(self.pool).rows
        counts, targets = split_counts(data, rows), split_counts(data, rows[data.has_target[rows]])
        border, resolution = self.cfg.evaluation.border, self.cfg.evaluation.resolution
        log.info(
            "images: %d; get masks: %s; evaluation set: %s",
            len(data),
            " + ".join(f"{counts[s]} {s}" for s in get_args(Split)),
            " + ".join(f"{targets[s]} {s}" for s in get_args(Split)) + f" (border: {border}, {resolution} resolution)"
            if targets
            else "none, no image has ground truth",
        )
        if self.target is not None:  # refuses what only the data can show
            rows = self.store.get(self.target).rows
            log.info("true masks: %d, of trainval images that are left out of trainval's figures", len(rows))
        first = next(iter(self.steps.values()), None)
        if first is not None and not in_sweep():  # before hours of what follows from its classifier
            self.store.ensure(first.masks)
            doubts = (stage.doubt(self.store) for stage in first.masks.walk() if isinstance(stage, Training))
            for doubt in filter(None, doubts):
                log.warning(doubt)
        for name, step in self.steps.items():
            self.store.ensure(step.masks)
            if step.masks.criteria and self.store.runtime.leads:
                low, high = step.masks.bounds_in(self.store.alone())
                found = f"{low:g}" if step.masks.is_cut else f"{low:g} to {high:g}"
                log.info("threshold of %s: %s (%s)", name, found, ", ".join(step.masks.criteria))

    def measure(self) -> None:
        """Fill the table: metrics on splits with ground truth, and the estimated quality on both splits."""
        for name, step in self.steps.items():
            estimated = {split: self.store.get(stage) for split, stage in self._estimated(step).items()}
            self.qualities[name] = {split: quality for split, (quality, _) in estimated.items()}
            if "trainval" in estimated:
                quality, rows = estimated["trainval"]
                ids = self.store.get(self.pool.data).ids
                agreement = pd.Series(quality.per_image, [ids[row] for row in rows], dtype=float)
                self.agreement = agreement.dropna().sort_values(kind="stable")
            for split in get_args(Split):
                metrics: Metrics = self.store.get(self.evaluated(step, split))
                if metrics.images == 0:
                    continue
                known = {
                    "oracle": step.masks.is_oracle,
                    "trained_on_masks": step.masks.trained_on_masks,
                    "masks_used": self.masks_used.get(name),
                }
                bounds = dict(zip(("low", "high"), step.masks.bounds_in(self.store), strict=True))
                row = {"stage": name, "split": split, **known, **bounds, **metrics.as_dict()}
                if self._wants(self.cfg.evaluation.boundary):
                    row["boundary_iou"] = self.store.get(self.evaluated(step, split, Boundary))
                if split in self.qualities[name]:
                    row["estimated_quality"] = self.qualities[name][split].quality
                if len(classes := self.store.get(self.pool).data.classes) > 1:
                    row["iou_by_class"] = dict(zip(classes, metrics.ious[1:].tolist(), strict=True))
                self.rows.append(row)

    def evaluated(self, step: Step, split: Split, kind: type[Evaluated] = Evaluated) -> Evaluated:
        """The stage that measures a step on a split."""
        how, exclude = self.cfg.evaluation, self.excluded(split)
        return kind(masks=step.masks, split=split, border=how.border, resolution=how.resolution, exclude=exclude)

    def per_image(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """By row of the table, the ids and confusion matrices of its images."""
        for row in self.rows:
            yield self.evaluated(self.steps[row["stage"]], row["split"]).per_image(self.store)

    def histogram(self, step: Step, split: Split) -> Histogram:
        """The stage that counts the scores of a step on a split."""
        return Histogram(scores=step.masks.scores, split=split, exclude=self.excluded(split))

    @staticmethod
    def _wants(said: bool | None) -> bool:
        return not in_sweep() if said is None else said

    def _estimated(self, step: Step) -> dict[Split, Estimated]:
        """The stages that estimate a step's quality, by split; empty if not wanted."""
        splits = get_args(Split) if self._wants(self.cfg.evaluation.quality) else ()
        chosen = {"backbone": self.cfg.evaluation.backbone, "weights": self.cfg.evaluation.weights}
        return {
            split: Estimated(
                masks=step.masks,
                witness=Witness(pool=self.pool, split=split, **chosen)
                if chosen["backbone"]
                else witness_for(self.stages(), self.pool, split),
            )
            for split in splits
        }

    def worse(self) -> list[str]:
        """A warning for each step with a lower estimated quality than the one before, or that misses the labels."""
        lines, before = [], ("", float("nan"))
        for name, found in self.qualities.items():
            quality = found["trainval"].quality if "trainval" in found else float("nan")
            if quality < before[1] - NOTICED:
                lines.append(
                    f"{name} may be worse than {before[0]}: estimated quality {quality:.2f} after "
                    f"{before[1]:.2f}; look at the report before you use them (docs/quality.md)"
                )
            before = (name, quality) if not np.isnan(quality) else before
            if (one := found.get("trainval")) and one.labels_inside < one.labels_outside:
                lines.append(
                    f"{name} may mark something else: the classes are recognised better from the rest of the images "
                    f"(mAP {one.labels_outside:.2f}) than from the masks ({one.labels_inside:.2f}); look at the report"
                )
        return lines

    def excluded(self, split: Split) -> LabelledSubset | None:
        """The images that the metrics of a split leave out, for all steps alike."""
        return self.target if split == "trainval" else None

    def figures(self) -> list[str]:
        """The ids that the table depends on: equal ids, equal metrics."""
        return [evaluated.id for evaluated in self.evaluated_stages()]

    def evaluated_stages(self) -> list[Evaluated]:
        """The stages that measure every step on every split."""
        # Boundary IoU only where it is set: its default depends on being in a sweep's job, and the sweeper is in none.
        kinds = (Evaluated, Boundary) if self.cfg.evaluation.boundary else (Evaluated,)
        steps = self.steps.values()
        return [self.evaluated(step, split, kind) for kind in kinds for step in steps for split in get_args(Split)]

    def stored(self) -> list[str]:
        """All stored products that this run uses, as ``Stage/key``."""
        tops: list[Stage] = [self.pool]
        for step in self.steps.values():
            if in_sweep():  # for a job's separability
                tops.append(ScoreHistogram(scores=step.masks.scores))
            for split in get_args(Split):
                tops += [self.evaluated(step, split), self.histogram(step, split)]
                if self._wants(self.cfg.evaluation.boundary):
                    tops.append(self.evaluated(step, split, Boundary))
            tops += self._estimated(step).values()
        return sorted({s.id for top in tops for s in top.walk() if s.stored})


def _refuse_unwritable(place: Path) -> None:
    if not writable(place):
        raise SegError(f"{place}: cannot be written to; choose another with hydra.run.dir= or store=")
